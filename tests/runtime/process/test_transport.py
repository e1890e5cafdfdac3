"""What a connection writes, and in how many pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from bentoml._process.transport import JoiningTransport

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Written:
    """Stands for the transport below: keeps each write."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    def writelines(self, pieces: list[bytes]) -> None:
        self.pieces.append(b"".join(pieces))

    def close(self) -> None:
        self.is_closed = True

    def get_write_buffer_size(self) -> int:
        return 7


def written(*pieces: bytes, close: bool = False, turns: int = 0) -> list[bytes]:
    async def scenario() -> list[bytes]:
        below = Written()
        transport = JoiningTransport(cast("Any", below), asyncio.get_running_loop())
        for piece in pieces:
            transport.write(piece)
        if close:
            transport.close()
        for _ in range(turns):
            await asyncio.sleep(0)
        assert below.is_closed == close
        return below.pieces[:]

    return asyncio.run(scenario())


def test_a_head_is_written_together_with_its_body() -> None:
    assert written(HEAD, b"body", turns=2) == [HEAD + b"body"]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_whatever_holds_bytes_can_be_written(kind: Callable[[bytes], Any]) -> None:
    assert written(kind(HEAD), kind(b"a"), kind(b"b")) == [HEAD + b"a", b"b"]


def test_a_head_that_is_changed_after_it_was_written_is_sent_as_it_was() -> None:
    async def scenario() -> list[bytes]:
        below = Written()
        transport = JoiningTransport(cast("Any", below), asyncio.get_running_loop())
        head = bytearray(HEAD)
        transport.write(head)
        head[:] = bytes(len(head))
        transport.flush()
        return below.pieces

    assert asyncio.run(scenario()) == [HEAD]


def test_a_large_body_is_not_copied_for_that() -> None:
    body = bytes(100_000)

    assert written(HEAD, body) == [HEAD + body]


def test_a_head_without_a_body_is_written_by_the_next_turn() -> None:
    assert written(HEAD) == []
    assert written(HEAD, turns=2) == [HEAD]


def test_the_pieces_of_a_stream_are_written_as_they_come() -> None:
    assert written(HEAD, b"a", b"b") == [HEAD + b"a", b"b"]


def test_responses_that_follow_each_other_stay_in_order() -> None:
    assert written(HEAD, b"a", HEAD, b"b") == [HEAD + b"a", HEAD + b"b"]
    assert written(HEAD, HEAD, b"b") == [HEAD + HEAD, b"b"]


def test_nothing_is_lost_when_the_connection_is_closed() -> None:
    assert written(HEAD, close=True) == [HEAD]


def test_all_else_is_the_transports_own() -> None:
    async def scenario() -> int:
        transport = JoiningTransport(cast("Any", Written()), asyncio.get_running_loop())
        size: int = transport.get_write_buffer_size()
        return size

    assert asyncio.run(scenario()) == 7
