"""Large frames on a real port: received as a whole, whatever the pieces in which they come."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.runtime.conftest import service_of

import bentoml
from bentoml import codec
from bentoml._config import load_config
from bentoml._environment import DEPENDENTS
from bentoml._process.lifespan import lifespan
from bentoml._process.server import WorkerServer
from bentoml._process.whole_body import AT_ONCE, SMALL, WholeBody
from bentoml._serving.application import Replica, create_app

ARRAY = np.arange(SMALL, dtype=np.float32)  # four times as many bytes
FRAME = b"".join(codec.encode([[ARRAY], {}]))


@bentoml.service(traffic={"max_request_size": 2 * len(FRAME)})
class Adder:
    @bentoml.api
    def add_one(self, array: np.ndarray) -> np.ndarray:
        array += 1  # the array lies in the buffer that was received, and is this call's own
        return array


Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@asynccontextmanager
async def serving(dependents: str = "Top") -> AsyncIterator[Connect]:
    config = load_config("Adder", service_of(Adder).config)
    app = create_app(service_of(Adder), Replica(config=config, environ={DEPENDENTS: dependents}))
    server = WorkerServer(app, config, beat=lambda: None, grace_s=30, largest_frame=app.largest_frame)
    port = socket.create_server(("127.0.0.1", 0))
    ready = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*port.getsockname())
        writers.append(writer)
        return reader, writer

    async with lifespan(app) as state:
        running = asyncio.create_task(server.serve_on(port, state, on_ready=ready.set))
        await ready.wait()
        yield connect
        for writer in writers:
            writer.close()
        server.drain(0.0)
        await running


def head(length: int, content_type: str = codec.MEDIA_TYPE) -> bytes:
    lines = f"POST /add_one HTTP/1.1\r\nhost: a\r\ncontent-type: {content_type}\r\ncontent-length: {length}"
    return f"{lines}\r\n\r\n".encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
    return int(lines[0].split()[1]), await reader.readexactly(length)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def within_a_minute() -> None:
        await asyncio.wait_for(test(), 60)

    asyncio.run(within_a_minute())


def is_right(body: bytes) -> bool:
    return bool((codec.decode(body) == ARRAY + 1).all())


@pytest.mark.parametrize("cut", [1, 100, len(head(len(FRAME))), len(head(len(FRAME))) + 1, len(FRAME) - 1])
def test_a_large_frame_may_come_in_any_pieces(cut: int) -> None:
    async def test() -> None:
        async with serving() as connect:
            reader, writer = await connect()
            request = head(len(FRAME)) + FRAME
            for piece in (request[:cut], request[cut:]):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)  # so that they are not joined on their way; joined, they do no harm

            status, body = await answer(reader)

            assert status == 200
            assert is_right(body)

    run(test)


def test_what_stands_behind_a_large_frame_is_the_next_request() -> None:
    async def test() -> None:
        async with serving() as connect:
            reader, writer = await connect()
            small = b"".join(codec.encode([[ARRAY[:3]], {}]))
            writer.write((head(len(FRAME)) + FRAME) * 2 + head(len(small)) + small)

            statuses = [(await answer(reader))[0] for _ in range(3)]

            assert statuses == [200, 200, 200]

    run(test)


def test_a_frame_that_is_taken_from_nobody_is_refused_before_it_has_come() -> None:
    async def test() -> None:
        async with serving(dependents="") as connect:
            reader, writer = await connect()
            writer.write(head(len(FRAME)) + FRAME[:100])

            assert (await answer(reader))[0] == 415

    run(test)


def test_a_frame_that_is_too_large_is_refused_before_it_has_come() -> None:
    async def test() -> None:
        async with serving() as connect:
            reader, writer = await connect()
            writer.write(head(10**15))

            assert (await answer(reader))[0] == 413

    run(test)


def test_a_peer_that_goes_in_the_middle_of_a_frame_leaves_the_service_as_it_was() -> None:
    async def test() -> None:
        async with serving() as connect:
            _, gone = await connect()
            gone.write(head(len(FRAME)) + FRAME[: SMALL + 1])
            await gone.drain()
            gone.close()
            reader, writer = await connect()
            writer.write(head(len(FRAME)) + FRAME)

            assert is_right((await answer(reader))[1])

    run(test)


def test_a_large_body_that_is_no_frame_is_read_as_ever() -> None:
    async def test() -> None:
        async with serving() as connect:
            reader, writer = await connect()
            body = b'{"array": [' + b", ".join([b"1"] * SMALL) + b"]}"
            writer.write(head(len(body), "application/json") + body)

            assert (await answer(reader))[0] == 200

    run(test)


def test_a_client_that_asks_first_is_told_to_go_on_with_a_large_frame() -> None:
    async def test() -> None:
        async with serving() as connect:
            reader, writer = await connect()
            writer.write(head(len(FRAME)).removesuffix(b"\r\n") + b"expect: 100-continue\r\n\r\n")
            go_on = await reader.readuntil(b"\r\n\r\n")
            writer.write(FRAME)

            assert go_on.startswith(b"HTTP/1.1 100 ")
            assert is_right((await answer(reader))[1])

    run(test)


def nobodys_cycle() -> Any:
    """What a server keeps of one request, as far as a body's receiver looks at it."""
    return SimpleNamespace(response_complete=False, disconnected=False, message_event=asyncio.Event())


def test_memory_is_taken_as_a_frame_comes_and_not_as_it_is_announced() -> None:
    tracemalloc.start()
    try:
        body = WholeBody(nobodys_cycle(), 2**30)
        body.receive(bytes(SMALL))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2 * AT_ONCE


def test_a_frame_for_which_memory_is_taken_more_than_once_is_whole() -> None:
    sent = np.arange(AT_ONCE, dtype=np.uint32).tobytes() + b"end"
    pieces = [sent[at : at + AT_ONCE - 1] for at in range(0, len(sent), AT_ONCE - 1)]
    body = WholeBody(nobodys_cycle(), len(sent))

    behind = [body.receive(piece + b"next" * (piece is pieces[-1])) for piece in pieces]

    assert bytes(asyncio.run(body.read()) or b"") == sent
    assert behind[-1] == b"next"
