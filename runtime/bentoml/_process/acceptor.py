"""The connections of one worker, taken from a port that all workers of a replica share."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

log = logging.getLogger("bentoml")

_HESITATION_S: Final = 0.002
"""How long a connection is left to workers that have less to do; one that waits for it takes it at once."""

_MOST_AT_ONCE: Final = 8
"""Connections that are taken at once when others leave one after the other."""

_REST_S: Final = 1.0
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NONE_THERE: Final = frozenset({errno.EAGAIN, errno.EINTR, errno.ECONNABORTED})


class Acceptor:
    """Accepts connections, one at each turn of the loop, and leaves them to workers that have less to do.

    A loop by itself accepts all that wait when it wakes: one worker then has calls that queue up, for as
    long as their connections are kept, and the others have none.

    Args:
        port: listens already.
        protocol: makes the protocol of a connection.
        has_more_to_do: whether another worker has less to do than this one.
        tls: how connections are encrypted; None where they are not.
    """

    def __init__(
        self,
        port: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        has_more_to_do: Callable[[], bool],
        tls: ssl.SSLContext | None,
    ) -> None:
        self._port = port
        self._protocol = protocol
        self._has_more_to_do = has_more_to_do
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._later: asyncio.TimerHandle | None = None
        self._at_once = 1
        self._beginning: set[asyncio.Task[object]] = set()
        port.setblocking(False)
        self._loop.add_reader(port, self._offered)

    @property
    def beginning(self) -> int:
        """Connections that were accepted and have no protocol yet."""
        return len(self._beginning)

    def _offered(self) -> None:
        if self._has_more_to_do():
            self._pause(_HESITATION_S, self._take_what_is_left)
        else:
            self._at_once = 1
            self._take()

    def _take_what_is_left(self) -> None:
        self._listen()
        for _ in range(self._at_once):
            if not self._take():
                break
        self._at_once = min(2 * self._at_once, _MOST_AT_ONCE)

    def _pause(self, seconds: float, then: Callable[[], None]) -> None:
        """Look away: as long as a connection waits, the port says so at every turn."""
        self._loop.remove_reader(self._port)
        self._later = self._loop.call_later(seconds, then)

    def _listen(self) -> None:
        self._later = None
        self._loop.add_reader(self._port, self._offered)

    def _take(self) -> bool:
        try:
            connection, _ = self._port.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                log.error("no connection can be accepted: %s", error.strerror)
                self._pause(_REST_S, self._listen)
            elif error.errno not in _NONE_THERE:
                self._loop.remove_reader(self._port)  # the port was shut: no connection comes any more
            return False
        connection.setblocking(False)
        begin = self._loop.connect_accepted_socket(self._protocol, connection, ssl=self._tls)
        task: asyncio.Task[object] = self._loop.create_task(begin)
        self._beginning.add(task)
        task.add_done_callback(self._begun)
        return True

    def _begun(self, task: asyncio.Task[object]) -> None:
        self._beginning.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.debug("a connection ended before it began: %s", task.exception())  # such as one without TLS

    def close(self) -> None:
        """Take no more; those that were taken go on."""
        if self._later is not None:
            self._later.cancel()
        self._loop.remove_reader(self._port)
        self._port.close()

    async def wait_closed(self) -> None:
        """As a server of asyncio has it, for whoever closes one."""
