"""Connections that owe a request: closed when its head does not come in time."""

from __future__ import annotations

from collections.abc import Iterable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S = 10.0
"""For a whole request head, from the connection or from the first bytes on a kept-alive one."""


class OverdueHeads:
    """Finds the connections whose client is slow with the head of a request, and closes them.

    What the protocol knows anyway tells which these are, so that looking at it now and then is enough:
    nothing is added to the path of a request.
    """

    def __init__(self) -> None:
        self._since: dict[HttpToolsProtocol, tuple[object, float]] = {}

    def close(self, connections: Iterable[object], now: float) -> None:
        """Close those that wait for a head since more than the time allowed; call it about every second."""
        since: dict[HttpToolsProtocol, tuple[object, float]] = {}
        for connection in connections:
            if isinstance(connection, HttpToolsProtocol) and _owes_a_request(connection):
                # Each request has a cycle of its own: with another one, it is another wait.
                cycle, began = self._since.get(connection, (None, now))
                if cycle is not connection.cycle:
                    began = now
                since[connection] = (connection.cycle, began)
                if now - began > HEAD_TIMEOUT_S:
                    connection.transport.close()
        self._since = since


def _owes_a_request(connection: HttpToolsProtocol) -> bool:
    is_answered = connection.cycle is None or connection.cycle.response_complete
    # A timer runs only while a kept-alive connection is silent; the first byte stops it.
    return is_answered and connection.timeout_keep_alive_task is None
