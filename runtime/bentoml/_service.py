"""`@bentoml.service`: a class read once into its endpoints, dependencies and configuration."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar, overload
from urllib.parse import urlsplit

from bentoml._dependency import Dependency
from bentoml._endpoint import Endpoint
from bentoml._environment import peer_addresses
from bentoml._graph import ServiceGraph, ServiceNode, find_cycle
from bentoml._instance import AsyncMethods, SyncMethods, with_both_kinds
from bentoml._mount import Mount, mounts_of
from bentoml._service_arguments import checked_command, checked_envs, checked_labels
from bentoml.exceptions import BentoMLConfigException

T = TypeVar("T")


class Service(Generic[T]):
    """What `@bentoml.service` makes of a class.

    Call it for a local instance, subclass it, or ask `isinstance(x, TheService)`: it stands for the class.
    `Service("Name", cmd=[...])` is a service without a class, which an external HTTP server answers for.

    Attributes:
        inner: the class as it was written.
        config: the configuration that the decorator was given, as written.
        endpoints: the methods marked with `@api` or `@task`, inherited ones too, by attribute.
        dependencies: what `depends()` declared, inherited ones too, by attribute.
        mount_apps: applications served beside the endpoints.
        middlewares: ASGI middleware around all of it with its options, the first one innermost.
        cmd: the command of an external HTTP server that answers in place of Python methods.
        image: what `image=` said of the service's image.
        bento: the Bento that was loaded, if it was one.
    """

    def __init__(
        self,
        inner: type[T] | str,
        *,
        name: str | None = None,
        image: object = None,
        config: Mapping[str, object] | None = None,
        description: str | None = None,
        path_prefix: str | None = None,
        envs: Sequence[Mapping[str, str]] | None = None,
        labels: Mapping[str, str] | None = None,
        cmd: Sequence[str] | None = None,
    ) -> None:
        # Without a class there is still an instance, with the module of whoever declares the service.
        module = sys._getframe(1).f_globals.get("__name__", "__main__")
        cls: Any = type(inner, (), {"__module__": module}) if isinstance(inner, str) else inner
        self.inner: type[T] = cls
        self.name = name or cls.__name__
        self.image = image
        self.config = dict(config or {})
        self.description = description or cls.__doc__
        self.path_prefix = (path_prefix or "").rstrip("/")
        if self.path_prefix and not self.path_prefix.startswith("/"):
            raise ValueError(
                f"path_prefix {path_prefix!r} of {self.name}: expected a path that starts with `/`"
            )
        self.envs = checked_envs(self.name, envs or ())
        self.labels = checked_labels(self.name, labels or {})
        self.cmd = None if cmd is None else checked_command(self.name, cmd)
        self.bento: object = None
        self.mount_apps: list[Mount] = mounts_of(cls)
        self.middlewares: list[tuple[Callable[..., Any], dict[str, Any]]] = []
        self.endpoints: dict[str, Endpoint] = {}
        self.dependencies: dict[str, Dependency] = {}
        for attribute, member in _members(cls):
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
        self.__doc__ = cls.__doc__
        self.__module__ = cls.__module__

    @property
    def target(self) -> str:
        """`module:Class`, as `BENTOML_SERVICE` takes it; the variable's name where there is no class."""
        module = self.inner.__module__
        variables = vars(sys.modules[module]).items() if module in sys.modules else ()
        own = [name for name, value in variables if value is self]
        return f"{module}:{own[0] if own else self.inner.__qualname__}"

    @property
    def import_string(self) -> str:
        """The same as `target`."""
        return self.target

    @property
    def apis(self) -> dict[str, Endpoint]:
        """The same as `endpoints`."""
        return self.endpoints

    @property
    def doc(self) -> str:
        """What the service says of itself, as text."""
        return self.description or ""

    @property
    def working_dir(self) -> str:
        """The folder of the module that defines the service."""
        file = getattr(sys.modules.get(self.inner.__module__), "__file__", None)
        return str(Path(file).parent if file else Path.cwd())

    @property
    def context(self) -> Any:
        """The process that serves it: `bentoml.server_context`."""
        return importlib.import_module("bentoml._context").server_context

    @property
    def url(self) -> str | None:
        """Where this service answers, as the environment says; None where it says nothing."""
        addresses = peer_addresses(self.name)
        return addresses[0] if addresses else None

    @property
    def models(self) -> list[Any]:
        """The models that are attributes of the class: `bentoml.models`."""
        kind = importlib.import_module("bentoml.models").Model
        return [member for _, member in _members(self.inner) if isinstance(member, kind)]

    async def get_hosts(self) -> list[str]:
        """`host:port` of every address that the environment names for this service."""
        return [urlsplit(address).netloc for address in peer_addresses(self.name)]

    def has_custom_command(self) -> bool:
        """Whether an external HTTP server answers for this service."""
        return self.cmd is not None or hasattr(self.inner, "__command__")

    def needs_task_db(self) -> bool:
        """Whether an endpoint is a task, so that results have to be kept."""
        return any(endpoint.is_task for endpoint in self.endpoints.values())

    def __call__(self, /, **dependencies: object) -> T:
        """Make an instance in this process; `dependencies` replace those of the same name.

        Raises:
            TypeError: a name is no dependency of this service.
        """
        unknown = dependencies.keys() - self.dependencies.keys()
        if unknown:
            known = ", ".join(self.dependencies) or "none"
            raise TypeError(f"{self.name} has no dependency {sorted(unknown)}; it has: {known}")

        given = self.stand_ins(dependencies)
        return self.instantiate(before_init=lambda instance: vars(instance).update(given))

    def stand_ins(self, objects: Mapping[str, object]) -> dict[str, object]:
        """Objects in the place of dependencies, by attribute, made to be called as those are."""
        ready = {}
        for attribute, stand_in in objects.items():
            on = self.dependencies[attribute].on
            ready[attribute] = with_both_kinds(stand_in, None if on is None else on.endpoints)
        return ready

    def instantiate(self, *, before_init: Callable[[object], None]) -> T:
        """Make an instance whose dependencies are in place when its `__init__` runs."""
        instance: Any = self.inner.__new__(self.inner)
        before_init(instance)
        own = {
            "bento_service": self,
            "to_async": AsyncMethods(instance, self.endpoints),
            "to_sync": SyncMethods(instance, self.endpoints),
        }
        vars(instance).update({key: value for key, value in own.items() if not hasattr(instance, key)})
        instance.__init__()
        return instance  # type: ignore[no-any-return]  # `__new__` of an unknown class gives Any

    def all_services(self, exclude_urls: bool = False) -> dict[str, Service[Any]]:
        """This service and all that it reaches inside the graph, by name.

        Args:
            exclude_urls: part of this interface; what is behind a URL never belongs to the graph.

        Raises:
            BentoMLConfigException: two different services have the same name.
        """
        found: dict[str, Service[Any]] = {}
        waiting: list[Service[Any]] = [self]
        while waiting:
            service = waiting.pop()
            if found.setdefault(service.name, service) is not service:
                raise BentoMLConfigException(
                    f"dependency conflict: two services are named {service.name!r}: "
                    f"{found[service.name].target} and {service.target}"
                )
            for dependency in service.dependencies.values():
                on = dependency.on
                if on is not None and not dependency.edge.is_external and found.get(on.name) is not on:
                    waiting.append(on)
        return found

    def find_dependent_by_name(self, name: str) -> Service[Any]:
        """A service of the graph by its name.

        Raises:
            ValueError: no service of the graph has it; names those there are.
        """
        services = self.all_services()
        if name not in services:
            raise ValueError(f"{self.name} reaches no service {name!r}; there are: {', '.join(services)}")
        return services[name]

    def find_dependent_by_path(self, path: str) -> Service[Any]:
        """The service that attributes of dependencies lead to, as `preprocessing.tokenizer`.

        Raises:
            ValueError: an attribute is no dependency on a service; names those there are.
        """
        service: Service[Any] = self
        for attribute in path.split("."):
            dependency = service.dependencies.get(attribute)
            if dependency is None or dependency.on is None:
                known = ", ".join(service.dependencies) or "none"
                raise ValueError(f"{service.name} has no dependency {attribute!r}; it has: {known}")
            service = dependency.on
        return service

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
            tasks=tuple(name for name, endpoint in self.endpoints.items() if endpoint.is_task),
            runs_command=self.has_custom_command(),
            dependencies=tuple(dependency.edge for dependency in self.dependencies.values()),
            config=self.config,
            envs=self.envs,
            labels=self.labels,
            description=self.description,
        )

    def mount_asgi_app(self, app: Any, path: str = "/", name: str | None = None) -> None:
        """Serve an ASGI application below `path`; what it has no route for goes to the service."""
        self.mount_apps.append(Mount(app, path, name or f"{type(app).__name__} at {path}"))

    def mount_wsgi_app(self, app: Any, path: str = "/", name: str | None = None) -> None:
        """Serve a WSGI application below `path`, through the package `a2wsgi`."""
        self.mount_asgi_app(importlib.import_module("a2wsgi").WSGIMiddleware(app), path, name)

    def add_asgi_middleware(self, middleware: Callable[..., Any], **options: Any) -> None:
        """Put `middleware(app, **options)` around all that the service answers."""
        self.middlewares.append((middleware, options))

    def to_asgi(self, is_main: bool = True) -> Any:
        """An ASGI application of this service, configured by the environment of this process.

        Args:
            is_main: whether it is the entry; the others answer the frames of their peers.
        """
        return _serving("application").from_environment(self, is_entry=is_main)

    def schema(self) -> dict[str, Any]:
        """What `/schema.json` says."""
        document: dict[str, Any] = _serving("schema").service_schema(self)
        return document

    @property
    def openapi_spec(self) -> dict[str, Any]:
        """What `/docs.json` says."""
        document: dict[str, Any] = _serving("openapi").openapi_document(self)
        return document

    def serve_http(
        self, *, working_dir: str | None = None, host: str | None = None, port: int | None = None
    ) -> None:
        """Serve the graph of which this is the entry, as `bento serve` does, until Ctrl-C.

        Args:
            working_dir: part of this interface; the project is where the service's module is.
            host: what its configuration names when not given, else this machine alone.
            port: what its configuration names when not given, else 3000.

        Raises:
            MissingDependencyException: the toolchain is not installed, as in an image.
        """
        serve: Any = importlib.import_module("bentoml._toolchain").serve
        with suppress(KeyboardInterrupt), serve(self, host=host, port=port) as server:
            server.wait()

    def inject_config(self) -> None:
        """Check the configuration, with what the environment puts over it.

        Raises:
            BentoMLConfigException: names every value that is not valid.
        """
        _serving("application").configuration_of(self, os.environ)

    def on_load_bento(self, bento: object) -> None:
        """Remember the Bento that this service came from."""
        self.bento = bento

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type]:
        return (self.inner,)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self.inner)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<Service {self.name} ({self.target})>"


def _serving(module: str) -> ModuleType:
    """The part that serves, loaded by those who ask a service for it: declaring one needs none of that."""
    return importlib.import_module(f"bentoml._serving.{module}")


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
    image: object = None,
    description: str | None = None,
    path_prefix: str | None = None,
    envs: Sequence[Mapping[str, str]] | None = None,
    labels: Mapping[str, str] | None = None,
    cmd: Sequence[str] | None = None,
    service_class: type[Service[Any]] = Service,
    **config: Any,
) -> Callable[[type[T]], Service[T]]: ...


def service(
    inner: type[Any] | None = None,
    /,
    *,
    name: str | None = None,
    image: object = None,
    description: str | None = None,
    path_prefix: str | None = None,
    envs: Sequence[Mapping[str, str]] | None = None,
    labels: Mapping[str, str] | None = None,
    cmd: Sequence[str] | None = None,
    service_class: type[Service[Any]] = Service,
    **config: Any,
) -> Any:
    """Mark a class as a service: `@bentoml.service` or `@bentoml.service(workers=2, ...)`.

    Args:
        name: what others call it, in variables, files and images; the class's name when not given.
        image: how its image is made.
        description: shown in its documentation; the class's docstring when not given.
        path_prefix: put before every route.
        envs: variables it needs: `{"name": ..., "value": ..., "stage": "all" | "build" | "runtime"}`.
        labels: put on its images.
        cmd: the command of an external HTTP server that answers in place of Python methods.
        service_class: a subclass of `Service` to make of the class.
        config: `traffic`, `resources`, `workers`, `threads` and the rest; checked when it is built or served.

    Raises:
        TypeError: the class is marked already, or is no class.
        ValueError: the path prefix is no path, two endpoints have one route, or an argument is not what it
            should be.
    """

    def mark(cls: type[Any]) -> Service[Any]:
        if isinstance(cls, Service):
            raise TypeError(f"{cls.name} is marked with `@bentoml.service` already")
        if not isinstance(cls, type):
            raise TypeError(f"`@bentoml.service` marks a class, found {cls!r}")
        return service_class(
            cls,
            name=name,
            image=image,
            config=config,
            description=description,
            path_prefix=path_prefix,
            envs=envs,
            labels=labels,
            cmd=cmd,
        )

    return mark if inner is None else mark(inner)
