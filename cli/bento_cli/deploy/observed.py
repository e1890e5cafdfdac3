"""What there is of a deployment, as a target sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Condition(str, Enum):
    """How a replica is."""

    starting = "starting"
    ready = "ready"
    unhealthy = "unhealthy"
    ended = "ended"


@dataclass(frozen=True, kw_only=True)
class Replica:
    """One replica of a service.

    Args:
        identifier: by which its target knows it, `name` what people call it.
        digest: of the `ServiceSpec` that it was made from.
        restarts: how often it ended by itself and was started again.
    """

    identifier: str
    name: str
    digest: str
    condition: Condition
    restarts: int = 0


@dataclass(frozen=True, kw_only=True)
class Observed:
    """All replicas of a deployment by service, and its entry.

    Args:
        entry: what the entry was made from and what it goes by now; None where there is none.
    """

    services: Mapping[str, tuple[Replica, ...]] = field(default_factory=dict)
    entry: EntryState | None = None

    def replicas(self, service: str) -> tuple[Replica, ...]:
        """Those of one service."""
        return self.services.get(service, ())


@dataclass(frozen=True, kw_only=True)
class EntryState:
    """The entry of a deployment as it is.

    Args:
        digest: of what it was made from: it is made anew for another.
        rules: what it goes by: it takes others while it runs.
    """

    digest: str
    rules: str
    condition: Condition
