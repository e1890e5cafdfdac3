"""Both ends of real sockets, for tests that say byte by byte what happens at the other one."""

from __future__ import annotations

import asyncio
import fcntl
import re
import select
import socket
import struct
import termios
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import uvloop
from tests.runtime.conftest import DEADLINE_S

NewLoop = Callable[[], asyncio.AbstractEventLoop]
LOOPS: dict[str, NewLoop] = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


def run_on(new_loop: NewLoop, test: Coroutine[Any, Any, None]) -> None:
    """Run a test to its end, within the deadline; what goes wrong in a callback fails it too."""
    problems: list[dict[str, Any]] = []
    loop = new_loop()
    loop.set_exception_handler(lambda _, context: problems.append(context))
    try:
        loop.run_until_complete(asyncio.wait_for(test, DEADLINE_S))
        left = asyncio.all_tasks(loop)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    assert (problems, left) == ([], set())


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test on the loop that workers have."""
    run_on(uvloop.new_event_loop, test)


async def turns(count: int) -> None:
    """Let the loop go round, so that whatever is ready is done."""
    for _ in range(count):
        await asyncio.sleep(0)


async def becomes(condition: Callable[[], Any]) -> None:
    """Wait for a condition that something else on this loop brings about."""
    while not condition():  # noqa: ASYNC110  # an event would be one more thing for the code under test to do
        await asyncio.sleep(0.001)


def open_sockets() -> int:
    """How many sockets this process has open."""
    count = 0
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one through which the folder is read
            count += str(file.readlink()).startswith("socket:")
    return count


class Wire:
    """The server's end of one connection.

    Args:
        client: the other end's socket, where it is known: pieces are then sent one at a time.
    """

    def __init__(self, sock: socket.socket, client: socket.socket | None = None) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._client = client
        self._received = b""
        self.sent = 0

    async def receive(self, until: bytes = b"\r\n\r\n") -> bytes:
        """What has come up to these bytes, which are part of it."""
        while until not in self._received:
            piece = await asyncio.get_running_loop().sock_recv(self._sock, 65536)
            if not piece:
                raise EOFError(self._received)
            self._received += piece
        before, _, self._received = self._received.partition(until)
        return before + until

    async def request(self) -> bytes:
        """The head of the next request, once all of the request has come."""
        head = await self.receive()
        length = re.search(rb"content-length: (\d+)", head)
        missing = int(length[1]) if length is not None else 0
        while len(self._received) < missing:
            piece = await asyncio.get_running_loop().sock_recv(self._sock, 65536)
            if not piece:
                raise EOFError(self._received)
            self._received += piece
        self._received = self._received[missing:]
        return head

    async def send(self, *pieces: bytes) -> None:
        """Send pieces, each when the other end has read the one before; stop if it has closed."""
        for piece in pieces:
            view = memoryview(piece)
            while view:
                try:
                    count = self._sock.send(view)
                except BlockingIOError:
                    await asyncio.sleep(0)
                except ConnectionError:
                    return
                else:
                    self.sent += count
                    view = view[count:]
            while self._client is not None and _unread(self._client):  # noqa: ASYNC110  # only the system knows
                await asyncio.sleep(0)

    def push(self, data: bytes) -> None:
        """Send what fits, without a turn of the loop."""
        self._sock.send(data)

    def block_until_noticed(self) -> None:
        """Block the loop until the other end's socket holds something: bytes, or the end."""
        assert self._client is not None
        readable, _, _ = select.select([self._client], [], [], DEADLINE_S)
        assert readable
        time.sleep(0.01)  # what was idle for less is taken to have been heard of

    async def is_left(self) -> bool:
        """Wait until the other end has closed the connection."""
        with suppress(ConnectionError):
            while await asyncio.get_running_loop().sock_recv(self._sock, 65536):
                pass
        return True

    def end(self) -> None:
        """Close it in order, after what was sent."""
        self._sock.close()

    def reset(self) -> None:
        """Close it as a process that is killed does: what is under way is lost."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


def _unread(sock: socket.socket) -> int:
    if sock.fileno() < 0:
        return 0
    count = fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4))
    return int.from_bytes(count, "little")


Conversation = Callable[[Wire], Awaitable[None]]


class Listener:
    """A server that leads one conversation with each client.

    Attributes:
        url: where it listens.
        accepted: connections so far.
        present: connections that neither end has closed.
    """

    def __init__(self, conversation: Conversation, address: tuple[str, int]) -> None:
        self._conversation = conversation
        self._listener = socket.create_server(address)
        self._listener.setblocking(False)
        self._tasks: set[asyncio.Task[None]] = set()
        self.accepted = self.present = 0
        self.address: tuple[str, int] = self._listener.getsockname()
        self.url = "http://{}:{}".format(*self.address)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        self.accepted += 1
        self.present += 1
        self._tasks.add(asyncio.create_task(self._talk(Wire(sock))))

    async def _talk(self, wire: Wire) -> None:
        try:
            with suppress(ConnectionError, EOFError):  # a client may leave at any time
                await self._conversation(wire)
        finally:
            self.present -= 1
            wire.end()

    async def all_left(self) -> None:
        """Wait until all clients that were accepted have left."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self) -> None:
        """Listen no more, and end all conversations."""
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end


@asynccontextmanager
async def listening(
    conversation: Conversation, address: tuple[str, int] = ("127.0.0.1", 0)
) -> AsyncIterator[Listener]:
    listener = Listener(conversation, address)
    try:
        yield listener
    finally:
        await listener.stop()


def response(body: bytes = b"", *, status: str = "200 OK", headers: bytes = b"") -> bytes:
    """An answer as a server sends it; of the headers, each line has its end."""
    return b"HTTP/1.1 %s\r\n%scontent-length: %d\r\n\r\n%s" % (status.encode(), headers, len(body), body)
