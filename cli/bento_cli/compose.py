"""Compose files of a graph: one a service, one that includes them, one for machines without a GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bento_cli.names import kebab_case
from bento_templates import render
from bentoml._config import ServiceConfig
from bentoml._environment import DEFAULT_PORT, DEPLOYMENT_SECRET, RESULT_STORE, peer_variable
from bentoml._graph import ServiceGraph

FILE_NAME = "compose.yaml"
CPU_FILE_NAME = "compose.cpu.yaml"

# Who may load models from a hub, from which, and whether at all.
_HUB_VARIABLES: Final = ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE")


@dataclass(frozen=True, kw_only=True)
class ComposeService:
    """One service as Compose runs it.

    Args:
        container: its name among the containers of the deployment; peers find it under that.
        peers: names of the services it calls.
        reservations: `cpus` and `memory`, as Compose writes them.
        cache_folder: where models from a hub are kept, None when nothing in it loads any.
        published_port: of this machine, on which the entry is reached unless a variable says otherwise;
            None where nothing is published.
        scheme: what the URLs of it begin with.
        cache_bind: a folder of this machine for models, instead of a volume.
        model_store: where it finds the store of models of whoever runs it, None where it needs none of them.
        tasks_folder: where a volume that all replicas share holds the results of tasks, None where there
            is none.
        open_variables: those that whoever runs it sets, in the shell of `docker compose`.
        shares_secret: whether it calls others or is called, who tell each other more if they know one secret.
        has_sources: whether the image can be built from the folder that the file is in.
        build_secrets: variables of whoever builds it there that its builder may read, where they are set.
    """

    name: str
    container: str
    image: str
    peers: tuple[str, ...]
    environment: Mapping[str, str]
    cache_folder: str | None
    published_port: int | None = None
    scheme: str = "http"
    cache_bind: str | None = None
    model_store: str | None = None
    tasks_folder: str | None = None
    open_variables: tuple[str, ...] = ()
    shares_secret: bool = False
    gpus: int = 0
    replicas: int = 1
    port: int = DEFAULT_PORT
    reservations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    has_sources: bool = True
    build_secrets: tuple[str, ...] = ()

    @property
    def peer_containers(self) -> list[str]:
        """What Compose starts before this one."""
        return [kebab_case(peer) for peer in self.peers]

    @property
    def variables(self) -> dict[str, str]:
        """Its environment, with where it keeps the results of tasks."""
        kept = {} if self.tasks_folder is None else {RESULT_STORE: f"{self.tasks_folder}/results.db"}
        return {**self.environment, **kept}

    @property
    def passed_on(self) -> list[str]:
        """Variables that it is given as the shell of `docker compose` has them, and only where it has."""
        secret = (DEPLOYMENT_SECRET,) if self.shares_secret else ()
        names = (*self.open_variables, *secret, *(_HUB_VARIABLES if self.cache_folder else ()))
        return [name for name in dict.fromkeys(names) if name not in self.variables]

    @property
    def tasks_volume(self) -> str:
        """The volume of its tasks' results, by the name that it has in the file."""
        return f"{self.container}-tasks"


def reservations(config: ServiceConfig) -> dict[str, str]:
    """What `resources` asks for, as Compose writes it: CPUs and bytes."""
    wanted = {}
    if config.resources.cpu is not None:
        wanted["cpus"] = f"{config.resources.cpu:g}"
    if config.resources.memory is not None:
        wanted["memory"] = f"{config.resources.memory}b"
    return wanted


def whole_gpus(config: ServiceConfig) -> int:
    """GPUs to ask the engine for; a fraction takes one."""
    return math.ceil(config.gpu_total)


def url_scheme(config: ServiceConfig) -> str:
    """What the URLs of a service begin with: `http`, or `https` where it speaks TLS."""
    return "https" if config.ssl.enabled else "http"


def peer_environment(graph: ServiceGraph, service: str) -> dict[str, str]:
    """Where a service finds its peers on a network on which each goes by its container's name."""
    return {peer_variable(peer): f"http://{kebab_case(peer)}:{DEFAULT_PORT}" for peer in graph.peers(service)}


def compose_files(
    bento: str,
    project: str,
    entry: str,
    services: Sequence[ComposeService],
) -> dict[str, str]:
    """The files' texts by their paths below the folder that `docker compose` is run in.

    Args:
        project: Compose's name for all of it.
    """
    files = {
        f"services/{service.name}/{FILE_NAME}": render(
            "compose/service.yaml.j2", bento=bento, service=service
        )
        for service in services
    }
    published = next(service for service in services if service.published_port is not None)
    with_gpu = [service.container for service in services if service.gpus]
    files[FILE_NAME] = render(
        "compose/compose.yaml.j2",
        bento=bento,
        project=project,
        entry=entry,
        port=published.published_port,
        services=[service.name for service in services],
        has_gpu=bool(with_gpu),
        scheme=published.scheme,
        has_cache=any(service.cache_folder for service in services),
        has_tasks=any(service.tasks_folder for service in services),
    )
    if with_gpu:
        files[CPU_FILE_NAME] = render("compose/compose.cpu.yaml.j2", containers=with_gpu)
    return files
