"""The graph of services: data that the toolchain finds in the source and the runtime in live objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Edge:
    """One dependency: the attribute that holds it and the service, URL or deployment it leads to."""

    attribute: str
    service: str | None = None
    url: str | None = None
    deployment: str | None = None
    cluster: str | None = None

    @property
    def is_external(self) -> bool:
        """Whether the other end lies outside the graph."""
        return self.url is not None or self.deployment is not None

    def __str__(self) -> str:
        where = self.url or self.deployment
        if where is None:
            return str(self.service)
        cluster = f" in {self.cluster}" if self.cluster else ""
        return f"{self.service + ' at ' if self.service else ''}{where}{cluster}"


@dataclass(frozen=True, kw_only=True)
class ServiceNode:
    """One service of a graph.

    Args:
        target: `module:Class`, as `BENTOML_SERVICE` takes it.
        tasks: the endpoints whose results are kept.
        config: what the decorator says, as written.
        runs_command: whether an external HTTP server answers for it.
    """

    name: str
    target: str
    endpoints: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    dependencies: tuple[Edge, ...] = ()
    config: Mapping[str, object] = field(default_factory=dict)
    envs: tuple[Mapping[str, str], ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    description: str | None = None
    runs_command: bool = False


@dataclass(frozen=True, kw_only=True)
class ServiceGraph:
    """The entry service and all that it depends on, without external ones."""

    entry: str
    services: Mapping[str, ServiceNode]

    def __iter__(self) -> Iterator[ServiceNode]:
        """Dependencies first, the entry last; a diamond's leaf comes once."""
        seen: set[str] = set()
        # An explicit stack: a chain of services may be longer than Python's own.
        stack = [(self.entry, False)]
        while stack:
            name, is_expanded = stack.pop()
            if is_expanded:
                yield self.services[name]
            elif name not in seen:
                seen.add(name)
                stack.append((name, True))
                stack.extend((peer, False) for peer in reversed(self.peers(name)))

    def peers(self, service: str) -> tuple[str, ...]:
        """The services of the graph that `service` calls, in the order of declaration."""
        edges = self.services[service].dependencies
        return tuple(dict.fromkeys(e.service for e in edges if e.service and not e.is_external))

    def dependents(self, service: str) -> tuple[str, ...]:
        """The services of the graph that call `service`."""
        return tuple(node.name for node in self if service in self.peers(node.name))


def find_cycle(peers: Mapping[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    """The first cycle among `service -> services it calls`, closed: `(A, B, A)`."""
    finished: set[str] = set()
    for start in peers:
        path: dict[str, Iterator[str]] = {}
        if start not in finished:
            path[start] = iter(peers[start])
        while path:
            name = next(reversed(path))
            peer = next(path[name], None)
            if peer is None:
                finished.add(name)
                del path[name]
            elif peer in path:
                names = list(path)
                return (*names[names.index(peer) :], peer)
            elif peer not in finished and peer in peers:
                path[peer] = iter(peers[peer])
    return None


def as_text(graph: ServiceGraph) -> str:
    """The graph as a tree, one service a line; a service shown before is marked and not repeated."""
    lines: list[str] = []
    seen: set[str] = set()
    stack: list[tuple[Edge, str, str]] = [(Edge(attribute="", service=graph.entry), "", "")]
    while stack:
        edge, label, indent = stack.pop()
        if edge.service is None or edge.is_external:
            lines.append(f"{label}{edge} (external)")
            continue
        edges = graph.services[edge.service].dependencies
        is_above = edge.service in seen and bool(edges)
        lines.append(f"{label}{edge.service}{' (above)' if is_above else ''}")
        if edge.service not in seen:
            seen.add(edge.service)
            branches = [(item, f"{indent}├── ", f"{indent}│   ") for item in edges[:-1]]
            branches += [(item, f"{indent}└── ", f"{indent}    ") for item in edges[-1:]]
            stack.extend(reversed(branches))
    return "\n".join(lines)
