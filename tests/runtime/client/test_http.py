"""The two clients, each against the same services."""

from __future__ import annotations

import asyncio
import copy
import gc
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from tests.runtime.client.conftest import (
    INTEGER,
    URL,
    Call,
    RawServer,
    chunked,
    endpoint,
    raw,
    raw_schema,
    service,
    takes,
)
from tests.runtime.conftest import free_port

from bentoml import AsyncHTTPClient, SyncHTTPClient
from bentoml.exceptions import (
    BentoMLException,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    RemoteException,
    ServiceUnavailable,
)

TEXT = {"type": "string"}
STREAM = {**TEXT, "is_stream": True, "media_type": "text/event-stream"}
OBJECTS = {"type": "object", "is_stream": True, "media_type": "text/event-stream"}
FILE = {"type": "file", "format": "binary"}
IMAGE = {"type": "file", "format": "image", "pil": True}
ARRAY = {"type": "tensor", "format": "numpy-array", "dtype": "uint8"}

ServeRaw = Callable[[Mapping[str, bytes]], RawServer]

ADD = endpoint("add", takes=takes(a=INTEGER, b={"type": "integer", "default": 1}), doc="Add two numbers.")


async def add(request: Request) -> int:
    fields = await request.json()
    return int(fields["a"]) + int(fields.get("b", 1))


def test_a_method_calls_its_endpoint(call: Call) -> None:
    assert call(service(ADD, add=add), "add", 1, b=2) == 3


def test_arguments_that_do_not_fit_are_told_before_anything_is_sent(call: Call) -> None:
    with pytest.raises(TypeError, match=r"add\(\) misses `a`: add\(a: integer, b: integer = 1\)"):
        call(service(ADD, add=add), "add")


def test_arrays_go_and_come_as_such(call: Call) -> None:
    async def double(request: Request) -> list[int]:
        return [2 * item for item in (await request.json())["x"]]

    app = service(endpoint("double", takes=takes(x=ARRAY), returns=ARRAY), double=double)

    np.testing.assert_array_equal(call(app, "double", np.arange(3)), np.array([0, 2, 4], np.uint8))


def test_images_and_files_go_in_a_form(call: Call) -> None:
    async def describe(request: Request) -> list[object]:
        async with request.form() as form:
            parts: list[Any] = [form["image"], *form.getlist("files")]
            return [form["note"], *((part.filename, part.content_type, part.size) for part in parts)]

    many = {"type": "array", "items": FILE}
    app = service(
        endpoint("describe", takes=takes(image=IMAGE, files=many, note=TEXT), returns={}), describe=describe
    )

    note, image, *files = call(app, "describe", Image.new("L", (1, 1)), [b"a", b"bc"], note="5")

    assert (note, image[:2]) == ('"5"', ["image.png", "image/png"])
    assert files == [["file", "application/octet-stream", 1], ["file", "application/octet-stream", 2]]


def test_an_image_comes_as_one(call: Call) -> None:
    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type="image/png")

    app = service(endpoint("echo", takes={**IMAGE, "root_input": True}, returns=IMAGE), echo=echo)

    assert call(app, "echo", Image.new("RGB", (2, 3))).size == (2, 3)


def test_a_file_comes_as_a_path_while_its_client_lives(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_bytes(b"text" * 100_000)
    app = service(
        endpoint("report", returns=FILE),
        report=lambda _: FileResponse(tmp_path / "out.txt", filename="out.txt"),
    )
    client = SyncHTTPClient(URL, app=app)

    path = client.report()

    client.close()
    assert (path.name.endswith("-out.txt"), path.read_bytes()) == (True, b"text" * 100_000)
    del client
    gc.collect()
    assert not path.exists()


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, InvalidArgument), (404, NotFound), (500, RemoteException), (503, ServiceUnavailable)],
)
def test_an_error_is_raised_with_the_words_of_the_service(
    call: Call, status: int, kind: type[Exception]
) -> None:
    app = service(endpoint("f"), f=lambda _: Response(b'{"error": "why"}', status))

    with pytest.raises(kind, match=r"^why\nIn http://service/f$"):
        call(app, "f")


def test_a_result_that_the_schema_does_not_allow_is_told_with_its_endpoint(call: Call) -> None:
    app = service(endpoint("f", returns=ARRAY), f=lambda _: ["text"])

    with pytest.raises(RemoteException, match=r"http://service/f: the result is not what the schema says"):
        call(app, "f")


@pytest.mark.parametrize("name", ["close", "call", "request", "is_ready", "__class__", "_http"])
def test_an_endpoint_leaves_the_names_of_the_client_alone(call: Call, name: str) -> None:
    app = service(endpoint(name, route="/it"), answers={name: lambda _: 5})

    assert call(app, f"api_{name}") == 5
    assert call(app, "call", name) == 5


def test_what_is_no_endpoint_is_told_with_those_that_are() -> None:
    with SyncHTTPClient(URL, app=service(ADD, endpoint("f"), add=add, f=lambda _: 1)) as client:
        with pytest.raises(AttributeError) as caught:
            client.g()
        with pytest.raises(NotFound, match=r"http://service has no endpoint 'g'; its endpoints: add, f"):
            client.call("g")

    assert (
        str(caught.value) == "<SyncHTTPClient of http://service> has no endpoint 'g'; its endpoints: add, f"
    )


def test_a_method_says_what_it_takes() -> None:
    with SyncHTTPClient(URL, app=service(ADD, add=add)) as client:
        method = client.add

    assert (method.__name__, method.__doc__) == ("add", "add(a: integer, b: integer = 1)\n\nAdd two numbers.")
    assert repr(method) == "<add(a: integer, b: integer = 1) of http://service>"


def test_any_request_may_be_sent(call: Call) -> None:
    app = service(ADD, add=add)

    assert call(app, "request", "POST", "/add", json={"a": 2}).json() == 3
    assert call(app, "request", "GET", "/nowhere").status_code == 404


def test_a_client_says_whether_its_service_is_ready(call: Call) -> None:
    app = service(ADD, add=add)
    prefixed = service(ADD, prefix="/v1", add=add)

    assert call(app, "is_ready", timeout=1) is True
    assert call(prefixed, "is_ready") is True


def test_a_client_that_nothing_was_made_of_fails_plainly() -> None:
    with pytest.raises(AttributeError):
        _ = SyncHTTPClient.__new__(SyncHTTPClient).add
    with pytest.raises(AttributeError):
        copy.copy(AsyncHTTPClient.__new__(AsyncHTTPClient)).__deepcopy__()


def pieces(*chunks: bytes) -> Callable[[Request], Response]:
    async def made() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return lambda _: StreamingResponse(made(), media_type="text/event-stream")


def test_a_stream_is_read_item_by_item_whatever_its_pieces(call: Call) -> None:
    app = service(
        endpoint("words", returns=STREAM),
        endpoint("objects", returns=OBJECTS),
        words=pieces(b"one ", b"tw\xc3", b"\xb6"),
        objects=pieces(b'{"a": 1}{"a"', b': "}"}\n{', b'"a": 3}'),
    )

    assert call(app, "words") == ["one ", "tw", "ö"]
    assert call(app, "objects") == [{"a": 1}, {"a": "}"}, {"a": 3}]


def test_arguments_of_a_stream_are_looked_at_before_its_first_item() -> None:
    app = service(endpoint("words", takes=takes(n=INTEGER), returns=STREAM), words=pieces())

    with SyncHTTPClient(URL, app=app) as client, pytest.raises(TypeError, match="misses `n`"):
        client.words()


def test_a_stream_that_is_refused_says_why(call: Call) -> None:
    app = service(endpoint("words", returns=STREAM), words=lambda _: Response(b'{"error": "too many"}', 400))

    with pytest.raises(InvalidArgument, match="too many"):
        call(app, "words")


class Endless:
    """A service with an endless stream, and a note of how its responses ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.app = service(endpoint("words", returns=STREAM), words=self._answer)

    def _answer(self, request: Request) -> Response:
        return StreamingResponse(self._words(), media_type="text/event-stream")

    async def _words(self) -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
        finally:
            self.ended.append("words")


def test_an_iterator_that_is_closed_ends_its_response() -> None:
    endless = Endless()

    with SyncHTTPClient(URL, app=endless.app) as client:
        words: Any = client.words()
        next(words)
        words.close()

    assert endless.ended == ["words"]


def test_an_async_iterator_that_is_closed_ends_its_response() -> None:
    endless = Endless()

    async def read() -> None:
        async with AsyncHTTPClient(URL, app=endless.app) as client, aclosing(client.words()) as words:
            await anext(words)

    asyncio.run(read())

    assert endless.ended == ["words"]


def serves(**answers: bytes) -> dict[str, bytes]:
    """Answers of a server that is ready, and has endpoints of these names that stream."""
    schemas = {"words": STREAM, "objects": OBJECTS}
    endpoints = [endpoint(name, returns=schemas.get(name, INTEGER)) for name in answers]
    routes = {f"/{name}": answer for name, answer in answers.items()}
    return {"/readyz": raw(b"\n"), "/schema.json": raw_schema(*endpoints), **routes}


@pytest.fixture(params=["sync", "async"])
def read(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    """Calls an endpoint over a real connection, and gives what came and what was raised, in order."""

    def read_sync(url: str, name: str, **options: Any) -> list[Any]:
        found: list[Any] = []
        try:
            with SyncHTTPClient(url, **options) as client:
                result = getattr(client, name)()
                for item in result if isinstance(result, Iterator) else [result]:
                    found.append(item)
        except BentoMLException as error:
            found.append(error)
        return found

    async def read_async(url: str, name: str, **options: Any) -> list[Any]:
        found: list[Any] = []
        try:
            async with AsyncHTTPClient(url, **options) as client:
                result = getattr(client, name)()
                if hasattr(result, "__aiter__"):
                    async for item in result:
                        found.append(item)
                else:
                    found.append(await result)
        except BentoMLException as error:
            found.append(error)
        return found

    if request.param == "sync":
        return read_sync
    return lambda *args, **options: asyncio.run(read_async(*args, **options))


@pytest.mark.parametrize(
    ("name", "chunks", "items"),
    [
        ("words", [b"one ", b"tw\xc3"], ["one ", "tw"]),
        ("words", [b"one "], ["one "]),
        ("words", [], []),
        ("objects", [b'{"a": 1}{"a": '], [{"a": 1}]),
        ("objects", [b'{"a": 1}'], [{"a": 1}]),
    ],
)
def test_a_stream_that_is_cut_off_raises_after_its_items(
    raw_server: ServeRaw, read: Callable[..., list[Any]], name: str, chunks: list[bytes], items: list[Any]
) -> None:
    server = raw_server(serves(**{name: chunked(*chunks, ends=False)}))

    *came, error = read(server.url, name)

    assert came == items
    assert isinstance(error, RemoteException)
    assert str(error).startswith(f"{server.url}/{name} gave no whole answer: ")


@pytest.mark.parametrize(("name", "data"), [("words", b"tw\xc3"), ("objects", b'{"a": ')])
def test_a_stream_that_ends_inside_an_item_raises(
    raw_server: ServeRaw, read: Callable[..., list[Any]], name: str, data: bytes
) -> None:
    server = raw_server(serves(**{name: chunked(data, ends=True)}))

    error = read(server.url, name)[-1]

    assert isinstance(error, RemoteException)
    assert str(error).startswith(f"{server.url}/{name}: ")


def test_an_answer_that_is_cut_off_is_told(raw_server: ServeRaw, read: Callable[..., list[Any]]) -> None:
    server = raw_server(serves(add=b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12"))

    (error,) = read(server.url, "add")

    assert isinstance(error, RemoteException)
    assert "gave no whole answer" in str(error)


def test_no_call_is_sent_twice(raw_server: ServeRaw, read: Callable[..., list[Any]]) -> None:
    server = raw_server(serves(add=b""))

    read(server.url, "add")

    assert [line.split()[1] for line in server.requests] == [b"/readyz", b"/schema.json", b"/add"]


def test_a_token_is_sent_to_the_service(raw_server: ServeRaw, read: Callable[..., list[Any]]) -> None:
    server = raw_server(serves(add=raw(b"3")))

    assert read(server.url, "add", token="secret") == [3]
    assert all(b"authorization: bearer secret" in head.lower() for head in server.requests)


def test_a_redirect_is_followed_and_takes_the_token_nowhere_else(
    raw_server: ServeRaw, read: Callable[..., list[Any]]
) -> None:
    elsewhere = raw_server({"/add": raw(b"7")})
    moved = raw(b"", status="307 Temporary Redirect", more=f"location: {elsewhere.url}/add\r\n")
    server = raw_server(serves(add=moved))

    assert read(server.url, "add", token="secret") == [7]
    assert b"secret" not in b"".join(elsewhere.requests)


def test_a_redirect_without_end_is_told(raw_server: ServeRaw, read: Callable[..., list[Any]]) -> None:
    server = raw_server(serves(add=raw(b"", status="307 Temporary Redirect", more="location: /add\r\n")))

    (error,) = read(server.url, "add")

    assert isinstance(error, RemoteException)


@pytest.mark.parametrize("request_url", ["/elsewhere", "{elsewhere}/path"])
def test_a_token_goes_with_requests_to_the_service_only(raw_server: ServeRaw, request_url: str) -> None:
    elsewhere = raw_server({})
    server = raw_server(serves(add=raw(b"3")))

    with SyncHTTPClient(server.url, token="secret") as client:
        client.request("GET", request_url.format(elsewhere=elsewhere.url))

    assert b"secret" not in b"".join(elsewhere.requests)


def test_a_service_that_is_not_there_is_told(read: Callable[..., list[Any]]) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    (first,) = read(url, "add", server_ready_timeout=0.05)
    (second,) = read(url, "add", server_ready_timeout=0)

    assert isinstance(first, ServiceUnavailable)
    assert str(first).startswith(f"{url} was not ready within 0.05 seconds: ")
    assert isinstance(second, ServiceUnavailable)
    assert str(second).startswith(f"{url} cannot be reached: ")


def test_a_service_that_goes_away_is_told() -> None:
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.path)
        if request.url.path == "/add":
            raise httpx.ConnectError("connection refused")
        return httpx.Response(200, json={"routes": [ADD]})

    with (
        SyncHTTPClient(URL, transport=httpx.MockTransport(answer)) as client,
        pytest.raises(ServiceUnavailable, match="http://service cannot be reached: connection refused"),
    ):
        client.add(1)

    assert sent == ["/readyz", "/schema.json", "/add"]


def test_an_answer_that_does_not_come_in_time_is_told() -> None:
    async def never(request: Request) -> int:
        await asyncio.Event().wait()
        return 1

    with (
        SyncHTTPClient(URL, app=service(endpoint("add"), add=never), timeout=0.2) as client,
        pytest.raises(DeadlineExceeded, match="http://service/add did not answer in time"),
    ):
        client.add()


def test_a_path_of_the_url_is_put_before_routes_once() -> None:
    whole = endpoint("whole", route="/v1/whole")
    app = service(whole, prefix="/v1", whole=lambda _: 5)

    with SyncHTTPClient("http://service/v1", app=app) as client:
        assert client.whole() == 5


def test_an_async_client_asks_what_the_endpoints_are_on_its_first_call() -> None:
    app = service(
        ADD,
        endpoint("words", returns=STREAM),
        endpoint("close"),
        add=add,
        words=pieces(b"a"),
        close=lambda _: 9,
    )

    async def calls() -> list[Any]:
        client = AsyncHTTPClient(URL, app=app)
        late = [client.add(1), client.words(), client.api_close(), client.call("add", 2)]
        words = [item async for item in late[1]]
        results = await asyncio.gather(late[0], late[2], late[3])
        later = await client.add(3)
        await client.close()
        return [words, *results, later]

    assert asyncio.run(calls()) == [["a"], 2, 9, 3, 4]


def test_an_async_client_says_on_its_first_call_what_is_no_endpoint() -> None:
    async def call() -> None:
        client = AsyncHTTPClient(URL, app=service(ADD, add=add))
        try:
            await client.nothing()
        finally:
            await client.close()

    with pytest.raises(AttributeError, match="has no endpoint 'nothing'; its endpoints: add"):
        asyncio.run(call())


def test_a_first_call_that_fails_is_made_again_by_the_next() -> None:
    replies = iter(
        [httpx.Response(500), httpx.Response(200, json={"routes": [ADD]}), httpx.Response(200, json=3)]
    )

    async def calls() -> Any:
        transport = httpx.MockTransport(lambda _: next(replies))
        client = AsyncHTTPClient(URL, transport=transport, server_ready_timeout=0)
        with pytest.raises(RemoteException):
            await client.add(1)
        result = await client.add(1)
        await client.close()
        return result

    assert asyncio.run(calls()) == 3


def test_calls_of_an_async_client_run_at_once() -> None:
    met: list[Request] = []

    async def calls() -> list[Any]:
        all_there = asyncio.Event()

        async def meet(request: Request) -> int:
            met.append(request)
            if len(met) == 3:
                all_there.set()
            await all_there.wait()
            return len(met)

        async with AsyncHTTPClient(URL, app=service(endpoint("meet"), meet=meet)) as client:
            return list(await asyncio.gather(client.meet(), client.meet(), client.meet()))

    assert asyncio.run(calls()) == [3, 3, 3]


def test_a_client_loads_no_package_that_its_service_does_not_speak_of(
    in_new_python: Callable[[str], str],
) -> None:
    program = """
import sys, httpx, bentoml

def answer(request):
    routes = [{"name": "f", "route": "/f", "input": {"properties": {"a": {}}}, "output": {}}]
    return httpx.Response(200, json={"routes": routes})

with bentoml.SyncHTTPClient("http://service", transport=httpx.MockTransport(answer)) as client:
    assert client.f(a=[1, "b", None])["routes"]
print(sorted({"numpy", "PIL", "pandas", "torch", "fastapi", "starlette", "uvicorn"} & set(sys.modules)))
"""

    assert in_new_python(program) == "[]"
