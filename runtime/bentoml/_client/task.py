"""Tasks that were submitted to a service, as a client holds them."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Protocol

from bentoml._client.schema import Unreadable
from bentoml._task_status import TaskStatus


class TaskEndpoint(Protocol):
    """The methods of a client's endpoint that a task calls with its id."""

    def get(self, task_id: str) -> Any: ...
    def get_status(self, task_id: str) -> TaskStatus: ...
    def cancel(self, task_id: str) -> None: ...
    def retry(self, task_id: str) -> Task: ...


class AsyncTaskEndpoint(Protocol):
    """The same, to be awaited."""

    def get(self, task_id: str) -> Awaitable[Any]: ...
    def get_status(self, task_id: str) -> Awaitable[TaskStatus]: ...
    def cancel(self, task_id: str) -> Awaitable[None]: ...
    def retry(self, task_id: str) -> Awaitable[AsyncTask]: ...


@dataclass(frozen=True)
class Task:
    """A task that runs at the service; it goes on whether or not anybody holds this."""

    id: str
    _endpoint: TaskEndpoint = field(repr=False)

    def get(self) -> Any:
        """The result.

        Raises:
            BentoMLException: the task has not ended, has failed, or is not known.
        """
        return self._endpoint.get(self.id)

    def get_status(self) -> TaskStatus:
        """How far it has come."""
        return self._endpoint.get_status(self.id)

    def cancel(self) -> None:
        """Have it stopped."""
        self._endpoint.cancel(self.id)

    def retry(self) -> Task:
        """Submit it again, with the same arguments, as another task."""
        return self._endpoint.retry(self.id)


@dataclass(frozen=True)
class AsyncTask:
    """A task that runs at the service; it goes on whether or not anybody holds this."""

    id: str
    _endpoint: AsyncTaskEndpoint = field(repr=False)

    async def get(self) -> Any:
        """The result.

        Raises:
            BentoMLException: the task has not ended, has failed, or is not known.
        """
        return await self._endpoint.get(self.id)

    async def get_status(self) -> TaskStatus:
        """How far it has come."""
        return await self._endpoint.get_status(self.id)

    async def cancel(self) -> None:
        """Have it stopped."""
        await self._endpoint.cancel(self.id)

    async def retry(self) -> AsyncTask:
        """Submit it again, with the same arguments, as another task."""
        return await self._endpoint.retry(self.id)


def id_in(reply: object) -> str:
    """The id of the task that a service says it has taken.

    Raises:
        Unreadable: the reply has none.
    """
    match reply:
        case {"task_id": str(task_id)}:
            return task_id
    raise Unreadable("expected the `task_id` of a submitted task")


def status_in(reply: object) -> TaskStatus:
    """The status that a service tells of a task.

    Raises:
        Unreadable: it is none that a task can have.
    """
    known = {status.value: status for status in TaskStatus}
    match reply:
        case {"status": str(status)} if status in known:
            return known[status]
    raise Unreadable(f"expected the `status` of a task, one of {', '.join(known)}")
