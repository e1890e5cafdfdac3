"""Services in a test: called as a client would call them, without a process, a port or a network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bentoml._client.http import AsyncHTTPClient, SyncHTTPClient
from bentoml._config import load_config
from bentoml._dependency import local_instance
from bentoml._environment import RESULT_STORE, peer_variable
from bentoml._service import Service
from bentoml._serving.application import Replica, create_app

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["async_client", "client"]

_URL = "http://service"
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@contextmanager
def client(
    service: Service[Any] | type,
    *,
    config: Mapping[str, object] = _NOTHING,
    dependencies: Mapping[str, object] = _NOTHING,
    peers: Mapping[str, str] = _NOTHING,
    timeout: float | None = 30,
) -> Iterator[SyncHTTPClient]:
    """A client of the service, which runs in a thread of its own meanwhile, hooks and limits included.

    Args:
        service: the class marked with `@bentoml.service`.
        config: put over the configuration that the decorator was given.
        dependencies: objects in place of dependencies, by attribute. Those not given are instances of their
            own classes, as when the service is instantiated by hand.
        peers: addresses of services that run elsewhere, by the service's name.
        timeout: seconds to wait for each piece of an answer.

    Raises:
        TypeError: a name is no dependency of the service.
        Exception: whatever the service raises when it is made.
    """
    with (
        _application(service, config, dependencies, peers) as app,
        SyncHTTPClient(_URL, app=app, timeout=timeout) as client,
    ):
        yield client


@asynccontextmanager
async def async_client(
    service: Service[Any] | type,
    *,
    config: Mapping[str, object] = _NOTHING,
    dependencies: Mapping[str, object] = _NOTHING,
    peers: Mapping[str, str] = _NOTHING,
    timeout: float | None = 30,
) -> AsyncIterator[AsyncHTTPClient]:
    """As `client`, to be awaited: the service runs on the loop of the test.

    Args:
        service: the class marked with `@bentoml.service`.
        config: put over the configuration that the decorator was given.
        dependencies: objects in place of dependencies, by attribute.
        peers: addresses of services that run elsewhere, by the service's name.
        timeout: seconds to wait for each piece of an answer.

    Raises:
        TypeError: a name is no dependency of the service.
        Exception: whatever the service raises when it is made.
    """
    with _application(service, config, dependencies, peers) as app:
        async with AsyncHTTPClient(_URL, app=app, timeout=timeout) as client:
            yield client


@contextmanager
def _application(
    marked: Service[Any] | type,
    config: Mapping[str, object],
    dependencies: Mapping[str, object],
    peers: Mapping[str, str],
) -> Iterator[ASGIApp]:
    if not isinstance(marked, Service):
        raise TypeError(f"expected a class marked with `@bentoml.service`, found {marked!r}")
    service: Service[Any] = marked
    environ = {peer_variable(name): address for name, address in peers.items()}
    with TemporaryDirectory(prefix="bentoml-testing-") as folder:
        # The tasks of one test are not those of the next.
        environ[RESULT_STORE] = str(Path(folder) / "tasks.db")
        replica = Replica(config=load_config(service.name, service.config, config), environ=environ)
        yield create_app(service, replica, _replaced(service, dependencies, peers))


def _replaced(
    service: Service[Any], given: Mapping[str, object], peers: Mapping[str, str]
) -> dict[str, object]:
    """What stands for each dependency that is not called at an address."""
    unknown = given.keys() - service.dependencies.keys()
    if unknown:
        known = ", ".join(service.dependencies) or "none"
        raise TypeError(f"{service.name} has no dependency {sorted(unknown)}; it has: {known}")
    instances: dict[str, object] = {}
    replaced = dict(given)
    for attribute, dependency in service.dependencies.items():
        on = dependency.on
        if attribute in given or on is None or on.name in peers or dependency.edge.is_external:
            continue
        replaced[attribute] = local_instance(on, instances)
    return replaced
