"""An ASGI application called in this process: what a server does for one, all but the network."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import httpx

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Scope

T = TypeVar("T")
log = logging.getLogger("bentoml")

_ASGI = {"version": "3.0", "spec_version": "2.3"}
# How long what still runs has once the transport closes: after its response, and where nobody waits for one.
_GRACE_S = 5.0
_SHORT_GRACE_S = 0.5


class ASGITransport(httpx.AsyncBaseTransport):
    """Sends requests to an application on the caller's own loop, and gives its responses piece by piece.

    The first request starts the application, or entering `async with`; closing stops it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._lifespan = _Lifespan(app)
        self._round_trips: set[RoundTrip] = set()

    async def __aenter__(self) -> ASGITransport:
        await self._lifespan.start()
        return self

    async def aclose(self) -> None:
        """Stop the application, after those of its requests that still run."""
        round_trips = list(self._round_trips)
        for round_trip in round_trips:
            await round_trip.aclose()
        await asyncio.gather(*(round_trip.end() for round_trip in round_trips))
        await self._lifespan.stop()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The application's response, as soon as it has begun."""
        return await (await self.begin(request)).response()

    async def begin(self, request: httpx.Request) -> RoundTrip:
        """Hand the request to the application."""
        await self._lifespan.start()
        round_trip = RoundTrip(self._app, request, dict(self._lifespan.state))
        self._round_trips.add(round_trip)
        round_trip.task.add_done_callback(lambda _: self._round_trips.discard(round_trip))
        return round_trip


class BlockingASGITransport(httpx.BaseTransport):
    """Sends requests to an application that runs in a thread of its own until this is closed.

    Raises:
        Exception: whatever the application raises when it starts.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._transport = ASGITransport(app)
        self._loop = _LoopThread()
        try:
            self._loop.run(self._transport.__aenter__())
        except BaseException:
            self._loop.stop()
            raise

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The application's response, as soon as it has begun."""
        request.read()
        round_trip = self._loop.run(self._transport.begin(request))
        response = self._loop.run(round_trip.response())
        response.stream = _BlockingBody(round_trip, self._loop)
        return response

    def close(self) -> None:
        """Stop the application and its thread."""
        if self._loop.is_running:
            try:
                self._loop.run(self._transport.aclose())
            finally:
                self._loop.stop()


@dataclass(frozen=True)
class _End:
    """Comes after an application's last message, with what it raised."""

    error: BaseException | None


class RoundTrip(httpx.AsyncByteStream):
    """One request and the body of its response; the application waits while nobody reads."""

    def __init__(self, app: ASGIApp, request: httpx.Request, state: dict[str, Any]) -> None:
        self._app = app
        self._scope = _scope_of(request, state)
        self._request = _messages_of(request)
        self._read_timeout_s: float | None = request.extensions.get("timeout", {}).get("read")
        self._sent: asyncio.Queue[Message | _End] = asyncio.Queue()
        self._has_room = asyncio.Semaphore(1)  # for one message ahead of the reader
        self._is_complete = False
        self._has_more = True
        self._nobody_listens = asyncio.Event()
        self.task = asyncio.ensure_future(self._run())
        self.task.add_done_callback(self._ended)

    async def response(self) -> httpx.Response:
        """The head of the response, whose body this is."""
        try:
            start = await self._next("http.response.start")
        except BaseException:
            await self.aclose()
            raise
        return httpx.Response(start["status"], headers=start.get("headers", []), stream=self)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self.chunk()) is not None:
            yield chunk

    async def chunk(self) -> bytes | None:
        """The next piece of the body, None after the last."""
        if not self._has_more:
            return None
        message = await self._next("http.response.body")
        self._has_more = message.get("more_body", False)
        return bytes(message.get("body", b""))

    async def aclose(self) -> None:
        """Tell the application that nobody listens any more, as a server does when a connection ends."""
        self._nobody_listens.set()
        self._has_room.release()

    async def end(self) -> None:
        """Return once the application has ended this; it is cancelled if it does not do so by itself."""
        await asyncio.wait({self.task}, timeout=_GRACE_S if self._is_complete else _SHORT_GRACE_S)
        if self.task.cancel():
            await asyncio.wait({self.task}, timeout=_SHORT_GRACE_S)

    async def _next(self, kind: str) -> Message:
        while True:
            try:
                message = await asyncio.wait_for(self._sent.get(), self._read_timeout_s)
            except asyncio.TimeoutError:
                raise httpx.ReadTimeout(f"nothing came within {self._read_timeout_s} s") from None
            self._has_room.release()
            if isinstance(message, _End):
                # A server can only end the connection then.
                why = "failed" if message.error else "returned"
                raise httpx.RemoteProtocolError(f"the application {why} before its response was whole") from (
                    message.error
                )
            if message["type"] == kind:
                return message

    async def _run(self) -> BaseException | None:
        """What the application raised: a task that ends with `SystemExit` would end the loop with it."""
        try:
            await self._app(self._scope, self._receive, self._send)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  # whatever an application raises is the reader's to see
            return error
        return None

    def _ended(self, task: asyncio.Task[BaseException | None]) -> None:
        # In a callback, since a task that was cancelled, by itself too, can say nothing more.
        error = asyncio.CancelledError() if task.cancelled() else task.result()
        if not self._is_complete:
            self._sent.put_nowait(_End(error))
        elif error is not None and not task.cancelled():
            log.error("an application failed after its response", exc_info=error)

    async def _receive(self) -> Message:
        async for message in self._request:
            return message
        await self._nobody_listens.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._nobody_listens.is_set():
            await asyncio.sleep(0)  # one that goes on sending must not keep the loop for itself
            return
        await self._has_room.acquire()
        self._sent.put_nowait(message)
        if message["type"] == "http.response.body":
            self._is_complete = not message.get("more_body", False)
            if self._is_complete:
                self._nobody_listens.set()


def _scope_of(request: httpx.Request, state: dict[str, Any]) -> Scope:
    url = request.url
    return {
        "type": "http",
        "asgi": _ASGI,
        "http_version": "1.1",
        "method": request.method,
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.partition(b"?")[0],
        "query_string": url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": (url.host, url.port),
        "client": ("127.0.0.1", 1),
        "state": state,
    }


async def _messages_of(request: httpx.Request) -> AsyncIterator[Message]:
    last = b""
    async for chunk in cast("httpx.AsyncByteStream", request.stream):
        if last:
            yield {"type": "http.request", "body": last, "more_body": True}
        last = chunk
    yield {"type": "http.request", "body": last, "more_body": False}


class _Lifespan:
    """Starts an application and stops it; both do nothing the second time."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.state: dict[str, Any] = {}
        self._task: asyncio.Task[BaseException | None] | None = None
        self._is_started = asyncio.Event()
        self._has_failed = False
        self._questions: asyncio.Queue[Message] = asyncio.Queue()

    async def start(self) -> None:
        """Return once the application is ready, or knows nothing of being started.

        Raises:
            Exception: whatever the application raises in its start.
        """
        if self._task is None:
            self._questions.put_nowait({"type": "lifespan.startup"})
            self._task = asyncio.ensure_future(self._run())
        await self._is_started.wait()
        if self._has_failed:
            _raise(await self._task)
            raise RuntimeError("the application says that its start failed")

    async def stop(self) -> None:
        """Return once the application has ended.

        Raises:
            Exception: whatever the application raises when it is stopped.
        """
        if self._task is not None and not self._has_failed:
            self._questions.put_nowait({"type": "lifespan.shutdown"})
            _raise(await self._task)

    async def _run(self) -> BaseException | None:
        scope: Scope = {"type": "lifespan", "asgi": _ASGI, "state": self.state}
        try:
            await self._app(scope, self._questions.get, self._send)
        except BaseException as error:  # noqa: BLE001  # raised where somebody waits for it
            # One that raises before it has said anything knows no lifespan: servers go on then.
            if self._is_started.is_set():
                return error
            if not isinstance(error, Exception):
                self._has_failed = True
                return error
        finally:
            self._is_started.set()
        return None

    async def _send(self, message: Message) -> None:
        if not message["type"].startswith("lifespan."):
            raise RuntimeError(f"{message['type']} is no answer to being started")
        self._has_failed = message["type"] == "lifespan.startup.failed"
        self._is_started.set()


def _raise(error: BaseException | None) -> None:
    if isinstance(error, Exception):
        raise error
    if error is not None:
        # In the caller's task it would be that one's cancellation, or the end of its loop.
        raise RuntimeError(f"the application ended with {error!r}") from error


class _LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def main() -> None:
            stopped = asyncio.Event()
            ready.set_result((asyncio.get_running_loop(), stopped))
            await stopped.wait()

        self._thread = threading.Thread(target=lambda: asyncio.run(main()), name="asgi", daemon=True)
        self._thread.start()
        self._loop, self._stopped = ready.result()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Its result, computed in that thread."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # the caller may be interrupted while it waits
            raise

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()


class _BlockingBody(httpx.SyncByteStream):
    """A response's body, read from another thread than its application's."""

    def __init__(self, round_trip: RoundTrip, loop: _LoopThread) -> None:
        self._round_trip = round_trip
        self._loop = loop

    def __iter__(self) -> Iterator[bytes]:
        while (chunk := self._loop.run(self._round_trip.chunk())) is not None:
            yield chunk

    def close(self) -> None:
        if self._loop.is_running:
            self._loop.run(self._round_trip.aclose())
