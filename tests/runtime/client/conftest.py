"""What the tests of the public clients share: services that speak the contract, written by hand."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from bentoml import AsyncHTTPClient, SyncHTTPClient

URL = "http://service"
INTEGER = {"type": "integer"}
NO_INPUT: Mapping[str, Any] = {"properties": {}, "title": "Input", "type": "object"}

Answer = Callable[[Request], Any]


def takes(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an endpoint's input; what has no default is required."""
    required = [name for name, schema in properties.items() if "default" not in schema]
    return {"properties": properties, "required": required, "title": "Input", "type": "object"}


def endpoint(
    name: str,
    *,
    takes: Mapping[str, Any] = NO_INPUT,
    returns: Mapping[str, Any] = INTEGER,
    route: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """An endpoint as `/schema.json` tells of it."""
    route = route or f"/{name}"
    return {"name": name, "route": route, "input": takes, "output": returns, "is_task": False, **more}


def service(
    *endpoints: dict[str, Any], prefix: str = "", answers: Mapping[str, Answer] | None = None, **more: Answer
) -> Starlette:
    """A service with these endpoints, each of which answers as the function of its name says.

    Args:
        answers: functions by names that cannot be given as arguments.
    """
    by_name = {**(answers or {}), **more}

    async def schema(request: Request) -> Response:
        return JSONResponse({"name": "Main", "type": "service", "routes": list(endpoints)})

    async def ready(request: Request) -> Response:
        return PlainTextResponse("\n")

    routes = [Route("/schema.json", schema), Route(f"{prefix}/readyz", ready)]
    routes += [Route(each["route"], answering(by_name[each["name"]]), methods=["POST"]) for each in endpoints]
    return Starlette(routes=routes)


def answering(answer: Answer) -> Callable[[Request], Any]:
    """A handler that sends what `answer` gives, as JSON unless it is a response already."""

    async def respond(request: Request) -> Response:
        result = answer(request)
        if asyncio.iscoroutine(result):
            result = await result
        return result if isinstance(result, Response) else JSONResponse(result)

    return respond


class Call(Protocol):
    """Calls one endpoint of an application and gives its result; the items of a stream are a list."""

    def __call__(self, app: ASGIApp, name: str, *args: Any, **kwargs: Any) -> Any: ...


def _call_sync(app: ASGIApp, name: str, *args: Any, **kwargs: Any) -> Any:
    with SyncHTTPClient(URL, app=app) as client:
        result = getattr(client, name)(*args, **kwargs)
        return list(result) if isinstance(result, Iterator) else result


def _call_async(app: ASGIApp, name: str, *args: Any, **kwargs: Any) -> Any:
    async def call() -> Any:
        async with AsyncHTTPClient(URL, app=app) as client:
            result = getattr(client, name)(*args, **kwargs)
            return [item async for item in result] if hasattr(result, "__aiter__") else await result

    return asyncio.run(call())


@pytest.fixture(params=[_call_sync, _call_async], ids=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    call: Call = request.param
    return call


class RawServer:
    """Answers each request with bytes written by hand, and ends the connection after them."""

    def __init__(self, answers: Mapping[str, bytes]) -> None:
        self.requests: list[bytes] = []
        self._answers = answers
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536) or b"\r\n\r\n"
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(dict(_headers(head)).get("content-length", 0))
        while len(body) < length:
            body += connection.recv(65536)
        self.requests.append(head)
        path = head.split()[1].decode() if head else ""
        connection.sendall(self._answers.get(path, raw(b"", status="404 Not Found")))

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


def _headers(head: bytes) -> Iterator[tuple[str, str]]:
    for line in head.decode().splitlines()[1:]:
        name, _, value = line.partition(":")
        yield name.lower(), value.strip()


def raw(
    body: bytes, *, status: str = "200 OK", content_type: str = "application/json", more: str = ""
) -> bytes:
    """A whole response."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{more}"
    return f"{head}connection: close\r\n\r\n".encode() + body


def chunked(*chunks: bytes, ends: bool) -> bytes:
    """A response in chunks; one that does not end is cut off after the last."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    pieces = [f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in chunks]
    return head + b"".join(pieces) + (b"0\r\n\r\n" if ends else b"")


def raw_schema(*endpoints: dict[str, Any]) -> bytes:
    return raw(json.dumps({"routes": endpoints}).encode())


@pytest.fixture
def raw_server() -> Iterator[Callable[[Mapping[str, bytes]], RawServer]]:
    servers: list[RawServer] = []

    def serve(answers: Mapping[str, bytes]) -> RawServer:
        servers.append(RawServer(answers))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()
