"""Calls to one peer: which replica, for how long, and whether once more."""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import time
from collections.abc import Sequence
from typing import Final

from bentoml._deadline import TIMEOUT_HEADER
from bentoml._peers.connection import Answer, Broken, Buffer, Connection, Late, NotSent
from bentoml._peers.replicas import LONGEST_CONNECT_S, Address, Replica, Replicas
from bentoml.exceptions import BentoMLConfigException, DeadlineExceeded, RemoteException, ServiceUnavailable

_MOST_ATTEMPTS: Final = 4  # of a method that may be called again
_FIRST_PAUSE_S: Final = 0.025
_BUSY: Final = frozenset({429, 502, 503})  # answers after which another attempt may help


class Request:
    """One call, ready to be sent as often as need be.

    Args:
        verb: of HTTP.
        path: of the endpoint, below the peer's base URL; quoted.
        headers: lines, each with its end.
        body: what is sent, in parts.
        timeout_s: seconds that its caller waits.
        is_idempotent: whether it may be sent again when nobody knows if it had its effect.
    """

    __slots__ = ("body", "headers", "is_idempotent", "length", "path", "timeout_s", "verb")

    def __init__(
        self,
        verb: str,
        path: str,
        headers: bytes,
        body: Sequence[Buffer],
        timeout_s: float,
        *,
        is_idempotent: bool = False,
    ) -> None:
        self.verb = verb
        self.path = path
        self.headers = headers
        self.body = body
        self.timeout_s = timeout_s
        self.is_idempotent = is_idempotent
        self.length = sum(map(len, body))


class RetryBudget:
    """How many calls may be sent again: a tenth of all, so that a peer in trouble is not given more of it."""

    _SHARE: Final = 0.1
    _MOST: Final = 10.0

    def __init__(self) -> None:
        self._left = self._MOST

    def earn(self) -> None:
        """Count a call."""
        if self._left < self._MOST:
            self._left += self._SHARE

    def spend(self) -> bool:
        """Whether there is one to be had, which is then taken."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Channel:
    """Calls to one peer, made on one loop.

    Args:
        name: what errors call the peer.
        addresses: its base URLs.
        source: the variable that named them, for errors; empty where the project did.

    Raises:
        BentoMLConfigException: an address is no URL.
    """

    def __init__(self, name: str, addresses: Sequence[str], source: str) -> None:
        try:
            self._replicas = Replicas([Address.of(url) for url in addresses])
        except ValueError as error:
            raise BentoMLConfigException(f"{source or name}: {', '.join(addresses)}: {error}") from None
        self.where = f"{name} at {', '.join(addresses)}" + (f" ({source})" if source else "")
        self._budget = RetryBudget()

    async def call(self, request: Request) -> Answer:
        """The whole answer to a request, whatever its status.

        Raises:
            ServiceUnavailable: no replica can be reached.
            DeadlineExceeded: the time is over.
            RemoteException: the connection ended before the answer did.
        """
        self._budget.earn()
        deadline = time.monotonic() + request.timeout_s
        attempt = 1
        while True:
            answer: Answer | None = None
            problem: Broken | None = None
            replica, connection = await self._connection(request, deadline)
            try:
                left_s = deadline - time.monotonic()
                answer = await connection.exchange(_head(request, replica, left_s), request.body, left_s)
            except NotSent:
                continue
            except Late:
                raise self._late(request) from None
            except Broken as error:
                problem = error
                self._replicas.eject(replica)
            finally:
                replica.release(connection)
            if answer is not None and (answer.status not in _BUSY or not request.is_idempotent):
                return answer
            pause_s = random.uniform(0.5, 1.0) * _FIRST_PAUSE_S * 2**attempt  # noqa: S311  # spreads callers
            is_last = attempt == _MOST_ATTEMPTS or time.monotonic() + pause_s >= deadline
            if not request.is_idempotent or is_last or not self._budget.spend():
                if answer is not None:
                    return answer
                raise self._broken(request, problem)
            attempt += 1
            await asyncio.sleep(pause_s)

    async def open_stream(self, request: Request) -> Stream:
        """The answer to a request as soon as its head is there; its body comes by `read`.

        Raises:
            ServiceUnavailable, DeadlineExceeded, RemoteException: as `call` does.
        """
        self._budget.earn()
        deadline = time.monotonic() + request.timeout_s
        while True:
            replica, connection = await self._connection(request, deadline)
            try:
                left_s = deadline - time.monotonic()
                answer = await connection.open_stream(_head(request, replica, left_s), request.body, left_s)
            except BaseException as error:
                replica.release(connection)
                if isinstance(error, NotSent):
                    continue
                if isinstance(error, Late):
                    raise self._late(request) from None
                if isinstance(error, Broken):
                    self._replicas.eject(replica)
                    raise self._broken(request, error) from None
                raise
            return Stream(self, request, answer, replica, connection)

    async def _connection(self, request: Request, deadline: float) -> tuple[Replica, Connection]:
        """A connection to the replica that is asked next; the caller gives it back to the replica."""
        tried: list[Replica] = []
        problem: OSError | None = None
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise self._not_asked(request, problem)
            try:
                replica = await self._replicas.pick(tried, left_s)
            except TimeoutError:
                raise self._not_asked(request) from None
            except OSError as error:
                raise ServiceUnavailable(f"{self.where} cannot be found: {error}") from None
            if replica is None:
                raise ServiceUnavailable(f"{self.where} cannot be reached: {_words(problem)}")
            try:
                return replica, await replica.acquire(left_s)
            except OSError as error:
                # Nothing was sent: whoever else is there may be asked.
                self._replicas.eject(replica)
                tried.append(replica)
                problem = error
                if isinstance(error, TimeoutError) and left_s <= LONGEST_CONNECT_S:
                    raise self._not_asked(request, problem) from None

    def _not_asked(self, request: Request, problem: OSError | None = None) -> DeadlineExceeded:
        why = f": {_words(problem)}" if problem is not None else ""
        return DeadlineExceeded(
            f"{self.where} was not asked for {request.path}: the time was over before{why}"
        )

    def _late(self, request: Request) -> DeadlineExceeded:
        return DeadlineExceeded(f"{self.where} did not answer {request.path} in time")

    def _broken(self, request: Request, error: Exception | None) -> RemoteException:
        return RemoteException(f"{self.where} ended the connection during {request.path}: {error}")

    def close(self) -> None:
        """Close the connections that are idle; those in use are closed by who uses them."""
        self._replicas.close()


class Stream:
    """An answer that comes in pieces."""

    def __init__(
        self, channel: Channel, request: Request, answer: Answer, replica: Replica, connection: Connection
    ) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self._channel = channel
        self._request = request
        self._replica = replica
        self._connection = connection
        self._is_open = True

    async def read(self, timeout_s: float) -> bytes:
        """The next piece; empty at the end.

        Raises:
            DeadlineExceeded, RemoteException: as of a call.
        """
        if not self._is_open:
            return b""  # its connection may carry another call
        try:
            return await self._connection.read(timeout_s)
        except Late:
            raise self._channel._late(self._request) from None
        except Broken as error:
            raise self._channel._broken(self._request, error) from None

    async def read_all(self, timeout_s: float) -> bytes:
        """All that is left of it.

        Raises:
            DeadlineExceeded, RemoteException: as of a call.
        """
        pieces = []
        while piece := await self.read(timeout_s):
            pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """End it; unless all of it was read, the other side is told that nobody waits for the rest."""
        if self._is_open:
            self._is_open = False
            self._replica.release(self._connection)


def _words(error: OSError | None) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    return os.strerror(error.errno) if error is not None and error.errno else str(error)


def _head(request: Request, replica: Replica, left_s: float) -> bytes:
    """The head of a request. What stands in it comes from addresses and routes, which hold no line ends."""
    address = replica.address
    line = f"{request.verb} {address.path}{request.path} HTTP/1.1\r\nhost: {address.authority}\r\n"
    limits = f"{TIMEOUT_HEADER}: {max(1, int(left_s * 1000))}\r\ncontent-length: {request.length}\r\n"
    return b"%b%b\r\n" % ((line + limits).encode("ascii"), request.headers)
