"""Bento + configuration file → a running deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bento_cli.bento import Bento
from bento_cli.compose import ComposeService
from bento_cli.deploy.compose import ComposeTarget
from bento_cli.deploy.plan import DeployOptions, Operation, desired_services, plan
from bento_cli.deployment_config import DeploymentConfig, effective_configs, not_acted_on
from bento_cli.engine import Engine, EngineFacts
from bento_cli.errors import EngineError
from bento_cli.store import bentoml_home
from bento_cli.yaml_file import YamlFile
from bentoml._config import ServiceConfig


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A graph as it is to run at a target, under a name.

    Args:
        ignored: what the configuration file says and is not acted on.
    """

    name: str
    bento: Bento
    services: tuple[ComposeService, ...]
    configs: Mapping[str, ServiceConfig]
    options: DeployOptions
    ignored: tuple[str, ...]

    @property
    def url(self) -> str:
        """Where the entry service answers on this machine."""
        return f"http://127.0.0.1:{self.options.port}"


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
        InputError: the file speaks of services that the graph has not, or gives values that do not fit.
    """
    configs = effective_configs(bento.graph, config, file)
    name = name or config.name or bento.tag.name.replace("_", "-").replace(".", "-")
    return Deployment(
        name=name,
        bento=bento,
        services=desired_services(name, bento, config, configs, options),
        configs=configs,
        options=options,
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


def plan_operations(deployment: Deployment, target: ComposeTarget) -> list[Operation]:
    """What is to be done, from what runs now."""
    return plan(deployment.services, target.observe())


def deployments_folder() -> Path:
    """Where the files of deployments are kept."""
    return bentoml_home() / "deployments"
