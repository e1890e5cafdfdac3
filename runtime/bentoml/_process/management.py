"""The management port: probes and metrics, answered by the supervisor whatever its workers are busy with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import uvicorn
from starlette.types import Receive, Scope, Send

_GRACE_S = 1  # a client that does not read its answer is not waited for


class Health(Protocol):
    """What probes ask of a supervisor."""

    @property
    def is_live(self) -> bool:
        """Whether the service works, or may still come to."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken."""
        ...


class ManagementServer(uvicorn.Server):
    """Answers `/livez`, `/readyz`, `/healthz`, and `/metrics` where there is a folder of metrics.

    Args:
        metrics: where the workers write their metrics; None when they write none.
    """

    def __init__(self, health: Health, metrics: Path | None) -> None:
        self._health = health
        self._metrics = metrics
        super().__init__(
            uvicorn.Config(
                self._answer,
                interface="asgi3",
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals are the supervisor's: this server answers until the last worker has ended.
        yield

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/metrics" and self._metrics is not None:
            status, (body, content_type) = 200, await asyncio.to_thread(_exposition, self._metrics)
        else:
            status, body, content_type = self._probe(scope["path"]), b"\n", "text/plain"
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _probe(self, path: str) -> int:
        match path:
            case "/livez":
                return 200 if self._health.is_live else 503
            case "/readyz" | "/healthz":
                return 200 if self._health.is_ready else 503
        return 404


def _exposition(metrics: Path) -> tuple[bytes, str]:
    from bentoml._serving.metrics import exposition  # a supervisor that nobody asks stays small

    return exposition(metrics)
