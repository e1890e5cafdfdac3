"""The five calls that a task has beside the direct one."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timezone

from bentoml._serving.tasks.runner import TaskRunner
from bentoml._serving.tasks.store import Headers, Task, TaskRequest, TaskResponse, TaskStore
from bentoml._serving.tasks.threads import in_store_thread
from bentoml._task_status import TaskStatus
from bentoml.exceptions import BadInput, NotFound, PayloadTooLarge, StateException


@dataclass(frozen=True, kw_only=True)
class TaskRoutes:
    """Answers for one endpoint; what is returned is the JSON of a 200, what is raised says its status.

    An id names a task of this endpoint or none. All methods raise `NotFound` for one that is unknown,
    `BadInput` where it is missing and `ServiceUnavailable` where the store does not answer.
    """

    store: TaskStore
    runner: TaskRunner
    endpoint: str

    async def submit(self, headers: Headers, body: bytes) -> dict[str, object]:
        """`POST <route>/submit`: keep the request, to be run by whichever worker is free.

        Raises:
            TooManyRequests: the store has no room.
            PayloadTooLarge: the body is larger than the store can keep.
        """
        if len(body) > self.store.largest_body:
            message = f"the body has {len(body)} bytes, a task may have {self.store.largest_body}"
            raise PayloadTooLarge(message)
        request = TaskRequest(
            task_id=secrets.token_hex(16), endpoint=self.endpoint, headers=headers, body=body
        )
        await in_store_thread(self.store.submit, request)
        self.runner.wake()
        # What clients of this interface are told, though nobody may have begun it yet.
        return {"task_id": request.task_id, "status": TaskStatus.IN_PROGRESS.value}

    async def status(self, task_id: str | None) -> dict[str, object]:
        """`GET <route>/status?task_id=`."""
        task = await self._task(task_id)
        return {
            "task_id": task.task_id,
            "status": task.status.value,
            "created_at": _timestamp(task.created_at),
            "executed_at": None if task.executed_at is None else _timestamp(task.executed_at),
        }

    async def get(self, task_id: str | None) -> TaskResponse:
        """`GET <route>/get?task_id=`: the response that a direct call would have been given.

        Raises:
            StateException: the task has not ended, or was cancelled.
        """
        task = await self._ended(task_id)
        if task.status is TaskStatus.CANCELED:
            raise StateException(f"task {task.task_id} was canceled")
        response = await in_store_thread(self.store.response, task.task_id)
        if response is None:
            raise _not_found()
        return response

    async def retry(self, task_id: str | None) -> dict[str, object]:
        """`POST <route>/retry?task_id=`: the same request as a new task.

        Raises:
            StateException: the task has not ended.
            TooManyRequests: the store has no room.
        """
        task = await self._ended(task_id)
        request = await in_store_thread(self.store.request, task.task_id)
        if request is None:
            raise _not_found()
        return await self.submit(request.headers, request.body)

    async def cancel(self, task_id: str | None) -> dict[str, object]:
        """`PUT <route>/cancel?task_id=`; cancelling twice is as good as once.

        Raises:
            StateException: the task completed or failed before.
        """
        task = await self._task(task_id)
        if await in_store_thread(self.store.cancel, task.task_id):
            self.runner.drop(task.task_id)
        else:
            task = await self._task(task_id)
            if task.status is not TaskStatus.CANCELED:
                raise StateException(f"task {task.task_id} has {task.status.value} already")
        return {"task_id": task.task_id, "status": TaskStatus.CANCELED.value}

    async def _task(self, task_id: str | None) -> Task:
        if task_id is None:
            raise BadInput("task_id is required")
        task = await in_store_thread(self.store.status, task_id)
        if task is None or task.endpoint != self.endpoint:
            raise _not_found()
        return task

    async def _ended(self, task_id: str | None) -> Task:
        task = await self._task(task_id)
        if not task.status.is_final:
            raise StateException(f"task {task.task_id} is not completed yet")
        return task


def _not_found() -> NotFound:
    return NotFound("task_id not found")


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
