"""Bento + configuration file → a running deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bento_cli.bento import Bento
from bento_cli.compose import ComposeService
from bento_cli.containerize import ServiceImage
from bento_cli.deploy.compose import ComposeTarget
from bento_cli.deploy.plan import DeployOptions, Operation, desired_services, labelled, plan
from bento_cli.deployment_config import DeploymentConfig, deployment_name, effective_configs, not_acted_on
from bento_cli.engine import Engine, EngineFacts
from bento_cli.errors import BentoError, EngineError
from bento_cli.store import bentoml_home
from bento_cli.variables import open_variables, require_variables
from bento_cli.yaml_file import YamlFile


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A graph as it is to run at a target, under a name.

    Args:
        ignored: what the configuration file says and is not acted on.
    """

    name: str
    bento: Bento
    services: tuple[ComposeService, ...]
    labels: Mapping[str, str]
    ignored: tuple[str, ...]

    @property
    def url(self) -> str:
        """Where the entry service answers on this machine."""
        entry = next(service for service in self.services if service.published_port is not None)
        return f"{entry.scheme}://127.0.0.1:{entry.published_port}"


def plan_deployment(
    bento: Bento,
    config: DeploymentConfig,
    file: YamlFile | None,
    options: DeployOptions,
    *,
    name: str | None = None,
) -> Deployment:
    """What should run.

    Args:
        name: of the deployment, over the file's; the Bento's when neither says one.

    Raises:
        BentoError: the name is none, or a variable that the project leaves open has no value.
        InputError: the file speaks of services that the graph has not, or gives values that do not fit.
    """
    configs = effective_configs(bento.graph, config, file)
    name = name or config.name or bento.tag.name.replace("_", "-").replace(".", "-")
    try:
        deployment_name(name)
    except ValueError as error:
        raise BentoError(str(error), hint="`--name` and the file's `name` choose it") from None
    given = {env.name for env in config.envs}
    require_variables(
        open_variables(bento.graph, bento.manifest.envs),
        {node.name: given | {env.name for env in config.service(node.name).envs} for node in bento.graph},
        lambda names: f"give {'it' if len(names) == 1 else 'them'} under `envs:` of the file",
    )
    return Deployment(
        name=name,
        bento=bento,
        services=desired_services(bento, config, configs, options),
        labels={label.key: label.value for label in config.labels},
        ignored=tuple(not_acted_on(config, bento.graph)),
    )


def require_gpu(deployment: Deployment, facts: EngineFacts) -> None:
    """Refuse, before anything is started, what the engine cannot run.

    Raises:
        EngineError: a service asks for a GPU, and the engine offers none.
    """
    if facts.has_gpu:
        return
    services = ", ".join(service.name for service in deployment.services if service.gpus)
    if services:
        raise EngineError(
            f"this engine offers no GPU, and {services} asks for one",
            hint="install the NVIDIA Container Toolkit where the engine runs, or go on without: `--cpu`",
        )


def target_of(deployment: Deployment, engine: Engine) -> ComposeTarget:
    """The place where a deployment runs."""
    folder = deployments_folder() / deployment.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    return ComposeTarget(engine, deployment.name, folder)


def with_images(deployment: Deployment, images: Sequence[ServiceImage]) -> Deployment:
    """The deployment with each service labelled for the very image that it is to run."""
    identifiers = {built.service: built.image.identifier for built in images}
    services = [
        labelled(service, deployment.name, identifiers[service.name], deployment.labels)
        for service in deployment.services
    ]
    return replace(deployment, services=tuple(services))


def plan_operations(deployment: Deployment, target: ComposeTarget) -> list[Operation]:
    """What is to be done, from what runs now."""
    return plan(deployment.services, target.observe())


def deployments_folder() -> Path:
    """Where the files of deployments are kept."""
    return bentoml_home() / "deployments"
