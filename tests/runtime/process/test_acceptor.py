"""Which of several workers takes a connection from the port that they share."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from bentoml._process.acceptor import Acceptor


class Worker:
    """Takes connections, and is busy with each for as long as it is open."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.open = 0

    def protocol(self) -> asyncio.Protocol:
        worker = self

        class Greeting(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                assert isinstance(transport, asyncio.Transport)
                worker.open += 1
                transport.write(worker.name.encode())

            def connection_lost(self, exc: Exception | None) -> None:
                worker.open -= 1

        return Greeting()


@asynccontextmanager
async def sharing(*names: str, port: socket.socket) -> AsyncIterator[list[Worker]]:
    """Workers on one loop, which sees the port as the loops of several processes would."""
    workers = [Worker(name) for name in names]
    acceptors: list[Acceptor] = []

    def has_more_to_do(number: int) -> Callable[[], bool]:
        def ask() -> bool:
            mine = workers[number].open + acceptors[number].beginning
            others = [other.open for other in workers if other is not workers[number]]
            return min(others, default=mine) < mine

        return ask

    for number, worker in enumerate(workers):
        acceptors.append(Acceptor(port.dup(), worker.protocol, has_more_to_do(number), None))
    yield workers
    for acceptor in acceptors:
        acceptor.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def within_a_minute() -> None:
        await asyncio.wait_for(test(), 60)

    asyncio.run(within_a_minute())


async def taken_by(port: socket.socket) -> tuple[str, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*port.getsockname())
    return (await reader.read(1)).decode(), writer


def test_connections_that_come_at_once_are_spread_over_the_workers() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as port:
            async with sharing("a", "b", "c", "d", port=port):
                taken = await asyncio.gather(*(taken_by(port) for _ in range(8)))

                assert Counter(name for name, _ in taken) == {"a": 2, "b": 2, "c": 2, "d": 2}
                for _, writer in taken:
                    writer.close()

    run(test)


def test_a_worker_that_has_more_to_do_takes_what_nobody_else_takes() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as port:
            busy = Worker("a")
            acceptor = Acceptor(port.dup(), busy.protocol, lambda: True, None)

            name, writer = await taken_by(port)

            assert name == "a"
            writer.close()
            acceptor.close()

    run(test)


def test_a_port_that_was_shut_is_looked_at_no_more() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as port:
            async with sharing("a", port=port):
                port.shutdown(socket.SHUT_RDWR)
                asked = 0
                loop = asyncio.get_running_loop()

                def count() -> None:
                    nonlocal asked
                    asked += 1

                # The loop goes round without anything to do but this.
                for _ in range(10):
                    loop.call_soon(count)
                    await asyncio.sleep(0)
                assert asked == 10

    run(test)
