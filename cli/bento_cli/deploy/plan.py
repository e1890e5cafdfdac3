"""What deploying will do: operations with their causes, from what should be and what is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from bento_cli.bento import Bento
from bento_cli.compose import ComposeService, peer_environment, reservations, url_scheme, whole_gpus
from bento_cli.deployment_config import DeploymentConfig
from bento_cli.engine import Container
from bento_cli.image import CACHE_FOLDER, LABEL_PREFIX, container_address, tasks_folder
from bento_cli.names import kebab_case
from bentoml import _environment as environment
from bentoml._config import ServiceConfig

DEPLOYMENT_LABEL = f"{LABEL_PREFIX}deployment"
SERVICE_LABEL = f"{LABEL_PREFIX}service"
SPEC_LABEL = f"{LABEL_PREFIX}spec"


@dataclass(frozen=True, kw_only=True)
class DeployOptions:
    """What is said when deploying, beside the configuration file.

    Args:
        port: of this machine, on which the entry is published.
        use_gpu: False asks for no GPU, whatever the services say.
        cache_folder: a folder of this machine for models, instead of a volume of the deployment.
    """

    port: int = 3000
    use_gpu: bool = True
    cache_folder: str | None = None


@dataclass(frozen=True)
class Operation:
    """One thing that is done to one service, and why."""

    verb: Literal["create", "replace", "scale", "remove"]
    service: str
    cause: str

    def __str__(self) -> str:
        return f"{self.verb} {self.service}: {self.cause}"


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What the engine has of one service."""

    specs: frozenset[str]
    replicas: int
    is_running: bool = True


def desired_services(
    bento: Bento,
    config: DeploymentConfig,
    configs: Mapping[str, ServiceConfig],
    options: DeployOptions,
) -> tuple[ComposeService, ...]:
    """The services of a deployment as Compose is to run them, dependencies first.

    Args:
        configs: each service's configuration, overrides included.
    """
    graph = bento.graph
    services = []
    for node in graph:
        said = config.service(node.name)
        given = {env.name: env.value for env in (*config.envs, *said.envs)}
        variables = {
            **given,
            environment.BENTO: str(bento.tag),
            **peer_environment(graph, node.name),
            **container_address(configs[node.name]),
        }
        if said.config_overrides:
            variables[environment.CONFIG_OVERRIDES] = environment.overrides_text(
                node.name, said.config_overrides
            )
        is_entry = node.name == graph.entry
        services.append(
            ComposeService(
                name=node.name,
                container=kebab_case(node.name),
                image=bento.tag.image(node.name),
                published_port=options.port if is_entry else None,
                scheme=url_scheme(configs[node.name]),
                peers=graph.peers(node.name),
                environment=variables,
                cache_folder=CACHE_FOLDER if bento.service(node.name).uses_model_hub else None,
                cache_bind=options.cache_folder,
                tasks_folder=tasks_folder(node, bento.manifest.envs, given),
                shares_secret=len(graph.services) > 1,
                gpus=whole_gpus(configs[node.name]) if options.use_gpu else 0,
                replicas=1 if is_entry else max(1, said.scaling.min_replicas),
                reservations=reservations(configs[node.name]),
                has_sources=False,
            )
        )
    return tuple(services)


def labelled(
    service: ComposeService, deployment: str, image: str, labels: Mapping[str, str]
) -> ComposeService:
    """The service with the labels by which it is found again; one of them stands for all of its settings.

    Args:
        image: identifier of the very image: a name may stand for another one tomorrow.
        labels: those of the deployment's file.
    """
    fields = {key: value for key, value in asdict(service).items() if key not in ("replicas", "labels")}
    settings = json.dumps([fields, image, dict(labels)], sort_keys=True)
    spec = hashlib.sha256(settings.encode()).hexdigest()[:16]
    own = {DEPLOYMENT_LABEL: deployment, SERVICE_LABEL: service.name, SPEC_LABEL: spec}
    return replace(service, labels={**labels, **own})


def observe(containers: Sequence[Container]) -> dict[str, Observed]:
    """What a deployment's containers say of themselves, by service."""
    by_service: dict[str, list[Container]] = {}
    for container in containers:
        by_service.setdefault(container.labels[SERVICE_LABEL], []).append(container)
    return {
        service: Observed(
            specs=frozenset(c.labels.get(SPEC_LABEL, "") for c in found),
            replicas=len(found),
            is_running=all(c.state == "running" for c in found),
        )
        for service, found in by_service.items()
    }


def plan(desired: Sequence[ComposeService], observed: Mapping[str, Observed]) -> list[Operation]:
    """What turns the one into the other; empty when nothing is to be done."""
    operations: list[Operation] = []
    for service in desired:
        found = observed.get(service.name)
        spec = service.labels[SPEC_LABEL]
        replicas = f"{service.replicas} replica{'s' if service.replicas > 1 else ''}"
        if found is None:
            operations.append(Operation("create", service.name, f"not there; {replicas} of {service.image}"))
        elif found.specs != {spec}:
            operations.append(
                Operation("replace", service.name, f"image or settings differ; {replicas} of {service.image}")
            )
        elif found.replicas != service.replicas:
            operations.append(Operation("scale", service.name, f"has {found.replicas}, wanted {replicas}"))
        elif not found.is_running:
            operations.append(Operation("create", service.name, "not running"))
    wanted = {service.name for service in desired}
    operations += [
        Operation("remove", name, "not part of the graph") for name in observed if name not in wanted
    ]
    return operations
