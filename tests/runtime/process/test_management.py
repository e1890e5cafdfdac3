"""The management port, in this process."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from bentoml._process.management import ManagementServer


class Healthy:
    is_live = is_ready = True


def is_held_up(server: ManagementServer) -> bool:
    """Whether some client leaves its answers unread, as far as the server can tell."""
    connections: set[Any] = set(server.server_state.connections)
    return any(connection.flow.write_paused for connection in connections)


def small(option: int) -> socket.socket:
    """A socket that little fits into."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, option, 4096)
    made.setblocking(False)
    return made


def test_a_client_that_does_not_read_is_not_waited_for() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        with small(socket.SO_SNDBUF) as port, small(socket.SO_RCVBUF) as client:
            port.bind(("127.0.0.1", 0))
            port.listen()
            server = ManagementServer(Healthy(), metrics=None)
            serving = asyncio.create_task(server.serve(sockets=[port]))
            await loop.sock_connect(client, port.getsockname())
            request = b"GET /livez HTTP/1.1\r\nhost: service\r\n\r\n"
            sending = asyncio.create_task(loop.sock_sendall(client, request * 100_000))
            while not is_held_up(server):  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0)
            server.should_exit = True

            await asyncio.wait_for(serving, 20)
            sending.cancel()
            await asyncio.wait({sending})

    asyncio.run(test())
