"""`@bentoml.service`: a class read once into its endpoints, dependencies and configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

from bentoml._dependency import Dependency
from bentoml._endpoint import Endpoint
from bentoml._graph import ServiceGraph, ServiceNode, find_cycle
from bentoml.exceptions import BentoMLConfigException

T = TypeVar("T")


class Service(Generic[T]):
    """What `@bentoml.service` makes of a class.

    Call it for a local instance, subclass it, or ask `isinstance(x, TheService)`: it stands for the class.

    Attributes:
        inner: the class as it was written.
        config: the configuration that the decorator was given, as written.
        endpoints: the methods marked with `@bentoml.api`, inherited ones too, by name.
        dependencies: what `depends()` declared, inherited ones too, by attribute.
    """

    def __init__(
        self,
        inner: type[T],
        *,
        name: str | None = None,
        config: Mapping[str, object] | None = None,
        description: str | None = None,
        path_prefix: str = "",
        envs: Sequence[Mapping[str, str]] = (),
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.inner = inner
        self.name = name or inner.__name__
        self.config = dict(config or {})
        self.description = description or inner.__doc__
        self.path_prefix = path_prefix.rstrip("/")
        if self.path_prefix and not self.path_prefix.startswith("/"):
            raise ValueError(
                f"path_prefix {path_prefix!r} of {self.name}: expected a path that starts with `/`"
            )
        self.envs = tuple(dict(env) for env in envs)
        self.labels = dict(labels or {})
        self.endpoints: dict[str, Endpoint] = {}
        self.dependencies: dict[str, Dependency] = {}
        for attribute, member in _members(inner):
            if isinstance(member, Endpoint):
                self.endpoints[attribute] = member
            elif isinstance(member, Dependency):
                self.dependencies[attribute] = member
        routes: dict[str, str] = {}
        for attribute, endpoint in self.endpoints.items():
            if routes.setdefault(endpoint.route, attribute) != attribute:
                first = routes[endpoint.route]
                raise ValueError(
                    f"{self.name}: `{first}` and `{attribute}` have the same route {endpoint.route}"
                )
        self.__doc__ = inner.__doc__
        self.__module__ = inner.__module__

    @property
    def target(self) -> str:
        """`module:Class`, as `BENTOML_SERVICE` takes it."""
        return f"{self.inner.__module__}:{self.inner.__qualname__}"

    def __call__(self, /, **dependencies: object) -> T:
        """Make an instance in this process; `dependencies` replace those of the same name.

        Raises:
            TypeError: a name is no dependency of this service.
        """
        unknown = dependencies.keys() - self.dependencies.keys()
        if unknown:
            known = ", ".join(self.dependencies) or "none"
            raise TypeError(f"{self.name} has no dependency {sorted(unknown)}; it has: {known}")

        return self.instantiate(before_init=lambda instance: vars(instance).update(dependencies))

    def instantiate(self, *, before_init: Callable[[object], None]) -> T:
        """Make an instance whose dependencies are in place when its `__init__` runs."""
        instance: Any = self.inner.__new__(self.inner)
        before_init(instance)
        instance.__init__()
        return instance  # type: ignore[no-any-return]  # `__new__` of an unknown class gives Any

    def all_services(self) -> dict[str, Service[Any]]:
        """This service and all that it reaches inside the graph, by name.

        Raises:
            BentoMLConfigException: two different services have the same name.
        """
        found: dict[str, Service[Any]] = {}
        waiting: list[Service[Any]] = [self]
        while waiting:
            service = waiting.pop()
            if found.setdefault(service.name, service) is not service:
                raise BentoMLConfigException(
                    f"two services are named {service.name!r}: "
                    f"{found[service.name].target} and {service.target}"
                )
            for dependency in service.dependencies.values():
                on = dependency.on
                if on is not None and not dependency.edge.is_external and found.get(on.name) is not on:
                    waiting.append(on)
        return found

    def graph(self) -> ServiceGraph:
        """The graph whose entry this service is.

        Raises:
            BentoMLConfigException: two services have one name, or they depend on each other in a circle.
        """
        nodes = {service.name: service.node() for service in self.all_services().values()}
        graph = ServiceGraph(entry=self.name, services=nodes)
        cycle = find_cycle({name: graph.peers(name) for name in nodes})
        if cycle is not None:
            raise BentoMLConfigException(f"services depend on each other in a circle: {' → '.join(cycle)}")
        return graph

    def node(self) -> ServiceNode:
        """This service as data."""
        return ServiceNode(
            name=self.name,
            target=self.target,
            endpoints=tuple(self.endpoints),
            dependencies=tuple(dependency.edge for dependency in self.dependencies.values()),
            config=self.config,
            envs=self.envs,
            labels=self.labels,
            description=self.description,
        )

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type]:
        return (self.inner,)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self.inner)

    def __repr__(self) -> str:
        return f"<Service {self.name} ({self.target})>"


def _members(cls: type) -> Iterator[tuple[str, object]]:
    """Attributes in the order of definition, those of base classes first, overridden ones once."""
    names = dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base))
    for name in names:
        yield name, getattr(cls, name, None)


@overload
def service(inner: type[T], /) -> Service[T]: ...


@overload
def service(
    inner: None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    path_prefix: str = "",
    envs: Sequence[Mapping[str, str]] = (),
    labels: Mapping[str, str] | None = None,
    **config: Any,
) -> Callable[[type[T]], Service[T]]: ...


def service(
    inner: type[Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    path_prefix: str = "",
    envs: Sequence[Mapping[str, str]] = (),
    labels: Mapping[str, str] | None = None,
    **config: Any,
) -> Any:
    """Mark a class as a service: `@bentoml.service` or `@bentoml.service(workers=2, ...)`.

    Args:
        name: what others call it, in variables, files and images; the class's name when not given.
        description: shown in its documentation; the class's docstring when not given.
        path_prefix: put before every route.
        envs: variables it needs: `{"name": ..., "value": ..., "stage": "all" | "build" | "runtime"}`.
        labels: put on its images.
        config: `traffic`, `resources`, `workers`, `threads` and the rest; checked when it is built or served.

    Raises:
        TypeError: the class is marked already, or is no class.
        ValueError: the path prefix is no path, or two endpoints have one route.
    """

    def mark(cls: type[Any]) -> Service[Any]:
        if isinstance(cls, Service):
            raise TypeError(f"{cls.name} is marked with `@bentoml.service` already")
        if not isinstance(cls, type):
            raise TypeError(f"`@bentoml.service` marks a class, found {cls!r}")
        return Service(
            cls,
            name=name,
            config=config,
            description=description,
            path_prefix=path_prefix,
            envs=envs,
            labels=labels,
        )

    return mark if inner is None else mark(inner)
