"""The HTTP server of one worker."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import httptools
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bentoml._config import ServiceConfig
from bentoml._process.acceptor import Acceptor
from bentoml._process.overdue import OverdueHeads
from bentoml._process.task import END_S
from bentoml._process.transport import JoiningTransport
from bentoml._process.whole_body import WholeBody, whole_body
from bentoml._serving.body import WHOLE_BODY
from bentoml.exceptions import BentoMLConfigException

log = logging.getLogger("bentoml")

LARGEST_HEAD = 64 * 1024
"""Bytes of a request without its body, as far as they are buffered until all have come."""

_LAST_WORDS_S = 0.5  # for requests that are cut off
_KEEP_ALIVE_S = 15  # clients close their idle connections well before, and never meet one that is just closed
_PULSE_S = 1.0
_BLOCKED_S = 2.0

_REFUSAL = b'{"error": "the head of the request is larger than %d bytes"}' % LARGEST_HEAD
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_REFUSAL), _REFUSAL)
)


class _Protocol(HttpToolsProtocol):
    _buffered = 0  # bytes since a head was complete or a body went on: of a head, or of trailers
    _whole: WholeBody | None = None  # of the request that is being received

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", JoiningTransport(transport, self.loop)))

    def data_received(self, data: bytes) -> None:
        if self._whole is not None:
            data = self._rest_after(self._whole, data)
            if not data:
                return
        self._buffered += len(data)
        super().data_received(data)
        if self._buffered > LARGEST_HEAD:
            self._refuse()

    def _rest_after(self, whole: WholeBody, data: bytes) -> bytes:
        """What stands behind a body that no parser sees; one that has ended leaves the next request to it."""
        self._unset_keepalive_if_required()
        rest = whole.receive(data)
        if whole.is_complete:
            self._whole = None
            self.parser = httptools.HttpRequestParser(self)
        return rest

    def on_headers_complete(self) -> None:
        self._buffered = 0
        previous = self.cycle
        super().on_headers_complete()
        if self.cycle is not previous:
            self._whole = whole_body(self.cycle, self.headers, cast("_Config", self.config).largest_frame)
            if self._whole is not None:
                self.scope[WHOLE_BODY] = self._whole  # type: ignore[typeddict-unknown-key]

    def on_body(self, body: bytes) -> None:
        self._buffered = 0
        if self._whole is None:
            super().on_body(body)
        else:
            self._whole.receive(body)

    def on_message_complete(self) -> None:
        if self._whole is None:
            super().on_message_complete()
        else:
            self._whole = None

    def _refuse(self) -> None:
        is_answered = self.cycle is None or self.cycle.response_complete
        if is_answered and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
        self.transport.close()


class _Config(uvicorn.Config):
    def __init__(self, app: ASGIApp, largest_frame: int, **options: Any) -> None:
        super().__init__(app, **options)
        self.largest_frame = largest_frame


class WorkerServer(uvicorn.Server):
    """Serves until it is told to drain.

    Args:
        beat: called about every second while the loop runs.
        grace_s: how long it may take from `drain` on, until the application has ended too.
        largest_frame: bytes of a frame that is received as a whole; 0 where no peer sends any.
        least_elsewhere: calls that run in the one of the other workers which runs fewest.

    Raises:
        BentoMLConfigException: a file of `ssl` cannot be used.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: ServiceConfig,
        beat: Callable[[], None],
        grace_s: float,
        *,
        largest_frame: int = 0,
        least_elsewhere: Callable[[], float] = lambda: math.inf,
    ) -> None:
        super().__init__(
            _Config(
                app,
                largest_frame,
                http=_Protocol,
                interface="asgi3",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                # Who is before us is not known here: what it forwards would be anyone's word.
                proxy_headers=False,
                backlog=config.backlog,
                timeout_keep_alive=_KEEP_ALIVE_S,
                **_tls(config),
            )
        )
        try:
            self.config.load()
        except (OSError, ssl.SSLError) as error:
            raise BentoMLConfigException(f"`ssl`: {config.ssl.certfile}: {error}") from error
        self._beat = beat
        self._least_elsewhere = least_elsewhere
        self._requests_s = max(0.0, grace_s - END_S)
        self._finish_at = math.inf
        self._overdue = OverdueHeads()
        self._has_drained = asyncio.Event()

    async def serve_on(
        self, port: socket.socket, state: dict[str, Any], on_ready: Callable[[], None]
    ) -> None:
        """Serve until drained.

        Args:
            port: the socket to accept connections from.
            state: what the application's lifespan has made for its requests.
            on_ready: called when connections are accepted.
        """
        self._state = state
        self._on_ready = on_ready
        await self.serve(sockets=[port])

    def drain(self, lame_duck_s: float) -> None:
        """Take requests for that long, answer each with `Connection: close`, then finish what runs.

        To be told again can make the time shorter.
        """
        close = (b"connection", b"close")
        if close not in self.config.encoded_headers:
            self.config.encoded_headers.append(close)  # of these the default headers are made, every second
            self.server_state.default_headers = [*self.server_state.default_headers, close]
        loop = asyncio.get_running_loop()
        self._finish_at = min(self._finish_at, loop.time() + self._requests_s)
        loop.call_later(lame_duck_s, self._has_drained.set)

    def cut(self) -> None:
        """Drain without waiting for what runs."""
        self.drain(0.0)
        self.force_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.lifespan.state.update(self._state)
        await self.on_tick(0)  # so that the first response has a date too
        [port] = sockets or []
        port.listen(self.config.backlog)
        self._acceptor = Acceptor(port, self._new_protocol, self._has_more_to_do, self.config.ssl)
        self.servers = [cast("asyncio.Server", self._acceptor)]
        self.started = True
        self._pulse = asyncio.create_task(self._keep_pulse())
        self._on_ready()

    def _new_protocol(self) -> asyncio.Protocol:
        return _Protocol(self.config, self.server_state, self.lifespan.state)

    def _has_more_to_do(self) -> bool:
        """Whether another worker runs fewer calls than there are here, with those that are yet to come."""
        return self._least_elsewhere() < self._unanswered() + self._acceptor.beginning

    def _unanswered(self) -> int:
        """Connections whose request is not answered, or has not come."""
        cycles = (getattr(connection, "cycle", None) for connection in self.server_state.connections)
        return sum(cycle is None or not cycle.response_complete for cycle in cycles)

    async def main_loop(self) -> None:
        await self._has_drained.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        left_s = max(0.0, self._finish_at - asyncio.get_running_loop().time())
        self.config.timeout_graceful_shutdown = left_s  # type: ignore[assignment]  # is waited for as it is
        await super().shutdown(sockets)
        tasks = set(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST_WORDS_S)
        self._pulse.cancel()

    async def _keep_pulse(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._beat()
            self._tell_of_a_blocked_loop(loop.time() - due)
            due = loop.time() + _PULSE_S
            await self.on_tick(0)
            self._overdue.close(self.server_state.connections, loop.time())
            await asyncio.sleep(_PULSE_S)

    def _tell_of_a_blocked_loop(self, late_s: float) -> None:
        if late_s > _BLOCKED_S:
            log.warning(
                "the loop was blocked for %.1f s, and this worker answered nobody meanwhile; a method that "
                "waits or computes is better declared `def`, which runs in a thread",
                late_s,
            )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The worker's own handlers tell it to drain.
        yield


def _tls(config: ServiceConfig) -> dict[str, Any]:
    if not config.ssl.enabled:
        return {}
    password = config.ssl.keyfile_password
    return {
        "ssl_certfile": config.ssl.certfile,
        "ssl_keyfile": config.ssl.keyfile,
        "ssl_keyfile_password": None if password is None else password.get_secret_value(),
        "ssl_version": config.ssl.version,
        "ssl_cert_reqs": config.ssl.cert_reqs,
        "ssl_ca_certs": config.ssl.ca_certs,
        "ssl_ciphers": config.ssl.ciphers,
    }
