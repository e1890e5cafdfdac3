"""Graphs of services for tests of their calls: each in a thread of its own, behind a real socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from types import MappingProxyType, SimpleNamespace
from typing import Any

import httpx
import uvloop
from tests.runtime.conftest import DEADLINE_S, Marked, service_of

from bentoml import Service
from bentoml import _environment as environment
from bentoml._peers.dependencies import connect_peers
from bentoml._peers.remote_endpoint import Limits
from bentoml._process.lifespan import lifespan
from bentoml._process.server import WorkerServer
from bentoml._serving.application import Replica, configuration_of, create_app

SECRET = "what holds the deployment together"
LIMITS = Limits(answer_s=DEADLINE_S, item_s=DEADLINE_S)


class Served:
    """One service, served by a worker's server until it is stopped."""

    def __init__(self, service: Service[Any], port: socket.socket, environ: Mapping[str, str]) -> None:
        self._service = service
        self._port = port
        self._environ = environ
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name=service.name)
        self.address = f"http://127.0.0.1:{port.getsockname()[1]}"

    def start(self) -> None:
        """Return once it takes requests; raises what keeps it from that."""
        self._thread.start()
        self._ready.result(DEADLINE_S)

    def _run(self) -> None:
        self._loop = uvloop.new_event_loop()
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    async def _serve(self) -> None:
        config = configuration_of(self._service, self._environ)
        app = create_app(self._service, Replica(config=config, environ=self._environ))
        self._server = WorkerServer(
            app, config, beat=lambda: None, grace_s=DEADLINE_S, largest_frame=app.largest_frame
        )
        async with lifespan(app) as state:
            await self._server.serve_on(self._port, state, on_ready=lambda: self._ready.set_result(None))

    @property
    def connections(self) -> int:
        """How many connections to it are open."""
        return len(self._server.server_state.connections)

    def post(self, path: str, **request: Any) -> httpx.Response:
        return httpx.post(self.address + path, trust_env=False, timeout=DEADLINE_S, **request)

    def ask(self, path: str, **arguments: Any) -> Any:
        """What an endpoint returns, as a public caller sees it."""
        response = self.post(path, json=arguments)
        assert response.status_code == 200, response.text
        return response.json()

    def stop(self) -> None:
        if self._ready.done() and self._ready.exception() is None:
            self._loop.call_soon_threadsafe(self._server.drain, 0.0)
        self._thread.join()


@contextmanager
def served(
    entry: Marked, *, secret: str | None = SECRET, variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[dict[str, Served]]:
    """All services of the graph by name, each with the addresses of the others.

    Args:
        secret: of the deployment.
        variables: of all of them, over those that make a graph of them.
    """
    services = service_of(entry).all_services()
    graph = service_of(entry).graph()
    ports = {node.name: socket.create_server(("127.0.0.1", 0), backlog=128) for node in graph}
    environ = {
        environment.peer_variable(name): f"http://127.0.0.1:{port.getsockname()[1]}"
        for name, port in ports.items()
    }
    if secret is not None:
        environ[environment.DEPLOYMENT_SECRET] = secret
    started: dict[str, Served] = {}
    try:
        for name, port in ports.items():  # dependencies first, which are called from the start on
            own = {**environ, environment.DEPENDENTS: ",".join(graph.dependents(name)), **variables}
            started[name] = Served(services[name], port, own)
            started[name].start()
        yield started
    finally:
        for service in reversed(started.values()):
            service.stop()
        for port in ports.values():
            port.close()


@contextmanager
def peers_of(
    service: Marked, addresses: Mapping[str, str], *, secret: str | None = SECRET, limits: Limits = LIMITS
) -> Iterator[Any]:
    """What an instance of a service finds behind its dependencies, as attributes.

    Args:
        addresses: of the services that it depends on, by their names.
        secret: what this process has, instead of the deployment's.
    """
    marked = service_of(service)
    environ = {environment.peer_variable(name): address for name, address in addresses.items()}
    if secret is not None:
        environ[environment.DEPLOYMENT_SECRET] = secret
    connected = connect_peers(marked, marked.dependencies, limits, environ)
    try:
        yield SimpleNamespace(**connected.by_attribute)
    finally:
        asyncio.run(connected.close())


def addresses_of(graph: Mapping[str, Served]) -> dict[str, str]:
    """Where the services of a graph answer."""
    return {name: service.address for name, service in graph.items()}
