"""One endpoint's requests, message by message: streams, deadlines, and clients that go away."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import AfterValidator
from starlette.background import BackgroundTask
from starlette.responses import StreamingResponse
from starlette.types import Message
from tests.runtime.conftest import Marked, service_of

import bentoml
import bentoml.testing
from bentoml import _deadline as deadline
from bentoml._config import load_config
from bentoml._serving.admission import LocalAdmission
from bentoml._serving.application import Application, Replica, create_app
from bentoml.exceptions import InvalidArgument, RemoteException


class Client:
    """Sends one request to an application, takes its messages, and may leave at any time."""

    def __init__(self, app: Application, path: str, body: Mapping[str, object] | bytes = b"{}") -> None:
        self.app = app
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "scheme": "http",
            "headers": [(b"content-type", b"application/json")], "client": ("127.0.0.1", 1),
            "query_string": b"", "root_path": "", "http_version": "1.1", "asgi": {"version": "3.0"},
            "server": None,
        }  # fmt: skip
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._to_app.put_nowait({"type": "http.request", "body": raw, "more_body": False})
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self.answered = asyncio.ensure_future(app(self._scope, self._to_app.get, self._from_app.put))

    async def message(self) -> Message:
        """The next message of the response."""
        return await asyncio.wait_for(self._from_app.get(), 30)

    async def response(self) -> tuple[int, bytes, bool]:
        """The status, the whole body, and whether the response came to its end."""
        await asyncio.wait_for(self.answered, 30)
        messages = [self._from_app.get_nowait() for _ in range(self._from_app.qsize())]
        bodies = messages[1:]
        is_complete = bool(bodies) and not bodies[-1].get("more_body", False)
        return messages[0]["status"], b"".join(message["body"] for message in bodies), is_complete

    def leave(self) -> None:
        self._to_app.put_nowait({"type": "http.disconnect"})


Scenario = Callable[[Application], Awaitable[Any]]


def served(
    service: Marked, scenario: Scenario, config: Mapping[str, object] | None = None, **replica: Any
) -> Any:
    """What `scenario` returns, run beside the service's application."""

    async def run() -> Any:
        loaded = load_config(service.name, service.config, config or {})
        app = create_app(service_of(service), Replica(config=loaded, environ={}, **replica))
        async with app.lifespan():
            return await scenario(app)

    return asyncio.run(run())


def answer(
    service: Marked,
    path: str,
    body: Mapping[str, object] | bytes = b"{}",
    config: Mapping[str, object] | None = None,
) -> tuple[int, bytes, bool]:
    async def scenario(app: Application) -> tuple[int, bytes, bool]:
        return await Client(app, path, body).response()

    response: tuple[int, bytes, bool] = served(service, scenario, config)
    return response


@bentoml.service
class Streams:
    @bentoml.api
    async def numbers(self, count: int) -> AsyncIterator[dict[str, int]]:
        for number in range(count):
            yield {"n": number}

    @bentoml.api
    def words(self, words: list[str]) -> Iterator[str]:
        yield from words

    @bentoml.api
    async def raw(self) -> AsyncIterator[bytes]:
        yield b"\x00"
        yield b"\xff"

    @bentoml.api
    async def refuse(self) -> AsyncIterator[str]:
        for word in ["today"]:
            raise InvalidArgument(f"not {word}")
        yield "never"

    @bentoml.api
    async def break_off(self) -> AsyncIterator[str]:
        yield "a"
        raise RuntimeError("secret words")

    @bentoml.api
    async def stall(self) -> AsyncIterator[str]:
        yield "a"
        await asyncio.Event().wait()


def test_items_of_a_stream_are_json_documents_a_line_each() -> None:
    assert answer(Streams, "/numbers", {"count": 3}) == (200, b'{"n": 0}\n{"n": 1}\n{"n": 2}\n', True)


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/words", {"words": ["a", "ß"]}, "aß".encode()),
        ("/raw", {}, b"\x00\xff"),
        ("/words", {"words": []}, b""),
    ],
)
def test_text_and_bytes_are_streamed_as_they_are(path: str, body: dict[str, object], expected: bytes) -> None:
    assert answer(Streams, path, body) == (200, expected, True)


def test_every_item_is_sent_as_it_comes() -> None:
    async def scenario(app: Application) -> list[Message]:
        client = Client(app, "/stall")
        return [await client.message(), await client.message()]

    start, first = served(Streams, scenario)

    assert dict(start["headers"])[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert (first["body"], first["more_body"]) == (b"a", True)


def test_an_error_before_the_first_item_has_a_status_of_its_own() -> None:
    status, body, _ = answer(Streams, "/refuse")

    assert (status, json.loads(body)) == (400, {"error": "not today", "type": "InvalidArgument"})


def test_a_stream_that_breaks_has_no_end_and_stands_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    assert answer(Streams, "/break_off") == (200, b"a", False)
    assert "RuntimeError: secret words" in caplog.text


@pytest.mark.parametrize("limit", ["item_timeout", "total_timeout"])
def test_a_stream_that_stalls_is_cut_off(limit: str) -> None:
    assert answer(Streams, "/stall", config={"traffic": {limit: 0.05}}) == (200, b"a", False)


class Log:
    """What has happened in a service, in order, from any thread."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    def __call__(self, entry: str) -> None:
        self.entries.append(entry)

    async def until(self, entry: str) -> None:
        await until(lambda: entry in self.entries)


async def until(condition: Callable[[], bool]) -> None:
    """Returns once `condition` holds; it is looked at again and again, since threads may bring it about."""

    async def look() -> None:
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    await asyncio.wait_for(look(), 30)


def cancellable(log: Log, finish: threading.Event) -> Marked:
    @bentoml.service(threads=1)
    class Cancellable:
        @bentoml.api
        async def wait(self) -> None:
            log("begun")
            try:
                await asyncio.Event().wait()
            finally:
                log("cancelled")

        @bentoml.api
        async def stream(self) -> AsyncIterator[str]:
            try:
                while True:
                    yield "x"
                    log("begun")
                    await asyncio.sleep(0.01)
            finally:
                log("cancelled")

        @bentoml.api
        def block(self) -> None:
            log("begun")
            finish.wait(30)
            log("finished")

        @bentoml.api
        def items(self) -> Iterator[str]:
            try:
                while True:
                    log("begun")
                    yield "x"
            finally:
                log("cancelled")

        @bentoml.api
        async def quick(self) -> int:
            return 1

    return Cancellable


@pytest.mark.parametrize("path", ["/wait", "/stream", "/items"])
def test_a_method_is_cancelled_when_its_client_goes_away(path: str) -> None:
    log = Log()

    async def scenario(app: Application) -> None:
        client = Client(app, path)
        await log.until("begun")
        client.leave()
        await log.until("cancelled")
        await client.answered

    served(cancellable(log, threading.Event()), scenario)

    assert log.entries[-1] == "cancelled"


def test_a_method_is_cancelled_when_its_time_is_over() -> None:
    log = Log()

    async def scenario(app: Application) -> tuple[int, bytes, bool]:
        return await Client(app, "/wait").response()

    service = cancellable(log, threading.Event())
    status, body, _ = served(service, scenario, {"traffic": {"timeout": 0.05}})

    assert (status, log.entries) == (504, ["begun", "cancelled"])
    assert json.loads(body)["error"] == "Not able to process the request in 0.05 seconds"


def test_a_method_in_a_thread_runs_on_and_keeps_its_place_until_it_returns() -> None:
    log, finish = Log(), threading.Event()

    async def scenario(app: Application) -> list[int]:
        late = Client(app, "/block")
        await log.until("begun")
        statuses = [(await late.response())[0]]
        statuses.append((await Client(app, "/quick").response())[0])
        finish.set()
        await until(lambda: not app.admission.running)
        statuses.append((await Client(app, "/quick").response())[0])
        return statuses

    config = {"traffic": {"timeout": 0.05, "max_concurrency": 1}}

    assert served(cancellable(log, finish), scenario, config) == [504, 429, 200]


def test_a_place_is_free_by_the_time_its_response_is_out() -> None:
    admission = LocalAdmission(1)

    async def scenario(app: Application) -> int:
        client = Client(app, "/quick")
        assert (await client.message())["status"] == 200
        return admission.running

    assert served(cancellable(Log(), threading.Event()), scenario, admission=admission) == 0


@bentoml.service
class Odd:
    background: ClassVar[list[str]] = []

    @bentoml.api
    async def long_response(self) -> Any:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(6):
                await asyncio.sleep(0.05)
                yield b"x"

        return StreamingResponse(pieces())

    @bentoml.api
    async def later(self, ctx: bentoml.Context) -> str:
        async def work() -> None:
            await asyncio.sleep(0.2)
            self.background.append("done")

        ctx.response.background = work
        return "x"

    @bentoml.api
    def nothing(self, ctx: bentoml.Context) -> None:
        ctx.response.status_code = 204

    @bentoml.api
    def missing(self) -> Path:
        return Path("/nonexistent/file")

    @bentoml.api
    def split(self, ctx: bentoml.Context) -> str:
        ctx.response.headers["x-name"] = "a\r\nb: c"
        return "x"

    @bentoml.api
    async def leave(self) -> None:
        sys.exit(3)

    @bentoml.api
    def created(self, ctx: bentoml.Context) -> Path:
        ctx.response.status_code = 201
        ctx.response.headers["content-type"] = "video/mp4"
        path = Path(ctx.temp_dir) / "file"
        path.write_bytes(b"x")
        return path

    @bentoml.api
    async def slow_start(self) -> AsyncIterator[str]:
        await asyncio.sleep(0.2)
        while True:
            yield "x"
            await asyncio.sleep(0.05)

    @bentoml.api
    async def is_gone(self, ctx: bentoml.Context) -> bool:
        return bool(await ctx.request.is_disconnected())

    @bentoml.api
    async def own_service(self) -> bool:
        return bentoml.get_current_service() is self

    @bentoml.api
    async def own_cancellation(self) -> None:
        task = asyncio.ensure_future(asyncio.sleep(30))
        task.cancel()
        await task


def test_a_response_of_the_methods_own_takes_the_time_that_its_pieces_take() -> None:
    config = {"traffic": {"timeout": 0.15}}

    assert answer(Odd, "/long_response", config=config) == (200, b"xxxxxx", True)


def test_what_runs_after_the_response_is_not_cut_off() -> None:
    assert answer(Odd, "/later", config={"traffic": {"timeout": 0.1}}) == (200, b"x", True)
    assert service_of(Odd).inner.background == ["done"]


def test_a_response_without_content_has_no_body() -> None:
    async def scenario(app: Application) -> tuple[Message, Message]:
        client = Client(app, "/nothing")
        return await client.message(), await client.message()

    start, body = served(Odd, scenario)

    assert (start["status"], body["body"]) == (204, b"")
    assert not {b"content-length", b"content-type"} & {name for name, _ in start["headers"]}


@pytest.mark.parametrize("path", ["/missing", "/split", "/leave"])
def test_what_goes_wrong_after_the_method_is_the_services_own_failure_too(path: str) -> None:
    status, body, is_complete = answer(Odd, path)

    assert (status, is_complete) == (500, True)
    assert json.loads(body)["error"].startswith("An unexpected error has occurred")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 cannot tell whose cancellation it is")
def test_a_cancellation_of_the_methods_own_is_its_failure() -> None:
    assert answer(Odd, "/own_cancellation")[0] == 500


def test_a_file_has_the_status_and_type_that_its_method_says() -> None:
    async def scenario(app: Application) -> Message:
        client = Client(app, "/created")
        start = await client.message()
        await client.answered
        return start

    start = served(Odd, scenario)

    assert start["status"] == 201
    assert [value for name, value in start["headers"] if name == b"content-type"] == [b"video/mp4"]


def test_a_file_has_its_length_also_where_its_method_says_more_of_it() -> None:
    async def scenario(app: Application) -> Message:
        client = Client(app, "/created")
        start = await client.message()
        await client.answered
        return start

    assert dict(served(Odd, scenario)["headers"])[b"content-length"] == b"1"


def test_a_file_that_was_answered_is_no_failure_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    assert answer(Odd, "/created")[0] == 201

    assert "failed" not in caplog.text


def test_the_total_time_of_a_stream_begins_with_its_request(caplog: pytest.LogCaptureFixture) -> None:
    status, body, is_complete = answer(Odd, "/slow_start", config={"traffic": {"total_timeout": 0.3}})

    assert (status, is_complete) == (200, False)
    assert 1 <= len(body) <= 3
    assert "its response was cut off: `traffic.total_timeout` is over" in caplog.text


def test_a_method_may_ask_whether_its_client_is_still_there() -> None:
    assert answer(Odd, "/is_gone")[:2] == (200, b"false")


def test_a_middleware_may_give_the_body_again_and_again() -> None:
    async def scenario(app: Application) -> tuple[int, bytes]:
        message: Message = {"type": "http.request", "body": b"{}", "more_body": False}
        sent: list[Message] = []

        async def again() -> Message:
            return message

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {**Client(app, "/quick")._scope, "path": "/later"}
        await asyncio.wait_for(app(scope, again, send), 30)
        return sent[0]["status"], sent[1]["body"]

    assert served(Odd, scenario) == (200, b"x")


def test_the_folder_of_a_request_is_there_for_as_long_as_its_method_runs() -> None:
    log, finish = Log(), threading.Event()
    folders: list[Path] = []

    @bentoml.service
    class Writes:
        @bentoml.api
        def write(self, ctx: bentoml.Context) -> None:
            folders.append(Path(ctx.temp_dir))
            log("begun")
            finish.wait(30)
            (folders[0] / "file").write_text("late")
            log("written")

    async def scenario(app: Application) -> int:
        status, _, _ = await Client(app, "/write").response()
        finish.set()
        await until(lambda: not folders[0].exists())
        return status

    assert served(Writes, scenario, {"traffic": {"timeout": 0.05}}) == 504
    assert log.entries == ["begun", "written"]


def test_a_client_that_leaves_in_the_middle_of_its_body_is_answered_nothing() -> None:
    async def scenario(app: Application) -> int:
        client = Client(app, "/quick")
        client._to_app.get_nowait()
        client._to_app.put_nowait({"type": "http.request", "body": b"{", "more_body": True})
        client.leave()
        await client.answered
        return client._from_app.qsize()

    assert served(cancellable(Log(), threading.Event()), scenario) == 0


def test_a_body_that_stalls_is_refused_in_time() -> None:
    async def scenario(app: Application) -> int:
        client = Client(app, "/quick")
        client._to_app.get_nowait()
        client._to_app.put_nowait({"type": "http.request", "body": b"{", "more_body": True})
        return (await client.response())[0]

    service = cancellable(Log(), threading.Event())

    assert served(service, scenario, {"traffic": {"timeout": 0.05}}) == 408


CAN_CHECK = threading.Event()


def _when_it_can(file: Path) -> Path:
    CAN_CHECK.wait(30)
    return file


@bentoml.service
class Checks:
    @bentoml.api
    def keep(self, file: Annotated[Path, AfterValidator(_when_it_can)], /) -> None: ...


@pytest.fixture
def can_check() -> Iterator[threading.Event]:
    CAN_CHECK.clear()
    yield CAN_CHECK
    CAN_CHECK.set()


def test_time_that_runs_out_while_a_file_is_checked_is_not_blamed_on_the_body(
    can_check: threading.Event,
) -> None:
    async def scenario(app: Application) -> int:
        status, _, _ = await Client(app, "/keep").response()
        can_check.set()
        return status

    assert served(Checks, scenario, {"traffic": {"timeout": 0.05}}) == 504


def test_a_client_that_leaves_while_its_file_is_checked_is_waited_for_no_longer(
    can_check: threading.Event,
) -> None:
    async def scenario(app: Application) -> int:
        client = Client(app, "/keep")
        client.leave()
        await asyncio.wait_for(client.answered, 10)
        can_check.set()
        return client._from_app.qsize()

    assert served(Checks, scenario) == 0


FOLDERS: list[Path] = []


def _in_its_folder(file: Path) -> Path:
    FOLDERS.append(file.parent)
    return _when_it_can(file)


@bentoml.service
class ChecksInFolder:
    @bentoml.api
    def keep(self, file: Annotated[Path, AfterValidator(_in_its_folder)], /) -> None: ...


def test_the_folder_of_a_request_is_there_for_as_long_as_its_file_is_checked(
    can_check: threading.Event,
) -> None:
    FOLDERS.clear()

    async def scenario(app: Application) -> bool:
        client = Client(app, "/keep", b"content")
        await until(lambda: bool(FOLDERS))
        client.leave()
        await asyncio.wait_for(client.answered, 10)
        was_there = FOLDERS[0].exists()
        can_check.set()
        await until(lambda: not FOLDERS[0].exists())
        return was_there

    assert served(ChecksInFolder, scenario)


@pytest.mark.parametrize("is_announced", [True, False])
def test_a_body_over_the_limit_is_refused_while_it_is_read(is_announced: bool) -> None:
    async def scenario(app: Application) -> tuple[int, int]:
        client = Client(app, "/quick")
        if is_announced:
            client._scope["headers"] = [(b"content-length", b"3000")]
        client._to_app.get_nowait()
        for _ in range(5):
            client._to_app.put_nowait({"type": "http.request", "body": b" " * 600, "more_body": True})
        status, _, _ = await client.response()
        return status, client._to_app.qsize()

    service = cancellable(Log(), threading.Event())

    # What is announced is not read at all; else two pieces were, of which the second was too much.
    assert served(service, scenario, {"traffic": {"max_request_size": "1000"}}) == (
        413,
        5 if is_announced else 3,
    )


def test_a_method_that_raises_stop_iteration_is_answered() -> None:
    @bentoml.service
    class Searching:
        @bentoml.api
        def first(self, items: list[int]) -> int:
            return next(iter(items))

    with bentoml.testing.client(Searching) as client, pytest.raises(RemoteException):
        client.first([])


def test_what_is_done_after_the_response_is_not_bound_by_the_requests_time() -> None:
    bounds: list[bool] = []

    def note() -> None:
        bounds.append(deadline.remaining_s(1000.0) < 1000.0)

    @bentoml.service
    class Later:
        @bentoml.api
        async def work(self, ctx: bentoml.Context) -> None:
            note()
            ctx.response.background = note

        @bentoml.api
        async def response(self) -> StreamingResponse:
            return StreamingResponse(iter([b"1"]), background=BackgroundTask(note))

    async def both(app: Application) -> None:
        await Client(app, "/work").response()
        await Client(app, "/response").response()

    served(Later, both)

    assert bounds == [True, False, False]
