"""What is kept of a task, and what a place that keeps it can do."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol

from bentoml._task_status import TaskStatus

Headers = tuple[tuple[bytes, bytes], ...]

RETENTION_S: Final = 24 * 3600.0
"""How long a task is kept after its last change."""


@dataclass(frozen=True, kw_only=True)
class TaskRequest:
    """The request that a task runs on, as it arrived."""

    task_id: str
    endpoint: str
    headers: Headers
    body: bytes


@dataclass(frozen=True, kw_only=True)
class TaskResponse:
    """What a task came to: the response that a direct call would have been given."""

    status: int
    headers: Headers
    body: bytes

    @property
    def outcome(self) -> TaskStatus:
        return TaskStatus.FAILED if self.status >= 400 else TaskStatus.COMPLETED


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task without the two bodies. Times are seconds since the epoch."""

    task_id: str
    endpoint: str
    status: TaskStatus
    created_at: float
    executed_at: float | None


class TaskStore(Protocol):
    """Tasks of one service, shared by all its workers; callable from any thread, blocking.

    A worker that claims a task holds it for the length of a lease and has to renew it; whatever it
    reports of a task that it no longer holds is dropped. So a cancelled task is cancelled at once, and
    two workers cannot both finish one.

    Every method raises `ServiceUnavailable` where the store cannot be reached or written.
    """

    largest_body: int
    """Bytes that a request or response may have."""

    def submit(self, request: TaskRequest) -> None:
        """Keep a new task, pending.

        Raises:
            TooManyRequests: there is no room, and nothing that may be forgotten to make some.
        """
        ...

    def claim(self, worker: str, lease_s: float) -> TaskRequest | None:
        """The request of the oldest pending task, which this worker holds from now on."""
        ...

    def renew(self, worker: str, task_ids: Collection[str], lease_s: float) -> frozenset[str]:
        """Hold the tasks for another lease; returns those that this worker holds still."""
        ...

    def release(self, worker: str, task_id: str) -> None:
        """Make a task that this worker holds and has not begun pending again, before all others."""
        ...

    def finish(self, worker: str, task_id: str, response: TaskResponse) -> bool:
        """Keep the response, verbatim; False when this worker does not hold the task."""
        ...

    def cancel(self, task_id: str) -> bool:
        """Take the task from whoever holds it; False when it is unknown or has ended."""
        ...

    def expire(self, response: TaskResponse) -> tuple[str, ...]:
        """Give this response to all tasks whose lease has ended; returns their ids."""
        ...

    def status(self, task_id: str) -> Task | None:
        """Where the task stands; None when it is unknown, or forgotten by now."""
        ...

    def request(self, task_id: str) -> TaskRequest | None:
        """The request that was submitted."""
        ...

    def response(self, task_id: str) -> TaskResponse | None:
        """The response of a task that completed or failed."""
        ...

    def purge(self) -> None:
        """Forget what is older, or takes more room, than may be."""
        ...

    def close(self) -> None:
        """Let go of files and connections; what is kept stays."""
        ...


def error_response(words: str, status: int = 500) -> TaskResponse:
    """The response that says what went wrong, in the form of all errors of the public interface."""
    return TaskResponse(
        status=status,
        headers=((b"content-type", b"application/json"),),
        body=json.dumps({"error": words}).encode(),
    )


def headers_text(headers: Headers) -> str:
    """Headers as a store keeps them."""
    return json.dumps([[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers])


def headers_from(text: str | bytes) -> Headers:
    """What `headers_text` wrote."""
    return tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in json.loads(text))
