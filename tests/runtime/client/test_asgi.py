from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentoml._client.asgi import ASGITransport, BlockingASGITransport

URL = "http://service"
START: Message = {"type": "http.response.start", "status": 200, "headers": []}


def body(data: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def http_only(app: ASGIApp) -> ASGIApp:
    """An application that knows no lifespan, as most that are written by hand."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await app(scope, receive, send)

    return checked


@asynccontextmanager
async def client_of(app: Any, timeout_s: float = 10) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=URL, transport=ASGITransport(app), timeout=timeout_s) as client:
        yield client


def test_an_application_gets_the_request_as_from_a_server() -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        found = [request.method, request.url.path, request.url.query, request.headers["x-y"]]
        await JSONResponse([*found, (await request.body()).decode()], 201)(scope, receive, send)

    async def call() -> httpx.Response:
        async with client_of(app) as client:
            return await client.put("/a%20b?c=d", headers={"X-Y": "z"}, content=b"body")

    response = asyncio.run(call())

    assert (response.status_code, response.json()) == (201, ["PUT", "/a b", "c=d", "z", "body"])


def test_pieces_of_the_body_are_read_while_others_are_made() -> None:
    events: list[str] = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for number in range(10):
            events.append(f"make {number}")
            await send(body(b"%d" % number, more=number < 9))

    async def call() -> None:
        async with client_of(app) as client, client.stream("GET", "/") as response:
            async for chunk in response.aiter_bytes():
                events.append(f"read {chunk.decode()}")

    asyncio.run(call())

    assert events.index("read 0") < events.index("make 9")
    assert [event for event in events if event.startswith("read")] == [f"read {n}" for n in range(10)]


def test_an_application_hears_when_nobody_reads_any_more() -> None:
    heard: list[Message] = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        await send(body(b"first", more=True))
        heard.append(await receive())
        await send(body(b"into nothing", more=True))

    async def call() -> None:
        async with client_of(app) as client, client.stream("GET", "/") as response:
            await anext(response.aiter_bytes())

    asyncio.run(call())

    assert heard == [{"type": "http.disconnect"}]


def test_an_endless_stream_ends_with_its_reader() -> None:
    ended: list[str] = []

    async def numbers() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            ended.append("stream")

    async def call() -> None:
        app = http_only(StreamingResponse(numbers()))
        async with client_of(app) as client, client.stream("GET", "/") as response:
            await anext(response.aiter_bytes())

    asyncio.run(call())

    assert ended == ["stream"]


def test_what_an_application_does_after_its_response_is_waited_for() -> None:
    done: list[str] = []

    async def later() -> None:
        await asyncio.sleep(0.01)
        done.append("later")

    async def call() -> None:
        async with client_of(http_only(PlainTextResponse("now", background=BackgroundTask(later)))) as client:
            assert (await client.get("/")).text == "now"
            assert done == []

    asyncio.run(call())

    assert done == ["later"]


def test_an_error_after_the_response_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("fine")(scope, receive, send)
        raise ValueError("too late")

    async def call() -> str:
        async with client_of(app) as client:
            return (await client.get("/")).text

    with caplog.at_level(logging.ERROR, "bentoml"):
        assert asyncio.run(call()) == "fine"

    assert "ValueError: too late" in caplog.text


@pytest.mark.parametrize("messages", [[], [START], [START, body(b"half", more=True)]])
@pytest.mark.parametrize("raises", [True, False])
def test_a_response_that_is_not_whole_breaks_off(messages: list[Message], raises: bool) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        if raises:
            raise ValueError("inside")

    async def call() -> None:
        async with client_of(app) as client:
            await client.get("/")

    with pytest.raises(httpx.RemoteProtocolError, match="before its response was whole") as caught:
        asyncio.run(call())

    assert isinstance(caught.value.__cause__, ValueError) is raises


async def cancel_itself() -> None:
    awaited = asyncio.ensure_future(asyncio.sleep(3600))
    awaited.cancel()
    await awaited


async def leave_the_interpreter() -> None:
    raise SystemExit(3)


NO_EXCEPTIONS = [(cancel_itself, asyncio.CancelledError), (leave_the_interpreter, SystemExit)]


@pytest.mark.parametrize("messages", [[], [START], [START, body(b"half", more=True)]])
@pytest.mark.parametrize(("fail", "kind"), NO_EXCEPTIONS)
def test_an_application_that_raises_no_exception_breaks_its_response_off_too(
    messages: list[Message], fail: Callable[[], Awaitable[None]], kind: type[BaseException]
) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/fine":
            await PlainTextResponse("fine")(scope, receive, send)
            return
        for message in messages:
            await send(message)
        await fail()

    with httpx.Client(base_url=URL, transport=BlockingASGITransport(app)) as client:
        with pytest.raises(httpx.RemoteProtocolError, match="the application failed before") as caught:
            client.get("/", timeout=20)
        assert client.get("/fine").text == "fine"

    assert isinstance(caught.value.__cause__, kind)


@pytest.mark.parametrize(("fail", "kind"), NO_EXCEPTIONS)
@pytest.mark.parametrize("moment", ["startup", "shutdown"])
def test_an_application_that_ends_with_no_exception_at_its_start_or_stop_says_so(
    moment: str, fail: Callable[[], Awaitable[None]], kind: type[BaseException]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (event := (await receive())["type"]) != f"lifespan.{moment}":
            await send({"type": f"{event}.complete"})
        await fail()

    with pytest.raises(RuntimeError, match="the application ended with") as caught:
        BlockingASGITransport(app).close()

    assert isinstance(caught.value.__cause__, kind)


def test_an_application_that_does_not_answer_times_out() -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await receive()

    async def call() -> None:
        async with client_of(app, timeout_s=0.01) as client:
            await client.get("/")

    with pytest.raises(httpx.ReadTimeout):
        asyncio.run(call())


class Lived:
    """An application that says when it starts and stops, and fails at one of the two if told to."""

    def __init__(self, fails_at: str = "") -> None:
        self.events: list[str] = []
        self._fails_at = fails_at
        self.app = Starlette(lifespan=self._lifespan, routes=[Route("/", self._answer)])

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[dict[str, str]]:
        self._happens("start")
        yield {"made": "at start"}
        self._happens("stop")

    def _happens(self, event: str) -> None:
        self.events.append(event)
        if event == self._fails_at:
            raise ValueError(f"no {event}")

    async def _answer(self, request: Request) -> PlainTextResponse:
        self.events.append(f"answer {request.state.made}")
        return PlainTextResponse("")


def get_sync(app: Any) -> None:
    with httpx.Client(base_url=URL, transport=BlockingASGITransport(app)) as client:
        client.get("/")


def get_async(app: Any) -> None:
    async def get() -> None:
        async with client_of(app) as client:
            await client.get("/")

    asyncio.run(get())


@pytest.mark.parametrize("get", [get_sync, get_async])
def test_an_application_is_started_and_stopped(get: Any) -> None:
    lived = Lived()

    get(lived.app)

    assert lived.events == ["start", "answer at start", "stop"]


@pytest.mark.parametrize("get", [get_sync, get_async])
@pytest.mark.parametrize("moment", ["start", "stop"])
def test_an_application_that_cannot_start_or_stop_says_why(get: Any, moment: str) -> None:
    with pytest.raises(ValueError, match=f"no {moment}"):
        get(Lived(fails_at=moment).app)

    assert "asgi" not in {thread.name for thread in threading.enumerate()}


def test_closing_twice_is_closing_once() -> None:
    lived = Lived()
    transport = BlockingASGITransport(lived.app)

    transport.close()
    transport.close()

    assert lived.events == ["start", "stop"]


def test_a_stream_may_be_read_after_its_client_is_closed_up_to_nothing() -> None:
    client = httpx.Client(base_url=URL, transport=BlockingASGITransport(http_only(PlainTextResponse("body"))))
    response = client.send(client.build_request("GET", "/"), stream=True)

    client.close()

    response.close()
    assert response.is_closed


def test_a_blocking_client_works_in_a_thread_that_has_a_loop_of_its_own() -> None:
    lived = Lived()

    async def call() -> None:
        get_sync(lived.app)

    asyncio.run(call())

    assert lived.events == ["start", "answer at start", "stop"]
