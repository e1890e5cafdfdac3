"""The ports of a service, bound before there is anyone to listen on them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from bentoml.exceptions import BentoMLConfigException


@contextmanager
def bound(host: str, port: int, variable: str) -> Iterator[socket.socket]:
    """A socket that is bound and does not listen: until something does, connections are refused.

    Args:
        variable: what sets this port, for the error.

    Raises:
        BentoMLConfigException: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, port))
        except OSError as error:
            raise BentoMLConfigException(
                f"{host}:{port}: {error.strerror}; choose another port with {variable}"
            ) from None
        yield made


class PublicPort:
    """The one socket that all workers accept connections from; the supervisor alone opens and shuts it.

    A socket listens for as long as any process has it open. Shutting it when the last worker is gone, or
    none is to take more, keeps callers from waiting in a queue that nobody empties.

    Args:
        variable: what sets this port, for the error.
    """

    def __init__(self, public: socket.socket, backlog: int, variable: str) -> None:
        self._socket = public
        self._backlog = backlog
        self._variable = variable

    def fileno(self) -> int:
        return self._socket.fileno()

    def open(self) -> None:
        """Let connections come; none are refused from now on.

        Raises:
            BentoMLConfigException: another process listens there, bound as early as this one.
        """
        try:
            self._socket.listen(self._backlog)
        except OSError as error:
            raise BentoMLConfigException(
                f"the port is in use by another process; choose another with {self._variable}"
            ) from error

    def shut(self) -> None:
        """Refuse connections, and reset those that no worker has accepted; the address stays bound."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            # It does not listen; or this is no Linux, and connections wait for the next worker.
            if error.errno != errno.ENOTCONN:
                raise
