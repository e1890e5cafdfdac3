"""The graph as its exchanges alone: HTTP written by hand, on the loop and the server of the others."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast
from urllib.parse import urlsplit

from starlette.types import Receive, Scope, Send

from . import loops


async def callee(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a constant, what it was sent, or lines."""
    if scope["type"] != "http":
        return
    body = await _read(receive)
    if scope["path"] == "/add":
        await _answer(send, b"3")
    elif scope["path"] == "/count":
        items = int(body)
        await _start(send, items * len(loops.ITEM.format(0)))
        for number in range(items):
            await send(_piece(loops.ITEM.format(number).encode(), more=True))
        await send(_piece(b""))
    else:
        await _answer(send, body)


async def caller(scope: Scope, receive: Receive, send: Send) -> None:
    """Measures its calls, or passes a body on and the answer back."""
    if scope["type"] != "http":
        return
    body = await _read(receive)
    if scope["path"] == "/measure":
        measured = await loops.measure(PEER, **json.loads(body))
        await _answer(send, json.dumps(measured).encode())
    else:
        await _answer(send, await PEER.exchange("/echo", body))


class Peer:
    """The callee, over connections that are kept."""

    def __init__(self, url: str) -> None:
        self._host, _, self._port = urlsplit(url).netloc.partition(":")
        self._idle: list[_Connection] = []

    async def add(self, *, a: int) -> int:
        return int(await self.exchange("/add", b'{"a":%d}' % a))

    async def back(self, *, array: loops.Array) -> loops.Array:
        answer = await self.exchange("/back", array.data.cast("B"))
        return loops.array_like(array, answer)

    async def count(self, *, items: int) -> AsyncIterator[str]:
        connection = await self._take()
        left = await connection.ask("/count", b"%d" % items)
        rest = ""
        while left:
            piece = await connection.receive()
            left -= len(piece)
            *lines, rest = (rest + piece.decode()).split("\n")
            for line in lines:
                yield line + "\n"
        self._idle.append(connection)

    async def exchange(self, path: str, body: bytes | memoryview) -> bytearray:
        connection = await self._take()
        length = await connection.ask(path, body)
        answer = await connection.receive()
        while len(answer) < length:
            answer += await connection.receive()
        self._idle.append(connection)
        return answer

    async def _take(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_lost:
                return connection
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(_Connection, self._host, int(self._port)))[1]


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.is_lost = False
        self._received = bytearray()
        self._wake: Callable[[], None] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._wake()

    async def ask(self, path: str, body: bytes | memoryview) -> int:
        """Send a request; how long the body of its answer is."""
        head = f"POST {path} HTTP/1.1\r\nhost: callee\r\ncontent-length: {len(body)}\r\n\r\n"
        self._transport.writelines([head.encode(), body])
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            await self._more()
        length = self._received[:end].partition(b"content-length: ")[2].partition(b"\r\n")[0]
        del self._received[: end + 4]
        return int(length)

    async def receive(self) -> bytearray:
        """What has come; at least one byte."""
        while not self._received:
            await self._more()
        received, self._received = self._received, bytearray()
        return received

    async def _more(self) -> None:
        if self.is_lost:
            raise ConnectionResetError("the callee ended the connection")
        arrival = asyncio.get_running_loop().create_future()
        self._wake = lambda: None if arrival.done() else arrival.set_result(None)
        await arrival


async def _read(receive: Receive) -> bytes:
    message = await receive()
    pieces: list[bytes] = [message["body"]]
    while message["more_body"]:
        message = await receive()
        pieces.append(message["body"])
    return b"".join(pieces)


async def _answer(send: Send, body: bytes | bytearray) -> None:
    await _start(send, len(body))
    await send(_piece(body))


def _start(send: Send, length: int) -> Awaitable[None]:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]
    return send({"type": "http.response.start", "status": 200, "headers": headers})


def _piece(body: bytes | bytearray, *, more: bool = False) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": more}


PEER = Peer(os.environ.get("CALLEE_URL", "http://127.0.0.1:3000"))
