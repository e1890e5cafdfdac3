"""Variables that a project leaves open: whoever runs its services sets them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from bento_cli.errors import BentoError
from bentoml._environment import deployment_variable
from bentoml._graph import ServiceGraph, ServiceNode


def open_variables(graph: ServiceGraph, envs: Sequence[Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    """For each service those that it needs and nothing declares a value of.

    The addresses of deployments that it depends on are among them.

    Args:
        envs: what the bentofile declares for all services.
    """

    def of(node: ServiceNode) -> tuple[str, ...]:
        declared = [env for env in (*node.envs, *envs) if env.get("stage", "all") != "build"]
        addresses = [
            deployment_variable(edge.deployment, edge.cluster)
            for edge in node.dependencies
            if edge.deployment is not None
        ]
        valued = {env["name"] for env in declared if env.get("value")}
        names = dict.fromkeys((*(env["name"] for env in declared), *addresses))
        return tuple(name for name in names if name not in valued)

    return {node.name: of(node) for node in graph}


def require_variables(
    needed: Mapping[str, Sequence[str]],
    given: Mapping[str, Collection[str]],
    hint: Callable[[Sequence[str]], str],
) -> None:
    """Refuse to go on while one of them is not set.

    Args:
        needed: by service.
        given: those that are set, by service.
        hint: what to type, for the names of those that are not.

    Raises:
        BentoError: names every variable, and the services that need it.
    """
    needed_by: dict[str, list[str]] = {}
    for service, names in needed.items():
        for name in (name for name in names if name not in given[service]):
            needed_by.setdefault(name, []).append(service)
    if needed_by:
        lines = [f"{name} is not set, needed by {', '.join(by)}" for name, by in needed_by.items()]
        raise BentoError("\n".join(lines), hint=hint(list(needed_by)))
