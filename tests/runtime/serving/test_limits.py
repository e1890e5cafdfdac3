"""What holds for all that a service answers: mounted applications, WebSockets and commands' servers too."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import fastapi
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import Message, Scope
from starlette.websockets import WebSocket
from tests.runtime.conftest import InMemory, Marked, free_port, service_of

import bentoml
from bentoml._config import load_config
from bentoml._serving.admission import LocalAdmission
from bentoml._serving.application import Application, Replica, create_app

TOO_MANY = {"error": "Too many requests", "type": "TooManyRequests"}


class Connection:
    """One request or WebSocket of an application, message by message."""

    def __init__(self, app: Application, path: str, first: Message, **scope: Any) -> None:
        whole: Scope = {
            "type": "http", "path": path, "raw_path": path.encode(), "scheme": "http",
            "headers": [], "client": ("127.0.0.1", 1), "query_string": b"", "root_path": "",
            "http_version": "1.1", "asgi": {"version": "3.0"}, "server": None, **scope,
        }  # fmt: skip
        self.to_app: asyncio.Queue[Message] = asyncio.Queue()
        self.to_app.put_nowait(first)
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self.ended = asyncio.ensure_future(app(whole, self.to_app.get, self._from_app.put))

    async def message(self) -> Message:
        return await asyncio.wait_for(self._from_app.get(), 30)

    async def rest(self) -> list[Message]:
        """What it is sent until the application has done with it."""
        await asyncio.wait_for(self.ended, 30)
        return [self._from_app.get_nowait() for _ in range(self._from_app.qsize())]


def get(app: Application, path: str) -> Connection:
    return Connection(app, path, {"type": "http.request", "body": b"", "more_body": False}, method="GET")


def post(app: Application, path: str, body: bytes = b"{}", *, is_whole: bool = True) -> Connection:
    """A request to an endpoint; one that is not whole goes on with `to_app`."""
    first = {"type": "http.request", "body": body, "more_body": not is_whole}
    headers = [(b"content-type", b"application/json")]
    return Connection(app, path, first, method="POST", headers=headers)


def websocket(app: Application, path: str, *, takes_responses: bool = True) -> Connection:
    extensions: dict[str, object] = {"websocket.http.response": {}} if takes_responses else {}
    scope = {"type": "websocket", "scheme": "ws", "extensions": extensions, "subprotocols": []}
    return Connection(app, path, {"type": "websocket.connect"}, **scope)


def served(
    service: Marked,
    scenario: Callable[[Application], Awaitable[Any]],
    traffic: Mapping[str, object],
    admission: LocalAdmission | None = None,
) -> Any:
    """What `scenario` returns, run beside the service's application."""

    async def run() -> Any:
        config = load_config(service.name, service.config, {"traffic": traffic})
        replica = Replica(config=config, environ={}, admission=admission)
        app = create_app(service_of(service), replica)
        async with app.lifespan():
            return await scenario(app)

    return asyncio.run(run())


async def wait(request: Request) -> Response:
    await asyncio.Event().wait()
    raise AssertionError


async def two_pieces(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.Event().wait()

    return StreamingResponse(pieces())


async def many_pieces(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(6):
            await asyncio.sleep(0.05)
            yield b"x"

    return StreamingResponse(pieces())


async def quick(request: Request) -> Response:
    return PlainTextResponse("quick")


async def afterwards(request: Request) -> Response:
    async def work() -> None:
        await asyncio.sleep(0.2)
        done.append("afterwards")

    return PlainTextResponse("x", background=BackgroundTask(work))


async def talk(connection: WebSocket) -> None:
    await connection.accept()
    async for text in connection.iter_text():
        await connection.send_text(text)


async def fail(connection: WebSocket) -> None:
    raise RuntimeError("no conversation")


async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


done: list[str] = []
go_on = threading.Event()

pages = Starlette(
    routes=[
        *(Route(f"/{page.__name__}", page) for page in (wait, two_pieces, many_pieces, quick, afterwards)),
        WebSocketRoute("/talk", talk),
        WebSocketRoute("/fail", fail),
    ]
)
behind_middleware = Starlette(
    routes=[Route("/wait", wait)], middleware=[Middleware(BaseHTTPMiddleware, dispatch=pass_on)]
)
in_threads = fastapi.FastAPI()


@in_threads.get("/block")
def block() -> None:
    go_on.wait(30)


@bentoml.asgi_app(in_threads, path="/threads")
@bentoml.asgi_app(behind_middleware, path="/behind")
@bentoml.asgi_app(pages, path="/pages")
@bentoml.service
class Site:
    @bentoml.api
    async def ping(self) -> str:
        return "pong"


def status_and_error(messages: list[Message]) -> tuple[int, object]:
    start, *bodies = messages
    return start["status"], json.loads(b"".join(message["body"] for message in bodies))


def test_requests_of_mounts_and_of_endpoints_share_their_places() -> None:
    async def scenario(app: Application) -> list[tuple[int, object]]:
        waiting = get(app, "/pages/wait")
        refused = [await connection.rest() for connection in (get(app, "/pages/quick"), post(app, "/ping"))]
        assert dict(refused[0][0]["headers"])[b"retry-after"] == b"1"
        waiting.ended.cancel()
        return [status_and_error(messages) for messages in refused]

    assert served(Site, scenario, {"max_concurrency": 1}) == [(429, TOO_MANY), (429, TOO_MANY)]


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/healthz", "/metrics", "/schema.json", "/docs.json", "/", "/nowhere"]
)
def test_what_is_asked_about_a_service_takes_no_place(path: str) -> None:
    full = LocalAdmission(1)
    full.enter()

    async def scenario(app: Application) -> int:
        start, *_ = await get(app, path).rest()
        return int(start["status"])

    assert served(Site, scenario, {}, full) == (404 if path == "/nowhere" else 200)


@pytest.mark.parametrize("path", ["/pages/quick", "/pages/afterwards"])
def test_a_mounts_place_is_free_by_the_time_its_response_is_out(path: str) -> None:
    admission = LocalAdmission(1)

    async def scenario(app: Application) -> int:
        connection = get(app, path)
        await connection.message()
        await connection.message()
        running = admission.running
        await connection.ended
        return running

    assert served(Site, scenario, {}, admission) == 0


@pytest.mark.parametrize("path", ["/pages/wait", "/behind/wait", "/threads/block"])
def test_a_mount_that_does_not_answer_in_time_is_answered_for(path: str) -> None:
    go_on.clear()

    async def scenario(app: Application) -> tuple[int, object]:
        try:
            return status_and_error(await get(app, path).rest())
        finally:
            go_on.set()

    assert served(Site, scenario, {"timeout": 0.1}) == (
        504,
        {"error": "Not able to process the request in 0.1 seconds", "type": "DeadlineExceeded"},
    )


@pytest.mark.parametrize("limit", ["item_timeout", "total_timeout"])
def test_a_response_of_a_mount_that_stalls_is_cut_off(limit: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(app: Application) -> list[Message]:
        return await get(app, "/pages/two_pieces").rest()

    start, *bodies = served(Site, scenario, {limit: 0.1})

    assert (start["status"], [body["more_body"] for body in bodies]) == (200, [True])
    assert f"GET /pages/two_pieces: its response was cut off: `traffic.{limit}` is over" in caplog.text


def test_a_response_of_a_mount_takes_the_time_that_its_pieces_take() -> None:
    async def scenario(app: Application) -> bytes:
        _, *bodies = await get(app, "/pages/many_pieces").rest()
        return b"".join(body["body"] for body in bodies)

    assert served(Site, scenario, {"timeout": 0.15}) == b"xxxxxx"


def test_what_a_mount_does_after_its_response_is_not_cut_off() -> None:
    done.clear()

    async def scenario(app: Application) -> None:
        await get(app, "/pages/afterwards").rest()

    served(Site, scenario, {"timeout": 0.1})

    assert done == ["afterwards"]


def test_a_websocket_keeps_its_place_while_it_is_open() -> None:
    admission = LocalAdmission(1)

    async def scenario(app: Application) -> list[int]:
        connection = websocket(app, "/pages/talk")
        assert (await connection.message())["type"] == "websocket.accept"
        while_open = admission.running
        connection.to_app.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await connection.ended
        return [while_open, admission.running]

    assert served(Site, scenario, {}, admission) == [1, 0]


def test_a_websocket_outlasts_every_timeout() -> None:
    async def scenario(app: Application) -> object:
        connection = websocket(app, "/pages/talk")
        await connection.message()
        await asyncio.sleep(0.1)
        connection.to_app.put_nowait({"type": "websocket.receive", "text": "still there"})
        return (await connection.message())["text"]

    assert served(Site, scenario, {"timeout": 0.01, "total_timeout": 0.01}) == "still there"


@pytest.mark.parametrize("takes_responses", [True, False])
def test_a_websocket_too_many_is_refused_as_well_as_its_server_can(takes_responses: bool) -> None:
    full = LocalAdmission(1)
    full.enter()

    async def scenario(app: Application) -> Message:
        return await websocket(app, "/pages/talk", takes_responses=takes_responses).message()

    message = served(Site, scenario, {}, full)

    if takes_responses:
        assert (message["status"], dict(message["headers"])[b"retry-after"]) == (429, b"1")
    else:
        assert message == {"type": "websocket.close", "code": 1013, "reason": "Too many requests"}


def test_a_websocket_is_logged_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(app: Application) -> list[str]:
        connection = websocket(app, "/pages/talk")
        await connection.message()
        before = caplog.messages[:]
        connection.to_app.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await connection.ended
        return before

    with caplog.at_level(logging.INFO, "bentoml.access"):
        assert served(Site, scenario, {}) == []

    [line] = caplog.messages
    assert line.startswith("127.0.0.1:1 (scheme=ws,method=GET,path=/pages/talk) (status=101) ")


@pytest.mark.parametrize(
    ("path", "takes_responses", "status"),
    [
        ("/pages/talk", True, 429),
        ("/pages/talk", False, 403),
        ("/nowhere", True, 403),
    ],
)
def test_a_websocket_that_is_refused_is_logged_with_its_status(
    path: str, takes_responses: bool, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    full = LocalAdmission(1)
    full.enter()

    async def scenario(app: Application) -> None:
        await websocket(app, path, takes_responses=takes_responses).rest()

    with caplog.at_level(logging.INFO, "bentoml.access"):
        served(Site, scenario, {}, full)

    assert f"path={path}) (status={status}" in caplog.text


def test_a_websocket_whose_application_fails_is_logged_as_the_server_answers_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(app: Application) -> None:
        with pytest.raises(RuntimeError, match="no conversation"):
            await websocket(app, "/pages/fail").ended

    with caplog.at_level(logging.INFO, "bentoml.access"):
        served(Site, scenario, {})

    assert "path=/pages/fail) (status=500)" in caplog.text


def test_a_body_that_stalls_keeps_nobody_from_running() -> None:
    async def scenario(app: Application) -> list[int]:
        stalled = post(app, "/ping", b"{", is_whole=False)
        start, _ = await post(app, "/ping").rest()
        stalled.to_app.put_nowait({"type": "http.request", "body": b"}", "more_body": False})
        late, _ = await stalled.rest()
        return [start["status"], late["status"]]

    assert served(Site, scenario, {"max_concurrency": 1}) == [200, 200]


def test_a_request_whose_body_has_come_is_refused_where_all_places_were_taken_meanwhile() -> None:
    admission = LocalAdmission(1)

    async def scenario(app: Application) -> tuple[int, object]:
        late = post(app, "/ping", b"{", is_whole=False)
        while late.to_app.qsize():  # noqa: ASYNC110  # until it was let in, and waits for more
            await asyncio.sleep(0)
        admission.enter()
        late.to_app.put_nowait({"type": "http.request", "body": b"}", "more_body": False})
        return status_and_error(await late.rest())

    assert served(Site, scenario, {}, admission) == (429, TOO_MANY)


def test_a_request_too_many_is_refused_before_its_body_is_read() -> None:
    full = LocalAdmission(1)
    full.enter()

    async def scenario(app: Application) -> list[int]:
        refused = post(app, "/ping", b"{", is_whole=False)
        start, _ = await refused.rest()
        return [start["status"], refused.to_app.qsize()]

    assert served(Site, scenario, {}, full) == [429, 1]


def test_requests_of_a_command_take_places_and_its_probes_none(in_memory: InMemory) -> None:
    full, port = LocalAdmission(1), free_port()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    config = {"http": {"proxy_port": port}, "endpoints": {"livez": "/"}}
    service: bentoml.Service[object] = bentoml.Service("Command", cmd=command, config=config)

    async def scenario() -> list[int]:
        async with in_memory(service, admission=full) as client:
            before = (await client.get("/files")).status_code
            full.enter()
            return [before, *[(await client.get(path)).status_code for path in ("/files", "/readyz")]]

    assert asyncio.run(scenario()) == [404, 429, 200]
