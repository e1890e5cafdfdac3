"""What the processes of a service are told about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bentoml._config import ServiceConfig
from bentoml._process.workers import WorkerPlan

LAME_DUCK_S: Final = 1.0
"""How long requests are still taken after SIGTERM, while those who send them learn that it is over."""

END_S: Final = 5.0
"""How much of the grace period is kept for the end of the application, when all requests are over."""


@dataclass(frozen=True, kw_only=True)
class ServiceTask:
    """What a supervisor runs.

    Args:
        target: `module:Class` of the service.
        declared: the configuration with all layers merged, as the workers get it.
        host: the interface of the public port.
    """

    target: str
    service: str
    config: ServiceConfig
    declared: Mapping[str, object]
    project: Path
    workers: tuple[WorkerPlan, ...]
    host: str
    port: int
    management_port: int

    @property
    def management_host(self) -> str:
        """Every interface, as probes from outside a container need it; loopback stays loopback."""
        is_loopback = self.host in ("localhost", "::1") or self.host.startswith("127.")
        return "127.0.0.1" if is_loopback else "0.0.0.0"  # noqa: S104

    @property
    def address(self) -> str:
        """Where the service is reached, as a base URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.config.ssl.enabled else 'http'}://{host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class WorkerTask:
    """What the supervisor tells a worker.

    Args:
        target: `module:Class` of the service.
        config: the service's configuration, its layers merged.
        grace_s: how long the worker may take to end once it is told to stop.
        lame_duck_s: how long it takes requests even then.
    """

    target: str
    service: str
    config: dict[str, object]
    project: str
    index: int
    workers: int
    grace_s: float
    lame_duck_s: float = LAME_DUCK_S
