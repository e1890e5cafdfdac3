"""How many calls a replica runs at once, and whether one more may begin."""

from __future__ import annotations

from typing import Final, Protocol


class Admission(Protocol):
    """Counts the calls of a replica, over all its workers, and keeps to `traffic.max_concurrency`."""

    def enter(self) -> bool:
        """Count one more call, unless as many run as may."""
        ...

    def leave(self) -> None:
        """Count one call less."""
        ...

    @property
    def running(self) -> int:
        """How many calls run now."""
        ...


class LocalAdmission:
    """For an application that is the only one of its replica.

    Args:
        limit: how many calls may run at once; None for any number.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self.running = 0

    def enter(self) -> bool:
        if self._limit is not None and self.running >= self._limit:
            return False
        self.running += 1
        return True

    def leave(self) -> None:
        self.running -= 1


class _Uncounted:
    """For calls that take no place: those in the background, and those that are made for others."""

    running = 0

    def enter(self) -> bool:
        return True

    def leave(self) -> None:
        return


UNCOUNTED: Final[Admission] = _Uncounted()
