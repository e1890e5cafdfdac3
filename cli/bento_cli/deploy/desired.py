"""Bento + configuration file → what is to run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from bento_cli.compose import url_scheme, whole_gpus
from bento_cli.deploy.config import (
    DeploymentConfig,
    ServiceDeployment,
    deployment_name,
    effective_configs,
    not_acted_on,
)
from bento_cli.deploy.entry import ENTRY_HOST, doors, entry_address, service_address
from bento_cli.deploy.instance_types import InstanceType, instance_types
from bento_cli.deploy.spec import (
    Bounds,
    DeploymentSpec,
    EntrySpec,
    Resources,
    ServiceSpec,
    Strategy,
)
from bento_cli.engine import EngineFacts
from bento_cli.errors import BentoError, EngineError, InputError, Problem, nearest
from bento_cli.image import CACHE_FOLDER, container_address, tasks_folder
from bento_cli.names import kebab_case
from bento_cli.store.bento import Bento
from bento_cli.variables import open_variables, require_variables
from bento_cli.yaml_file import YamlFile
from bentoml import _environment as environment
from bentoml._config import ServiceConfig
from bentoml._graph import ServiceNode


@dataclass(frozen=True, kw_only=True)
class DeployOptions:
    """What is said when deploying, beside the configuration file.

    Args:
        address: of the machine, on which the entry is published; `port` of it.
        use_gpu: False asks for no GPU, whatever the services say.
        cache_folder: a folder of the machine for models, instead of a volume of the deployment.
        certificate: stands for the one with which the entry is to speak TLS; empty where it does not.
        addresses: where deployments of other projects answer, by their variables.
        tokens: variables with what those ask for, and what stands for each.
        cpus, memory: what the machine has: no replica is given more.
        instance_types: of the cluster, over the documented ones.
    """

    address: str = "127.0.0.1"
    port: int = 3000
    use_gpu: bool = True
    cache_folder: str | None = None
    certificate: str = ""
    addresses: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict)
    cpus: float | None = None
    memory: int | None = None
    instance_types: Mapping[str, InstanceType] = field(default_factory=dict)


# Of the proxy, and of a container itself.
_RESERVED: Final = frozenset({ENTRY_HOST, "localhost"})


def default_name(bento: Bento) -> str:
    """What a deployment is called where nobody names it."""
    return bento.tag.name.replace("_", "-").replace(".", "-")


def desired_deployment(
    bento: Bento,
    config: DeploymentConfig,
    file: YamlFile | None,
    options: DeployOptions,
    *,
    name: str | None = None,
    image_ids: Mapping[str, str] | None = None,
) -> DeploymentSpec:
    """What should run.

    Args:
        name: of the deployment, over the file's; the Bento's when neither says one.
        image_ids: the very images, by service.

    Raises:
        BentoError: the name is none, or a variable that the project leaves open has no value.
        InputError: the file speaks of services or instance types that there are not, or gives values that
            do not fit.
    """
    configs = effective_configs(bento.graph, config, file)
    types = instance_types(options.instance_types)
    problems = list(_problems(bento, config, configs, types, options, file))
    if problems:
        raise InputError(problems)
    name = name or config.name or default_name(bento)
    try:
        deployment_name(name)
    except ValueError as error:
        raise BentoError(str(error), hint="`--name` and the file's `name` choose it") from None
    _require_variables(bento, config, options)
    entry = EntrySpec(
        service=bento.graph.entry,
        address=options.address,
        port=options.port,
        needs_token=config.access_authorization,
        certificate=options.certificate,
    )
    ids = image_ids or {}
    services = tuple(
        _service(bento, node, config, configs[node.name], options, types, ids) for node in bento.graph
    )
    spec = DeploymentSpec(
        name=name,
        bento=str(bento.tag),
        services=services,
        entry=entry,
        description=config.description or "",
        ignored=tuple(not_acted_on(config, bento.graph)),
    )
    return _with_peers(spec)


def _service(
    bento: Bento,
    node: ServiceNode,
    config: DeploymentConfig,
    own: ServiceConfig,
    options: DeployOptions,
    types: Mapping[str, InstanceType],
    image_ids: Mapping[str, str],
) -> ServiceSpec:
    said = config.service(node.name)
    given = {env.name: env.value for env in (*config.envs, *said.envs)}
    overrides = said.config_overrides
    variables = {
        **_addresses(node, options),
        **given,
        environment.BENTO: str(bento.tag),
        **container_address(own),
        **(
            {environment.CONFIG_OVERRIDES: environment.overrides_text(node.name, overrides)}
            if overrides
            else {}
        ),
    }
    has_secret = len(bento.graph.services) > 1
    kept = tasks_folder(node, bento.manifest.envs, given)
    if kept is not None:
        variables[environment.RESULT_STORE] = f"{kept}/results.db"
    return ServiceSpec(
        name=node.name,
        host=kebab_case(node.name),
        image=bento.tag.image(node.name),
        image_id=image_ids.get(node.name, bento.tag.image(node.name)),
        peers=bento.graph.peers(node.name),
        environment=variables,
        passed_on=(
            *((environment.DEPLOYMENT_SECRET,) if has_secret else ()),
            *sorted(_tokens(node) & options.tokens.keys()),
        ),
        tokens={name: options.tokens[name] for name in sorted(_tokens(node) & options.tokens.keys())},
        scaling=_bounds(said),
        strategy=Strategy(said.deployment_strategy or Strategy.rolling.value),
        timeout_s=own.traffic.timeout,
        queue=own.traffic.max_concurrency if own.traffic.external_queue else None,
        resources=_resources(own, types.get(said.instance_type or ""), options),
        cache_folder=CACHE_FOLDER if bento.service(node.name).uses_model_hub else None,
        cache_bind=options.cache_folder,
        tasks_folder=kept,
        scheme=url_scheme(own),
        depends_on_deployments=any(edge.deployment is not None for edge in node.dependencies),
        labels={label.key: label.value for label in config.labels},
    )


def _with_peers(spec: DeploymentSpec) -> DeploymentSpec:
    """The services with where they find each other: at their replicas, or where requests wait for them."""
    behind = {s.name: f"{s.scheme}://{service_address(spec, s)}:{s.port}" for s in spec.services}
    behind |= {d.service: f"http://{entry_address(spec)}:{d.port}" for d in doors(spec) if d.queue}
    services = tuple(
        replace(
            service,
            environment={
                **service.environment,
                **{environment.peer_variable(peer): behind[peer] for peer in service.peers},
            },
        )
        for service in spec.services
    )
    return replace(spec, services=services)


def _addresses(node: ServiceNode, options: DeployOptions) -> dict[str, str]:
    names = {
        environment.deployment_variable(edge.deployment, edge.cluster)
        for edge in node.dependencies
        if edge.deployment is not None
    }
    return {name: options.addresses[name] for name in sorted(names & options.addresses.keys())}


def _tokens(node: ServiceNode) -> set[str]:
    return {
        environment.deployment_token_variable(edge.deployment, edge.cluster)
        for edge in node.dependencies
        if edge.deployment is not None
    }


def _require_variables(bento: Bento, config: DeploymentConfig, options: DeployOptions) -> None:
    given = {*(env.name for env in config.envs), *options.addresses}
    require_variables(
        open_variables(bento.graph, bento.manifest.envs),
        {node.name: given | {env.name for env in config.service(node.name).envs} for node in bento.graph},
        lambda names: f"give {'it' if len(names) == 1 else 'them'} under `envs:` of the file",
    )


def _bounds(said: ServiceDeployment) -> Bounds:
    least = max(1, said.scaling.min_replicas)
    return Bounds(least=least, most=max(least, said.scaling.max_replicas or least))


def _resources(own: ServiceConfig, kind: InstanceType | None, options: DeployOptions) -> Resources:
    return Resources(
        cpus=own.resources.cpu,
        memory=own.resources.memory,
        cpu_limit=None if kind is None else _at_most(kind.cpus, options.cpus),
        memory_limit=None if kind is None else int(_at_most(kind.memory, options.memory)),
        gpus=whole_gpus(own) if options.use_gpu else 0,
    )


def _at_most(wanted: float, there: float | None) -> float:
    return wanted if there is None else min(wanted, there)


def _problems(
    bento: Bento,
    config: DeploymentConfig,
    configs: Mapping[str, ServiceConfig],
    types: Mapping[str, InstanceType],
    options: DeployOptions,
    file: YamlFile | None,
) -> Iterator[Problem]:
    """What fits the model of the file, and neither the graph nor the cluster."""
    for name in bento.graph.services:
        said = config.service(name)
        at = ("services", name)
        kind = types.get(said.instance_type) if said.instance_type is not None else None
        if said.instance_type is not None and kind is None:
            message = (
                f"no instance type {said.instance_type!r}{nearest(said.instance_type, types, 'there are')}"
            )
            yield _problem(file, (*at, "instance_type"), message)
        if kind is not None and whole_gpus(configs[name]) > kind.gpus:
            has = f"has {kind.gpus}" if kind.gpus else "has none"
            message = f"{name} asks for {whole_gpus(configs[name])} GPU, and {said.instance_type} {has}"
            yield _problem(file, (*at, "instance_type"), message)
        if kebab_case(name) in _RESERVED:
            message = f"{name}: `{kebab_case(name)}` is no name for the containers of a service; rename it"
            yield _problem(file, at, message)
        traffic = configs[name].traffic
        if name == bento.graph.entry and configs[name].ssl.enabled and not options.certificate:
            message = (
                f"{name} speaks TLS, and the entry before it has no certificate: `--certificate` gives one"
            )
            yield _problem(file, at, message)
        if traffic.external_queue and traffic.max_concurrency is None:
            message = "`external_queue` needs `max_concurrency`: how many requests are inside of a replica"
            yield _problem(file, (*at, "config_overrides", "traffic", "external_queue"), message)


def _problem(file: YamlFile | None, location: tuple[str | int, ...], message: str) -> Problem:
    if file is None:
        return Problem(Path("deployment"), None, message)
    return file.problem(location, message)


def require_gpu(spec: DeploymentSpec, facts: EngineFacts) -> None:
    """Refuse, before anything is started, what the engine cannot run.

    Raises:
        EngineError: a service asks for a GPU, and the engine offers none.
    """
    if facts.has_gpu:
        return
    services = ", ".join(service.name for service in spec.services if service.resources.gpus)
    if services:
        raise EngineError(
            f"this engine offers no GPU, and {services} asks for one",
            hint="install the NVIDIA Container Toolkit where the engine runs, or go on without: `--cpu`",
        )
