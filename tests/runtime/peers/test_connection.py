"""One connection, and at its other end a socket that does what each test says."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.peers.wire_ends import LOOPS, Wire, becomes, response, run_on, turns

from bentoml._peers import connection as module
from bentoml._peers.connection import Answer, Broken, Buffer, Connection, Late, NotSent

REQUEST = b"POST /double HTTP/1.1\r\nhost: peer\r\ncontent-length: 0\r\n\r\n"
LONG_S = 60.0
KIB = 1024
LARGE = bytes(range(256)) * 1024

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=LOOPS, scope="session")
def run(request: pytest.FixtureRequest) -> Run:
    return partial(run_on, LOOPS[request.param])


@asynccontextmanager
async def connected(*, buffer: int | None = None) -> AsyncIterator[tuple[Connection, Wire]]:
    """A connection and its other end.

    Args:
        buffer: bytes that the system keeps for each direction, about.
    """
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.socket()
        if buffer is not None:
            for sock in client, listener:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        client.setblocking(False)
        await loop.sock_connect(client, listener.getsockname())
        accepted, _ = listener.accept()
    other = Wire(accepted, client)
    _, connection = await loop.create_connection(lambda: Connection(client, is_encrypted=False), sock=client)
    try:
        yield connection, other
    finally:
        connection.close()
        other.end()
        await turns(3)


def begun(
    connection: Connection, body: Sequence[Buffer] = (), timeout_s: float = LONG_S
) -> asyncio.Task[Answer]:
    return asyncio.create_task(connection.exchange(REQUEST, body, timeout_s))


async def answered(connection: Connection, other: Wire, *pieces: bytes) -> Answer:
    """The answer to a request, of which the other end sends these pieces."""
    call = begun(connection)
    await other.receive()
    await other.send(*pieces)
    return await call


def cut(data: bytes, points: Sequence[int]) -> list[bytes]:
    ends = sorted({point for point in points if 0 < point < len(data)})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


# Whole answers, whatever the pieces


def test_an_answer_has_status_headers_and_body(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            answer = await answered(
                connection,
                other,
                b"HTTP/1.1 404 No\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\ngone",
            )

            assert (answer.status, answer.headers[b"content-type"], bytes(answer.body)) == (
                404,
                b"text/plain",
                b"gone",
            )

    run(test())


def test_the_request_is_written_as_it_was_given(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            call = begun(connection, [b"one", bytearray(b"two"), memoryview(b"three")])

            assert await other.receive(b"three") == REQUEST + b"onetwothree"
            await other.send(response())
            await call

    run(test())


def test_a_request_of_many_megabytes_is_written_whole(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            body = LARGE * 40
            call = begun(connection, [body, b"the end"])

            assert await other.receive(b"the end") == REQUEST + body + b"the end"
            await other.send(response())
            await call

    run(test())


CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n10;name=value\r\n0123456789abcdef\r\n0\r\nx-trailer: 1\r\n\r\n"
)


@settings(max_examples=40, deadline=None)
@given(points=st.lists(st.integers(0, 130), max_size=8))
@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (response(b"a body of some length"), b"a body of some length"),
        (response(), b""),
        (CHUNKED, b"abc0123456789abcdef"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" + response(b"body"), b"body"),
    ],
    ids=["content-length", "empty", "chunked", "after interim answers"],
)
def test_pieces_do_not_matter(run: Run, sent: bytes, body: bytes, points: list[int]) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            answer = await answered(connection, other, *cut(sent, points))

            assert (answer.status, bytes(answer.body), connection.is_usable()) == (200, body, True)

    run(test())


@settings(max_examples=25, deadline=None)
@given(
    size=st.sampled_from([64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 128 * KIB, 256 * KIB]),
    points=st.lists(st.one_of(st.integers(0, 300 * KIB), st.integers(0, 60)), max_size=6),
)
def test_pieces_of_a_large_body_do_not_matter(run: Run, size: int, points: list[int]) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            answer = await answered(connection, other, *cut(response(LARGE[:size]), points))
            again = await answered(connection, other, response(b"next"))

            assert (bytes(answer.body), bytes(again.body)) == (LARGE[:size], b"next")

    run(test())


def test_a_large_chunked_body_comes_whole(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            chunk = b"%x\r\n%s\r\n" % (len(LARGE), LARGE)
            head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            answer = await answered(connection, other, head + chunk * 3 + b"0\r\n\r\n")

            assert answer.body == LARGE * 3

    run(test())


def test_an_answer_without_a_length_ends_with_the_connection(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            call = begun(connection)
            await other.receive()
            await other.send(b"HTTP/1.1 200 OK\r\n\r\n", b"all of it")
            other.end()

            assert (bytes((await call).body), connection.is_free) == (b"all of it", False)

    run(test())


def test_trailers_are_no_headers(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            answer = await answered(connection, other, CHUNKED)

            assert answer.headers == {b"transfer-encoding": b"chunked"}

    run(test())


def test_the_length_of_a_body_that_is_not_sent_makes_none(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            answer = await answered(connection, other, b"HTTP/1.1 304 Same\r\ncontent-length: 100000\r\n\r\n")

            assert answer.body == b""

    run(test())


# Whether the connection carries another request


@pytest.mark.parametrize(
    ("sent", "is_ended"),
    [
        (response(b"ok"), False),
        (response(b"ok", headers=b"connection: close\r\n"), True),
        (response(LARGE, headers=b"connection: close\r\n"), True),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", True),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", False),
    ],
    ids=["HTTP/1.1", "close", "close, large", "HTTP/1.0", "HTTP/1.0 kept alive"],
)
def test_a_connection_is_used_again_unless_its_other_end_says_no(
    run: Run, sent: bytes, is_ended: bool
) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            await answered(connection, other, sent)

            assert (connection.is_ended_by_peer, connection.is_usable()) == (is_ended, not is_ended)

    run(test())


def test_one_that_was_idle_for_long_is_not_used_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            await answered(connection, other, response())
            monkeypatch.setattr(module, "LONGEST_IDLE_S", -1.0)

            assert not connection.is_usable()

    run(test())


def test_one_that_was_closed_while_the_loop_was_blocked_is_not_used_again(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            await answered(connection, other, response())
            other.end()
            other.block_until_noticed()

            assert (connection.is_free, connection.is_usable()) == (True, False)

    run(test())


def test_one_on_which_unasked_bytes_wait_is_not_used_again(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            await answered(connection, other, response(b"asked for"))
            other.push(response(b"not asked for"))
            other.block_until_noticed()

            assert (connection.is_free, connection.is_usable()) == (True, False)

    run(test())


def test_unasked_bytes_close_an_idle_connection(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            await answered(connection, other, response())
            await other.send(response(b"for the next caller"))

            assert await other.is_left()
            assert not connection.is_free

    run(test())


@pytest.mark.parametrize("pieces", [1, 2], ids=["at once", "later"])
@pytest.mark.parametrize("body", [b"ok", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("more", [b"\0garbage", response(b"poison")], ids=["garbage", "an answer"])
def test_what_comes_behind_an_answer_reaches_no_other_call(
    run: Run, pieces: int, body: bytes, more: bytes
) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            call = begun(connection)
            await other.receive()
            whole = response(body)
            await other.send(*([whole + more] if pieces == 1 else [whole, more]))
            with suppress(Broken):
                assert (await call).body == body

            assert await other.is_left()
            assert not connection.is_free

    run(test())


def test_an_answer_that_comes_before_the_request_is_out_is_the_last(run: Run) -> None:
    async def test() -> None:
        async with connected(buffer=64 * KIB) as (connection, other):
            call = begun(connection, [LARGE * 40])
            await other.receive()
            await other.send(response(b"too large", status="413 Too Large"))

            assert (await call).status == 413
            assert await other.is_left()  # the rest of the request is not sent for nobody

    run(test())


# What is no answer


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "it is no HTTP"),
        (b"\0\xff" * 100, "it is no HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "it is no HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", "it is no HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\nab", "it is no HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", "it is no HTTP"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "it is no HTTP"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n", "it is no HTTP"),
        (b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", "it is no HTTP any more"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000000\r\n\r\n", "its answer is larger than 4294"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200 * KIB, "the head of its answer is larger than 65536"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 40 * KIB, "the head of its answer is larger than 65536"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 4 * KIB, "the head of its answer is larger than 65536"),
    ],
    ids=[
        "another protocol", "noise", "a negative length", "two lengths", "two lengths in a line",
        "a length and chunks", "no size of a chunk", "a huge chunk", "an upgrade", "a huge length",
        "a huge header", "many headers", "many interim answers",
    ],
)  # fmt: skip
def test_what_is_no_answer_breaks_the_connection(run: Run, sent: bytes, words: str) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            with pytest.raises(Broken, match=words):
                await answered(connection, other, sent)

            assert await other.is_left()

    run(test())


def test_a_body_without_end_is_not_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(module, "LARGEST_ANSWER", 100 * KIB)
        async with connected() as (connection, other):
            with pytest.raises(Broken, match="its answer is larger than 102400 bytes"):
                await answered(connection, other, b"HTTP/1.1 200 OK\r\n\r\n" + LARGE)

    run(test())


def test_memory_for_a_large_body_is_taken_as_it_comes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(module, "AT_ONCE", 80 * KIB)
        async with connected() as (connection, other):
            answer = await answered(connection, other, response(LARGE))

            assert bytes(answer.body) == LARGE

    run(test())


def test_an_announced_length_takes_no_memory_by_itself(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            tracemalloc.start()
            call = begun(connection)
            await other.receive()
            await other.send(HEAD_OF_SIZE % (3 * 1024**3), LARGE)
            other.end()
            with pytest.raises(Broken):
                await call
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()

            assert peak < 32 * 1024 * KIB

    run(test())


HEAD_OF_SIZE = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"


@pytest.mark.parametrize("size", [10, len(LARGE)], ids=["small", "large"])
@pytest.mark.parametrize(
    "part",
    [b"", b"HTTP/1.1 20", HEAD_OF_SIZE, HEAD_OF_SIZE + b"abc"],
    ids=["before the answer", "within its head", "before its body", "within its body"],
)
@pytest.mark.parametrize("how", [Wire.end, Wire.reset], ids=["closed", "reset"])
def test_a_connection_that_ends_too_early_is_broken(
    run: Run, size: int, part: bytes, how: Callable[[Wire], None]
) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            call = begun(connection)
            await other.receive()
            await other.send(part.replace(b"%d", b"%d" % size))
            how(other)

            with pytest.raises(Broken):
                await call
            assert not connection.is_free

    run(test())


def test_a_chunked_body_that_ends_too_early_is_broken(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            call = begun(connection)
            await other.receive()
            await other.send(CHUNKED[:-2])
            other.end()

            with pytest.raises(Broken, match="it closed the connection"):
                await call

    run(test())


def test_nothing_is_sent_on_a_closed_connection(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, _):
            connection.close()

            with pytest.raises(NotSent):
                await connection.exchange(REQUEST, [], LONG_S)

    run(test())


# Time, and callers that leave

PHASES = {
    "before the answer": b"",
    "within its head": b"HTTP/1.1 200 OK\r\nx-na",
    "before its body": b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
    "within its body": b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
    "within a large body": b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\nabc",
}
phases = pytest.mark.parametrize("part", PHASES.values(), ids=PHASES)


@phases
def test_a_late_answer_closes_the_connection(run: Run, part: bytes) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            call = begun(connection, timeout_s=0.05)
            await other.receive()
            await other.send(part)

            with pytest.raises(Late):
                await call
            assert await other.is_left()

    run(test())


def test_an_other_end_that_never_reads_is_late_too(run: Run) -> None:
    async def test() -> None:
        async with connected(buffer=64 * KIB) as (connection, other):
            with pytest.raises(Late):
                await connection.exchange(REQUEST, [LARGE * 40], 0.05)

            assert await other.is_left()

    run(test())


@phases
def test_a_cancelled_call_closes_the_connection_at_once(run: Run, part: bytes) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            call = begun(connection)
            await other.receive()
            await other.send(part)
            call.cancel()

            assert await other.is_left()
            assert call.cancelled()

    run(test())


def test_a_call_that_is_cancelled_while_its_request_is_sent_closes_the_connection(run: Run) -> None:
    async def test() -> None:
        async with connected(buffer=64 * KIB) as (connection, other):
            call = begun(connection, [LARGE * 40])
            await other.receive()
            call.cancel()

            assert await other.is_left()

    run(test())


def test_a_call_that_is_cancelled_when_its_answer_is_there_is_cancelled_all_the_same(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            call = begun(connection)
            await other.receive()
            other.push(response(b"just now"))
            other.block_until_noticed()
            call.cancel()

            assert await other.is_left()
            assert call.cancelled()

    run(test())


# Streams

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def opened(connection: Connection, other: Wire, *pieces: bytes) -> Answer:
    """The answer to a request once its head is there, of which the other end sends these pieces."""
    call = asyncio.create_task(connection.open_stream(REQUEST, [], LONG_S))
    await other.receive()
    await other.send(*pieces)
    return await call


async def read_all(connection: Connection) -> bytes:
    pieces = []
    while piece := await connection.read(LONG_S):
        pieces.append(piece)
    return b"".join(pieces)


def test_pieces_of_a_stream_are_there_when_they_come(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            stream = await opened(connection, other, STREAM_HEAD)
            first = asyncio.create_task(connection.read(LONG_S))
            await other.send(chunk(b"one"))
            assert (stream.status, await first) == (200, b"one")

            await other.send(chunk(b"two"), chunk(b"three"), b"0\r\n\r\n")
            assert [await connection.read(LONG_S), await connection.read(LONG_S)] == [b"twothree", b""]

    run(test())


@pytest.mark.parametrize("size", [3, 256 * KIB + 1, 600 * KIB])
def test_a_connection_is_used_again_after_the_end_of_a_stream(run: Run, size: int) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            await opened(connection, other, STREAM_HEAD)
            sending = asyncio.create_task(other.send(chunk(bytes(size)) + b"0\r\n\r\n"))
            await turns(30)  # whatever is read ahead has come before the first piece is asked for
            assert len(await read_all(connection)) == size
            await sending

            assert (await answered(connection, other, response(b"next"))).body == b"next"

    run(test())


def test_no_more_of_a_stream_is_read_than_its_reader_takes(run: Run) -> None:
    async def test() -> None:
        async with connected(buffer=64 * KIB) as (connection, other):
            await opened(connection, other, STREAM_HEAD)
            sending = asyncio.create_task(other.send(chunk(LARGE) * 40 + b"0\r\n\r\n"))
            before = -1
            while before != other.sent:  # until it cannot send any more
                before = other.sent
                await turns(50)

            assert other.sent < 1024 * KIB
            assert await read_all(connection) == LARGE * 40
            await sending

    run(test())


def test_a_stream_without_a_length_ends_with_the_connection(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            await opened(connection, other, b"HTTP/1.1 200 OK\r\n\r\n", b"all of it")
            other.end()

            assert await read_all(connection) == b"all of it"
            assert not connection.is_free

    run(test())


def test_interim_answers_come_before_the_head_of_a_stream(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            stream = await opened(
                connection, other, b"HTTP/1.1 100 Continue\r\n\r\n", STREAM_HEAD, chunk(b"one")
            )

            assert (stream.status, await connection.read(LONG_S)) == (200, b"one")

    run(test())


@pytest.mark.parametrize("how", [Wire.end, Wire.reset], ids=["closed", "reset"])
def test_a_stream_that_breaks_off_while_its_reader_waits_is_broken(
    run: Run, how: Callable[[Wire], None]
) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            await opened(connection, other, STREAM_HEAD)
            piece = asyncio.create_task(connection.read(LONG_S))
            await turns(3)
            how(other)

            with pytest.raises(Broken):
                await piece

    run(test())


@pytest.mark.parametrize("how", [Wire.end, Wire.reset], ids=["closed", "reset"])
def test_a_stream_that_breaks_off_while_its_reader_is_busy_does_not_look_complete(
    run: Run, how: Callable[[Wire], None]
) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            await opened(connection, other, STREAM_HEAD, chunk(b"one"))
            how(other)
            await becomes(lambda: connection.is_closed)

            with pytest.raises(Broken):
                await read_all(connection)

    run(test())


def test_a_stream_that_is_no_http_any_more_is_broken(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            await opened(connection, other, STREAM_HEAD, b"no chunk")

            with pytest.raises(Broken, match="it is no HTTP"):
                await read_all(connection)

    run(test())


def test_a_late_piece_of_a_stream_closes_the_connection(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            await opened(connection, other, STREAM_HEAD)

            with pytest.raises(Late):
                await connection.read(0.02)
            assert await other.is_left()

    run(test())


def test_a_reader_that_takes_its_time_is_not_late(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            await opened(connection, other, STREAM_HEAD, chunk(b"one"))
            loop = asyncio.get_running_loop()
            later = loop.create_future()
            await connection.read(0.01)
            loop.call_later(0.03, later.set_result, None)
            await later

            await other.send(chunk(b"two"))
            assert await connection.read(LONG_S) == b"two"

    run(test())


def test_a_cancelled_reader_closes_the_connection_at_once(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            await opened(connection, other, STREAM_HEAD)
            piece = asyncio.create_task(connection.read(LONG_S))
            await turns(3)
            piece.cancel()

            assert await other.is_left()

    run(test())


def test_a_stream_that_is_closed_before_its_end_closes_the_connection(run: Run) -> None:
    async def test() -> None:
        async with connected() as (connection, other):
            await opened(connection, other, STREAM_HEAD, chunk(b"one"))
            connection.close()

            assert await other.is_left()

    run(test())
