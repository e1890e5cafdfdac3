"""Who sees every request of an application: its metrics, its access log, its traces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from starlette.types import Message, Receive, Scope, Send

from bentoml import _environment as environment
from bentoml._config import AccessLog as AccessLogConfig
from bentoml._config import Metrics, ServiceConfig
from bentoml._service import Service
from bentoml._serving.access_log import AccessLog
from bentoml._serving.exchange import Exchange
from bentoml._serving.metrics import RequestMetrics
from bentoml._serving.tracing import make_tracer

# One value for all that nothing answers: a label for every path that somebody tries would have no bound.
_UNMATCHED: Final = "unmatched"


class ServiceObserver:
    """Counts, logs and traces the requests of one application."""

    def __init__(
        self, service: Service[Any], config: ServiceConfig, environ: Mapping[str, str], worker_index: int
    ) -> None:
        self._metrics = _metrics(service, config.metrics, environ, worker_index)
        self._log = _access_log(service, config.logging.access)
        self._tracer = make_tracer(service.name, config.tracing)

    def begin(self, scope: Scope, send: Send, route: str) -> Exchange:
        span = self._tracer.begin(
            scope["method"], route, scope["headers"], scheme=scope["scheme"], path=scope["path"]
        )
        if self._metrics is not None:
            self._metrics.begin(route or _UNMATCHED)
        return Exchange(scope, send, route, span)

    def end(self, exchange: Exchange) -> None:
        if exchange.is_over:
            # Perhaps in a task that its response ran in: to this one it is the current request still.
            exchange.span.leave()
            return
        exchange.is_over = True
        seconds = time.perf_counter() - exchange.begun
        # A client that went before there was a response has none; the number is the one that others log too.
        status = exchange.status or 499
        if self._metrics is not None:
            self._metrics.record(exchange.route or _UNMATCHED, status, seconds)
        self._tell(exchange, status, seconds)

    def _tell(self, exchange: Exchange, status: int, seconds: float) -> None:
        if self._log is not None:
            self._log.write(exchange.scope, status, exchange.response_headers, seconds, exchange.span.context)
        self._tracer.end(exchange.span, status, exchange.error)
        # An error holds the frames that it went through, one of which holds the exchange: without this circle
        # all of a request is freed as it ends, and not by some later collection.
        exchange.error = None

    def forget(self, exchange: Exchange) -> None:
        self._tracer.abandon(exchange.span)
        if self._metrics is not None:
            self._metrics.abandon(exchange.route or _UNMATCHED)

    def batch(self, endpoint: str, size: int) -> None:
        if self._metrics is not None:
            self._metrics.record_batch(endpoint, size)

    @contextmanager
    def websocket(
        self, scope: Scope, receive: Receive, send: Send, route: str
    ) -> Iterator[tuple[Receive, Send]]:
        """Count a connection while it is open, and its messages; log and trace it once it has ended."""
        scope = {**scope, "method": "GET"}  # of its handshake, which ASGI leaves out
        span = self._tracer.begin(
            scope["method"], route, scope["headers"], scheme=scope["scheme"], path=scope["path"]
        )
        exchange = Exchange(scope, send, route, span)

        async def watched_send(message: Message) -> None:
            exchange.status = exchange.status or _handshake_status(message)
            await send(message)

        try:
            if self._metrics is None:
                yield receive, watched_send
            else:
                with self._metrics.websocket(route or _UNMATCHED, receive, watched_send) as counted:
                    yield counted
        except BaseException as error:
            exchange.error = error
            raise
        finally:
            # A handshake that nobody answered is answered by the server, with 500.
            self._tell(exchange, exchange.status or 500, time.perf_counter() - exchange.begun)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The metrics of all workers as Prometheus reads them, and their content type."""
        return (b"", "text/plain") if self._metrics is None else self._metrics.exposition(accept)

    async def close(self) -> None:
        """Hand over what was counted and traced, which may take a moment where traces are exported."""
        if self._metrics is not None:
            self._metrics.flush()
        await asyncio.to_thread(self._tracer.close)


def _handshake_status(message: Message) -> int:
    """The status that a message to a client answers the handshake with; 0 where it is none."""
    match message["type"]:
        case "websocket.accept":
            return 101
        case "websocket.http.response.start":
            return int(message["status"])
        case "websocket.close":
            return 403  # what servers make of it before the connection is accepted
        case _:
            return 0


def _metrics(
    service: Service[Any], config: Metrics, environ: Mapping[str, str], worker_index: int
) -> RequestMetrics | None:
    if not config.enabled:
        return None
    name, _, version = environ.get(environment.BENTO, "").partition(":")
    directory = environ.get(environment.METRICS_DIRECTORY)
    return RequestMetrics(
        service=service.name,
        bento_name=name or service.name,
        bento_version=version,
        namespace=config.namespace,
        buckets=config.duration.bounds,
        directory=Path(directory) if directory else None,
        worker_index=worker_index,
    )


def _access_log(service: Service[Any], config: AccessLogConfig) -> AccessLog | None:
    if not config.enabled:
        return None
    return AccessLog(
        service.name,
        skip_paths=(*config.skip_paths, *(service.path_prefix + path for path in config.skip_paths)),
        request_content_type=config.request_content_type,
        request_content_length=config.request_content_length,
        response_content_type=config.response_content_type,
        response_content_length=config.response_content_length,
        trace_id_format=config.format.trace_id,
        span_id_format=config.format.span_id,
    )
