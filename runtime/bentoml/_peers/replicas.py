"""The addresses at which a peer answers, and the connections to each."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from typing import Final
from urllib.parse import quote, urlsplit

from anyio import fail_after

from bentoml._peers.connection import LONGEST_IDLE_S, Connection

log = logging.getLogger("bentoml")

LONGEST_CONNECT_S: Final = 3.0
"""What a connection may take to be made, where its caller does not give up before."""

_RESOLVE_EVERY_S: Final = 2.0
_FIRST_PROBE_S: Final = 0.05
_LAST_PROBE_S: Final = 1.0
# For so long a replica that ends its connections is asked last: longer than it takes to drain.
_LEAVING_S: Final = 5.0
_MOST_IDLE: Final = 64


@dataclass(frozen=True, kw_only=True)
class Address:
    """A base URL of a peer, taken apart."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> Address:
        """Take it apart; beyond ASCII, as it travels.

        Raises:
            ValueError: its host is no name, or its port no port.
        """
        parts = urlsplit(url)
        default = 443 if parts.scheme == "https" else 80
        return cls(
            scheme=parts.scheme,
            host=(parts.hostname or "").encode("idna").decode("ascii"),
            port=parts.port or default,
            path=quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~"),
        )

    @property
    def is_name(self) -> bool:
        """Whether it is to be resolved."""
        try:
            ip_address(self.host)
        except ValueError:
            return True
        return False

    @cached_property
    def authority(self) -> str:
        """The value of a `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"


class Replica:
    """One IP address of a peer.

    Attributes:
        address: the URL that led here.
        in_flight: calls that were sent and not answered yet.
        is_ejected: whether the last attempt to reach it failed, and it is being probed.
        is_spare: whether it is asked only when no other is left.
    """

    def __init__(self, address: Address, ip: str, *, is_spare: bool) -> None:
        self.address = address
        self.ip = ip
        self.is_spare = is_spare
        self.in_flight = 0
        self.is_ejected = False
        self.is_gone = False
        self._leaves_until = 0.0
        self._idle: deque[Connection] = deque()
        self._sweeper: asyncio.TimerHandle | None = None

    def __str__(self) -> str:
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"{host}:{self.address.port}"

    def rank(self) -> tuple[bool, bool, bool, int]:
        """The lower, the rather it is asked."""
        is_leaving = self._leaves_until > 0 and time.monotonic() < self._leaves_until
        return self.is_ejected, is_leaving, self.is_spare, self.in_flight

    async def acquire(self, timeout_s: float) -> Connection:
        """A connection for one call, which is to be released after it: the one used last, or a new one.

        Raises:
            OSError: as `connect` does.
        """
        self.in_flight += 1
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable():
                return connection
            connection.close()
        try:
            return await self.connect(timeout_s)
        except BaseException:
            self.in_flight -= 1
            raise

    def release(self, connection: Connection) -> None:
        """The call is over: keep its connection for the next one, if it can carry one."""
        self.in_flight -= 1
        if connection.is_ended_by_peer:
            # Between two requests: it may be about to stop.
            self._leaves_until = time.monotonic() + _LEAVING_S
        self.keep(connection)

    async def connect(self, timeout_s: float) -> Connection:
        """A new connection.

        Raises:
            OSError: it cannot be reached; nothing was sent. A `TimeoutError` is one.
        """
        limit_s = min(timeout_s, LONGEST_CONNECT_S)
        family = socket.AF_INET6 if ":" in self.ip else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with fail_after(limit_s):  # before Python 3.12, `wait_for` may lose the cancellation of a caller
                connection = await self._open(sock)
        except TimeoutError as error:
            sock.close()
            raise TimeoutError(f"no connection within {limit_s:.1f} s") from error
        except BaseException:
            sock.close()
            raise
        if not connection.is_free:
            raise ConnectionResetError(errno.ECONNRESET, "it was closed at once")
        return connection

    async def _open(self, sock: socket.socket) -> Connection:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (self.ip, self.address.port))
        is_encrypted = self.address.scheme == "https"
        _, connection = await loop.create_connection(
            lambda: Connection(sock, is_encrypted=is_encrypted),
            sock=sock,
            ssl=self._tls if is_encrypted else None,
            server_hostname=self.address.host if is_encrypted else None,
        )
        return connection

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    def keep(self, connection: Connection) -> None:
        """Keep a connection that nobody uses, if it can carry a call."""
        if self.is_gone or len(self._idle) >= _MOST_IDLE or not connection.is_free:
            connection.close()
        else:
            self._idle.append(connection)
            if self._sweeper is None:
                self._sweeper = asyncio.get_running_loop().call_later(LONGEST_IDLE_S, self._sweep)

    def _sweep(self) -> None:
        """Close what was idle for too long, before the server does."""
        self._sweeper = None
        while self._idle and not self._idle[0].is_usable():
            self._idle.popleft().close()
        if self._idle:
            self._sweeper = asyncio.get_running_loop().call_later(LONGEST_IDLE_S / 2, self._sweep)

    def leave(self) -> None:
        """Close all that is idle; what is in use is closed when it is given back."""
        self.is_gone = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        while self._idle:
            self._idle.pop().close()


class Replicas:
    """All replicas of one peer, for the callers on one loop.

    A name is resolved again and again while it is used, in the background, so that replicas come and go.
    """

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses
        self._names = [address for address in addresses if address.is_name]
        self._replicas: list[Replica] = []
        self._resolved_at = 0.0
        self._turn = 0
        self._resolving: asyncio.Task[None] | None = None
        self._probes: set[asyncio.Task[None]] = set()

    async def pick(self, tried: Sequence[Replica], timeout_s: float) -> Replica | None:
        """The replica to ask next: of those that were not tried, the one with the fewest calls.

        Raises:
            OSError: no address is known, since no name could be resolved. A `TimeoutError` if not in time.
        """
        if not self._replicas:
            with fail_after(timeout_s):
                await self._resolve()
        elif self._names and time.monotonic() - self._resolved_at > _RESOLVE_EVERY_S:
            self._resolve_soon()
        if len(self._replicas) == 1:
            return None if self._replicas[0] in tried else self._replicas[0]
        candidates = [replica for replica in self._replicas if replica not in tried]
        if not candidates:
            return None
        self._turn += 1
        start = self._turn % len(candidates)
        return min(candidates[start:] + candidates[:start], key=Replica.rank)

    def eject(self, replica: Replica) -> None:
        """Ask others until it can be reached again."""
        if not replica.is_ejected:
            replica.is_ejected = True
            task = asyncio.get_running_loop().create_task(self._probe(replica))
            self._probes.add(task)
            task.add_done_callback(self._probes.discard)
        if self._names:
            self._resolve_soon()

    async def _probe(self, replica: Replica) -> None:
        delay_s = _FIRST_PROBE_S
        while not replica.is_gone:
            await asyncio.sleep(delay_s)
            try:
                connection = await replica.connect(LONGEST_CONNECT_S)
            except OSError:
                delay_s = min(2 * delay_s, _LAST_PROBE_S)
            else:
                replica.is_ejected = False
                replica.keep(connection)
                return

    def _resolve_soon(self) -> None:
        if self._resolving is None or self._resolving.done():
            self._resolving = asyncio.get_running_loop().create_task(self._resolve())

    async def _resolve(self) -> None:
        ips: dict[Address, list[str]] = {}
        problem = OSError("no address")
        for address in self._addresses:
            try:
                ips[address] = await _ips_of(address)
            except OSError as error:
                problem = error
                log.debug("%s: %s", address.host, error)
        # From here on nothing waits: callers that resolve side by side have the same replicas in the end.
        known = {(replica.address, replica.ip): replica for replica in self._replicas}
        found: dict[tuple[Address, str], Replica] = {}
        for address in self._addresses:
            # Those that are known go on where a name server does not answer.
            current = ips.get(address) or [ip for of, ip in known if of == address]
            # One that listens on one kind of address only is found all the same, and none is counted twice.
            has_v4 = any(":" not in ip for ip in current)
            for ip in current:
                key = address, ip
                found[key] = known.get(key) or Replica(address, ip, is_spare=has_v4 and ":" in ip)
        if not found:
            raise problem
        for key in known.keys() - found.keys():
            known[key].leave()
        self._replicas = list(found.values())
        self._resolved_at = time.monotonic()

    def close(self) -> None:
        """Close the connections that are idle, and probe no more."""
        for task in self._probes:
            task.cancel()
        if self._resolving is not None:
            self._resolving.cancel()
        for replica in self._replicas:
            replica.leave()


async def _ips_of(address: Address) -> list[str]:
    if not address.is_name:
        return [address.host]
    loop = asyncio.get_running_loop()
    entries = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))
