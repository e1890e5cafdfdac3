"""The deployment's configuration file: `bento deploy -f config-file.yaml`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from bento_cli.errors import InputError, Problem
from bento_cli.project.bentofile import OneLine, environment_name
from bento_cli.yaml_file import FileModel, YamlFile, load_yaml, validate
from bentoml._config import ServiceConfig, not_used
from bentoml._config_problems import config_problems
from bentoml._environment import DEFAULT_PORT
from bentoml._graph import ServiceGraph
from bentoml._layers import merge

Strategy = Literal["RollingUpdate", "Recreate", "RampedSlowRollout", "BestEffortControlledRollout"]


def deployment_name(text: str) -> str:
    """A name that folders, containers and labels can have.

    Raises:
        ValueError: it is none.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", text) is None:
        raise ValueError(f"{text!r} is no name of a deployment: use lower-case letters, digits and `-`")
    return text


class DeploymentEnv(FileModel):
    """A variable of one service or of all."""

    name: Annotated[str, AfterValidator(environment_name)]
    value: str = ""


class Label(FileModel):
    key: OneLine
    value: OneLine


class Scaling(FileModel):
    """How many replicas a service may have."""

    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int | None = Field(default=None, gt=0)
    policy: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _check(self) -> Scaling:
        if self.max_replicas is not None and self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas {self.min_replicas} is more than max_replicas {self.max_replicas}"
            )
        return self


class ServiceDeployment(FileModel):
    """What the file says of one service."""

    instance_type: str | None = None
    scaling: Scaling = Scaling()
    envs: tuple[DeploymentEnv, ...] = ()
    deployment_strategy: Strategy | None = None
    config_overrides: dict[str, Any] = Field(default={})
    cold_start_timeout: int | None = None
    extras: dict[str, Any] | None = None


class DeploymentConfig(FileModel):
    """The whole file."""

    name: Annotated[str, AfterValidator(deployment_name)] | None = None
    bento: str | None = None
    description: str | None = None
    cluster: str | None = None
    access_authorization: bool = False
    envs: tuple[DeploymentEnv, ...] = ()
    labels: tuple[Label, ...] = ()
    secrets: tuple[str, ...] = ()
    services: dict[str, ServiceDeployment] = Field(default={})
    canary: dict[str, Any] | None = None
    dev: bool = False

    def service(self, name: str) -> ServiceDeployment:
        """What the file says of one service, or its defaults."""
        return self.services.get(name, ServiceDeployment())


def load_deployment_config(path: Path) -> tuple[DeploymentConfig, YamlFile]:
    """The file and where its values stand.

    Raises:
        NotFoundError: there is no such file.
        InputError: every problem of the file.
    """
    file = load_yaml(path)
    return validate(file, DeploymentConfig), file


def effective_configs(
    graph: ServiceGraph, config: DeploymentConfig, file: YamlFile | None
) -> dict[str, ServiceConfig]:
    """Each service's configuration with the file's `config_overrides` on top.

    Raises:
        InputError: services that the graph has not, and values that do not fit, with their lines.
    """
    problems: list[Problem] = []
    configs: dict[str, ServiceConfig] = {}
    for name in config.services:
        if name not in graph.services and file is not None:
            near = difflib.get_close_matches(name, graph.services, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"services: {', '.join(graph.services)}"
            problems.append(file.problem(("services", name), f"no service {name!r}; {hint}"))
    for name, node in graph.services.items():
        overrides = config.service(name).config_overrides
        try:
            configs[name] = ServiceConfig.model_validate(merge(node.config, overrides))
        except ValidationError as error:
            if file is None:
                raise
            for problem in config_problems(error, ServiceConfig):
                location = ("services", name, "config_overrides", *problem.location)
                problems.append(file.problem(location, str(problem)))
    if problems:
        raise InputError(problems)
    return configs


def not_acted_on(config: DeploymentConfig, graph: ServiceGraph) -> Iterator[str]:
    """What the file says and this version does not do, one line each."""
    wholly: Mapping[str, object] = {"secrets": config.secrets, "canary": config.canary, "dev": config.dev}
    yield from (f"`{name}`" for name, value in wholly.items() if value)
    for name, service in config.services.items():
        at = f"services.{name}"
        if service.scaling.min_replicas == 0:
            yield f"`{at}.scaling.min_replicas`: 0; one replica runs all the time"
        if service.scaling.policy is not None:
            yield f"`{at}.scaling.policy`: `bento deployment scale` is what changes the number of replicas"
        if service.cold_start_timeout is not None:
            yield f"`{at}.cold_start_timeout`"
        if service.extras is not None:
            yield f"`{at}.extras`"
        for key in not_used(service.config_overrides):
            if key != "traffic.external_queue":
                yield f"`{at}.config_overrides.{key}`"
        http = service.config_overrides.get("http")
        if isinstance(http, Mapping) and http.keys() & {"host", "port"}:
            yield f"an address in `{at}.config_overrides.http`: all containers listen on port {DEFAULT_PORT}"
