"""Deployments that other projects depend on by their names: where they answer, and what they ask for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bento_cli.deploy.compose import DEPLOYMENT_LABEL, ENTRY_LABEL, TOKEN_VARIABLE, internal_url
from bento_cli.deploy.revisions import History
from bento_cli.engine import Engine
from bento_cli.errors import BentoError, nearest
from bentoml._environment import deployment_token_variable, deployment_variable
from bentoml._graph import Edge, ServiceGraph

# Addresses that lead nowhere, or somewhere else, from another machine.
_ITS_OWN_MACHINE: Final = ("127.0.0.1", "localhost", "::1", "0.0.0.0")  # noqa: S104  # none is listened on


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a deployment is told of those that it depends on: values by the names of variables.

    Args:
        tokens: what they ask for; in no file that is rendered.
    """

    addresses: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)


def find_deployments(
    graph: ServiceGraph,
    engine: Engine,
    given: Collection[str],
    homes: Mapping[str, Path],
    *,
    cluster: str,
) -> Found:
    """Those on the same engine by their names there, those of other clusters where they are published.

    Args:
        given: variables that say where others are.
        homes: where the deployments of each cluster are kept, and `cluster` the one of this engine.

    Raises:
        BentoError: one cannot be reached; before anything is started.
    """
    found = Found()
    missing: list[str] = []
    running: set[str] | None = None
    for where, edge in _by_name(graph):
        name = edge.deployment or ""
        variable = deployment_variable(name, edge.cluster)
        if variable in given:
            continue
        if edge.cluster in (None, cluster):
            running = _running(engine) if running is None else running
            address = internal_url(name) if name in running else None
            problem = "which is not on this engine"
        else:
            address, problem = _published(name, edge.cluster or "", homes)
        if address is None:
            missing.append(f"{where} depends on the deployment {edge}, {problem}; set {variable}")
            continue
        found.addresses[variable] = address
        token = History(name, homes[edge.cluster or cluster]).variables().get(TOKEN_VARIABLE)
        if token is not None:
            found.tokens[deployment_token_variable(name, edge.cluster)] = token
    if missing:
        hint = "deploy it first, or give its address under `envs:`"
        if running is not None:
            hint += f"; there are: {', '.join(sorted(running)) or 'none'}"
        raise BentoError("\n".join(missing), hint=hint)
    return found


def published_here(graph: ServiceGraph, home: Path | None = None) -> dict[str, str]:
    """For services that run on this machine without an engine: variables of the deployments that it deployed.

    Where each is published, and what it asks for; those of clusters, and that are not there, are left out.
    """
    variables: dict[str, str] = {}
    for _, edge in _by_name(graph):
        history = History(edge.deployment or "", home)
        revision = history.active() if edge.cluster is None and history.exists else None
        if revision is None or edge.deployment is None:
            continue
        variables[deployment_variable(edge.deployment)] = revision.spec.entry.url
        token = history.variables().get(TOKEN_VARIABLE)
        if token is not None:
            variables[deployment_token_variable(edge.deployment)] = token
    return variables


def _published(name: str, cluster: str, homes: Mapping[str, Path]) -> tuple[str | None, str]:
    """Where a deployment of another cluster is reached; or None, and why it cannot be."""
    if cluster not in homes:
        return None, f"and there is no such cluster{nearest(cluster, homes, 'clusters')}"
    revision = History(name, homes[cluster]).active()
    if revision is None:
        return None, "which does not run there"
    entry = revision.spec.entry
    if entry.address in _ITS_OWN_MACHINE:
        return None, f"which is published on {entry.address}: deploy it with the `--host` that others reach"
    return entry.url, ""


def _by_name(graph: ServiceGraph) -> list[tuple[str, Edge]]:
    return [
        (f"{node.name}.{edge.attribute}", edge)
        for node in graph
        for edge in node.dependencies
        if edge.deployment is not None
    ]


def _running(engine: Engine) -> set[str]:
    """The deployments whose entry is on the engine."""
    containers = engine.containers({DEPLOYMENT_LABEL: None})
    return {
        c.labels[DEPLOYMENT_LABEL] for c in containers if ENTRY_LABEL in c.labels and c.state == "running"
    }
