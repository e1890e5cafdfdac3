"""A worker's HTTP server on a real port, in this process."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import pytest
import trustme
from starlette.types import Receive, Scope, Send

from bentoml._config import load_config
from bentoml._process.overdue import HEAD_TIMEOUT_S, OverdueHeads
from bentoml._process.server import LARGEST_HEAD, WorkerServer
from bentoml.exceptions import BentoMLConfigException

REQUEST = b"POST /work HTTP/1.1\r\nhost: service\r\ncontent-length: 0\r\n\r\n"


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    if "finish" in scope["state"]:
        scope["state"]["begun"].set()
        await scope["state"]["finish"].wait()
    headers = [(b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": scope["state"].get("word", b"hello")})


class Client:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def response(self) -> str:
        head = await self._reader.readuntil(b"\r\n\r\n")
        return (head + await self._reader.readexactly(5)).decode()

    async def is_closed(self) -> bool:
        return await self._reader.read(1) == b""

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


class Served:
    """A server that runs, and the connections to it."""

    def __init__(self, server: WorkerServer, port: int) -> None:
        self.server = server
        self.clients: list[Client] = []
        self._port = port

    @property
    def connections(self) -> Iterable[object]:
        return self.server.server_state.connections

    async def connect(self, tls: ssl.SSLContext | None = None) -> Client:
        host = "localhost" if tls else "127.0.0.1"
        self.clients.append(Client(*await asyncio.open_connection(host, self._port, ssl=tls)))
        return self.clients[-1]


@asynccontextmanager
async def serving(
    config: Mapping[str, object] = MappingProxyType({}),
    *,
    state: Mapping[str, object] = MappingProxyType({}),
    beat: Callable[[], None] = lambda: None,
) -> AsyncIterator[Served]:
    server = WorkerServer(hello, load_config("Iris", config), beat=beat, grace_s=30)
    port = socket.socket()
    port.bind(("127.0.0.1", 0))
    ready = asyncio.Event()
    served = Served(server, port.getsockname()[1])
    running = asyncio.create_task(server.serve_on(port, dict(state), on_ready=ready.set))
    await ready.wait()
    yield served
    server.drain(0.0)
    for client in served.clients:
        await client.close()
    await running


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def within_a_minute() -> None:
        await asyncio.wait_for(test(), 60)

    asyncio.run(within_a_minute())


def test_a_request_sees_what_the_lifespan_has_made() -> None:
    async def test() -> None:
        async with serving(state={"word": b"howdy"}) as served:
            client = await served.connect()
            await client.send(REQUEST)

            assert (await client.response()).endswith("\r\n\r\nhowdy")

    run(test)


def test_a_server_shows_that_its_loop_runs() -> None:
    async def test() -> None:
        beats = asyncio.Event()
        async with serving(beat=beats.set):
            await beats.wait()

    run(test)


def test_until_a_server_drains_its_connections_stay_open() -> None:
    async def test() -> None:
        async with serving() as served:
            client = await served.connect()
            for _ in range(2):
                await client.send(REQUEST)
                assert "connection:" not in await client.response()

    run(test)


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "kept alive"])
def test_a_server_that_drains_answers_once_more_on_each_connection(is_new: bool) -> None:
    async def test() -> None:
        async with serving() as served:
            client = await served.connect()
            await client.send(REQUEST)
            await client.response()
            served.server.drain(lame_duck_s=60.0)
            client = await served.connect() if is_new else client
            await client.send(REQUEST)

            assert (await client.response()).count("connection: close\r\n") == 1
            assert await client.is_closed()

    run(test)


def test_a_server_that_has_drained_refuses_connections_and_closes_those_that_are_idle() -> None:
    async def test() -> None:
        async with serving() as served:
            client = await served.connect()
            await client.send(REQUEST)
            await client.response()
            served.server.drain(lame_duck_s=0.0)

            assert await client.is_closed()
            with pytest.raises(ConnectionRefusedError):
                await served.connect()

    run(test)


@pytest.mark.parametrize(
    ("requests", "sent"),
    [
        (0, b""),
        (0, b"POST /work HTTP/1.1\r\nhost: ser"),
        (1, b"POST /work HT"),
        (1, b"\r\n"),
    ],
    ids=["nothing", "part of a head", "part of a second head", "a line break after a request"],
)
def test_a_connection_whose_head_is_overdue_is_closed(requests: int, sent: bytes) -> None:
    async def test() -> None:
        async with serving() as served:
            client = await served.connect()
            for _ in range(requests):
                await client.send(REQUEST)
                await client.response()
            await client.send(sent)
            closed = asyncio.create_task(client.is_closed())
            overdue, now = OverdueHeads(), 0.0
            while not closed.done():
                now += 1.0
                overdue.close(served.connections, now)
                await asyncio.sleep(0)

            assert closed.result()
            assert now > HEAD_TIMEOUT_S

    run(test)


def test_a_client_that_is_slow_for_less_than_the_time_allowed_is_waited_for() -> None:
    async def test() -> None:
        async with serving() as served:
            client = await served.connect()
            overdue = OverdueHeads()
            for now in (0.0, HEAD_TIMEOUT_S):
                overdue.close(served.connections, now)
            await client.send(REQUEST)

            assert await client.response()

    run(test)


def test_an_idle_connection_is_left_to_its_own_time() -> None:
    async def test() -> None:
        async with serving() as served:
            client = await served.connect()
            await client.send(REQUEST)
            await client.response()
            overdue = OverdueHeads()
            for now in range(100):
                overdue.close(served.connections, now)
            await client.send(REQUEST)

            assert await client.response()

    run(test)


def test_a_request_that_runs_is_not_overdue() -> None:
    async def test() -> None:
        begun, finish = asyncio.Event(), asyncio.Event()
        async with serving(state={"begun": begun, "finish": finish}) as served:
            client = await served.connect()
            await client.send(REQUEST)
            await begun.wait()
            overdue = OverdueHeads()
            for now in range(100):
                overdue.close(served.connections, now)
            finish.set()

            assert await client.response()

    run(test)


LINE = b"POST /work HTTP/1.1\r\n"


@pytest.mark.parametrize("requests", [0, 1])
@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (LINE, b"name: " + b"x" * 1000 + b"\r\n"),
        (LINE + b"name: ", b"x"),
        (LINE, b"x"),
        (b"POST /", b"x"),
    ],
    ids=["many headers", "a long value", "a long name", "a long path"],
)
def test_a_head_that_is_too_large_is_refused(requests: int, begin: bytes, more: bytes) -> None:
    head = (begin + more * LARGEST_HEAD)[: LARGEST_HEAD + 1]

    async def test() -> None:
        async with serving() as served:
            client = await served.connect()
            for _ in range(requests):
                await client.send(REQUEST)
                await client.response()
            await client.send(head)

            assert (await client.response()).startswith("HTTP/1.1 431 Request Header Fields Too Large\r\n")

    run(test)


@pytest.mark.parametrize("begin", [b"0\r\nname: ", b"1;"], ids=["trailers", "an extension of a chunk"])
def test_what_else_is_buffered_of_a_request_ends_the_connection_when_it_is_too_large(begin: bytes) -> None:
    async def test() -> None:
        begun, finish = asyncio.Event(), asyncio.Event()
        async with serving(state={"begun": begun, "finish": finish}) as served:
            client = await served.connect()
            await client.send(LINE + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
            await begun.wait()
            await client.send((begin + b"x" * LARGEST_HEAD)[: LARGEST_HEAD + 1])

            assert await client.is_closed()
            finish.set()

    run(test)


def test_heads_are_counted_one_by_one() -> None:
    head = LINE + b"name: " + b"x" * (LARGEST_HEAD // 2) + b"\r\n\r\n"

    async def test() -> None:
        async with serving() as served:
            client = await served.connect()
            for _ in range(5):
                await client.send(head)

                assert (await client.response()).startswith("HTTP/1.1 200 OK\r\n")

    run(test)


def test_a_large_body_is_no_head_even_when_it_comes_after_the_answer() -> None:
    size = 10 * LARGEST_HEAD

    async def test() -> None:
        async with serving() as served:
            client = await served.connect()
            await client.send(LINE + b"content-length: %d\r\n\r\n" % size)
            await client.response()
            await client.send(bytes(size) + REQUEST)

            assert (await client.response()).startswith("HTTP/1.1 200 OK\r\n")

    run(test)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> Path:
    """A file with a key and its certificate, for `localhost`."""
    file = tmp_path / "localhost.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(file)
    return file


def test_requests_are_encrypted_where_the_configuration_says_so(
    authority: trustme.CA, certificate: Path
) -> None:
    async def test() -> None:
        trusted = ssl.create_default_context()
        authority.configure_trust(trusted)
        async with serving({"ssl": {"enabled": True, "certfile": str(certificate)}}) as served:
            client = await served.connect(trusted)
            await client.send(REQUEST)

            assert (await client.response()).endswith("\r\n\r\nhello")

    run(test)


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    config = load_config("Iris", {"ssl": {"enabled": True, "certfile": str(tmp_path / "none.pem")}})

    with pytest.raises(BentoMLConfigException, match=r"`ssl`: .*none\.pem: .*No such file"):
        WorkerServer(hello, config, beat=lambda: None, grace_s=30)
