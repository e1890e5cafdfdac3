"""Where a task stands: what a service says of it, and its clients read."""

from __future__ import annotations

from enum import Enum


class TaskStatus(str, Enum):
    """Where a task stands."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return self not in (TaskStatus.PENDING, TaskStatus.IN_PROGRESS)
