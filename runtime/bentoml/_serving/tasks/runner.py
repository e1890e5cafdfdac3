"""Runs submitted tasks in one worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from bentoml._serving.tasks.leases import LeaseKeeper
from bentoml._serving.tasks.store import TaskRequest, TaskResponse, TaskStore, error_response
from bentoml._serving.tasks.threads import in_store_thread
from bentoml.exceptions import ServiceUnavailable

log = logging.getLogger("bentoml")

LEASE_S: Final = 20.0
LARGEST_RESULT: Final = 256 * 2**20

_POLL_S: Final = 0.4
_PURGE_EVERY_S: Final = 60.0
_STORE_AWAY_S: Final = 1.0
_LAST_WORDS_S: Final = 5.0

_UNEXPECTED: Final = error_response(
    "An unexpected error has occurred, please check the server log."  # what a direct call is answered
)
_INTERRUPTED: Final = error_response(
    "the task was interrupted before it was done, as when its worker stops; `retry` runs it once more"
)


class TaskRunner:
    """Claims pending tasks of the service and runs them, as many at once as may.

    A task that was cancelled, through whichever worker, is cancelled here within a second; what it
    comes to all the same is dropped. A task whose worker died fails, and is never run again by itself.

    Args:
        worker: names this process, and no other before or after it.
        execute: gives the response to a request. Errors of the endpoint are responses too; whatever
            else is raised is logged and becomes a 500. Cancelled, it ends once nothing of it runs any more,
            such as a thread: until then the task takes one of the places.
        concurrency: how many tasks run at once.
        lease_s: how long this worker may be silent before others take its tasks for abandoned.
        largest_result: bytes of a response's body; a task that comes to more fails.
    """

    def __init__(
        self,
        *,
        store: TaskStore,
        worker: str,
        execute: Callable[[TaskRequest], Awaitable[TaskResponse]],
        concurrency: int = 1,
        lease_s: float = LEASE_S,
        largest_result: int = LARGEST_RESULT,
    ) -> None:
        self._store = store
        self._worker = worker
        self._execute = execute
        self._concurrency = concurrency
        self._lease_s = lease_s
        self._largest_result = min(largest_result, store.largest_body)
        self._work: dict[str, asyncio.Future[TaskResponse]] = {}
        self._dropped: set[str] = set()
        self._runs: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._is_draining = False
        self._is_stopping = False
        self._given_up: frozenset[str] = frozenset()

    async def start(self) -> None:
        """Begin to claim tasks; call it once, on the loop that runs them."""
        self._loop = asyncio.get_running_loop()
        self._keeper = LeaseKeeper(
            store=self._store,
            worker=self._worker,
            lease_s=self._lease_s,
            held=lambda: tuple(self._work),
            on_lost=self._drop_soon,
        )
        self._keeper.start()
        self._claiming = asyncio.create_task(self._claim_tasks(), name="claim-tasks")
        self._purging = asyncio.create_task(self._purge_tasks(), name="purge-tasks")

    def drain(self) -> None:
        """Claim no more.

        Tasks that nobody has begun stay pending, for other workers or for the next start.
        """
        self._is_draining = True
        self._woken.set()

    async def stop(self, grace_s: float) -> None:
        """Drain, let running tasks end within the grace period, and fail those that do not."""
        self._is_stopping = True
        self._purging.cancel()
        self.drain()
        await self._claiming
        if self._runs:
            await asyncio.wait(self._runs, timeout=grace_s)
        for task_id in tuple(self._work):
            self.drop(task_id)
        if self._runs:
            await asyncio.wait(self._runs, timeout=_LAST_WORDS_S)
        self._given_up = frozenset(task_id for task_id, work in self._work.items() if not work.done())
        for task_id in self._given_up:
            await self._finish(task_id, _INTERRUPTED)
        await in_store_thread(self._keeper.stop)

    def wake(self) -> None:
        """Look for pending tasks now: one was submitted in this process."""
        self._woken.set()

    def drop(self, task_id: str) -> None:
        """Cancel the task if it runs here."""
        # Once: who is told twice might no longer wait for what cannot be stopped.
        if task_id in self._work and task_id not in self._dropped:
            self._dropped.add(task_id)
            self._work[task_id].cancel()

    def _drop_soon(self, task_id: str) -> None:
        with suppress(RuntimeError):  # a loop that is closed runs no task any more
            self._loop.call_soon_threadsafe(self.drop, task_id)

    async def _claim_tasks(self) -> None:
        while not self._is_draining:
            self._woken.clear()
            request = await self._claim() if len(self._work) < self._concurrency else None
            if request is not None:
                self._begin(request)
            else:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), _POLL_S)

    async def _claim(self) -> TaskRequest | None:
        try:
            request = await in_store_thread(self._store.claim, self._worker, self._lease_s)
            if request is None or not self._is_draining:
                return request
            await in_store_thread(self._store.release, self._worker, request.task_id)
        except ServiceUnavailable:
            pass  # the keeper of the leases meets with the same, and says so
        except Exception:  # one claim that fails must not be the worker's last
            log.exception("no task could be claimed")
        return None

    async def _purge_tasks(self) -> None:
        while True:
            with suppress(ServiceUnavailable):
                await in_store_thread(self._store.purge)
            await asyncio.sleep(_PURGE_EVERY_S)

    def _begin(self, request: TaskRequest) -> None:
        self._work[request.task_id] = asyncio.create_task(self._respond(request))
        run = asyncio.create_task(self._run(request), name=f"task-{request.task_id}")
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)

    async def _respond(self, request: TaskRequest) -> TaskResponse:
        try:
            return await self._execute(request)
        except (asyncio.CancelledError, SystemExit) as error:
            is_dropped = request.task_id in self._dropped or request.task_id in self._given_up
            if isinstance(error, asyncio.CancelledError) and is_dropped:
                raise
            # Nobody cancelled the task, and its method is not to end the loop.
            raise RuntimeError(f"the method raised {error!r}") from error

    async def _run(self, request: TaskRequest) -> None:
        task_id = request.task_id
        work = self._work[task_id]
        try:
            await asyncio.wait({work})
            outcome = self._outcome(request, work)
            # What was given up has been failed already, and its store may be closed by the time it ends.
            if task_id not in self._given_up:
                await self._finish(task_id, outcome)
        finally:
            # Not earlier: until the response is kept the lease has to be, too.
            del self._work[task_id]
            self._dropped.discard(task_id)
            self._woken.set()

    def _outcome(self, request: TaskRequest, work: asyncio.Future[TaskResponse]) -> TaskResponse:
        if work.cancelled():
            return _INTERRUPTED
        error = work.exception()
        if error is not None:
            log.error("task %s (%s) failed", request.task_id, request.endpoint, exc_info=error)
            return _UNEXPECTED
        response = work.result()
        if len(response.body) > self._largest_result:
            words = f"the result has {len(response.body)} bytes, a task may come to {self._largest_result}"
            log.error("task %s (%s) failed: %s", request.task_id, request.endpoint, words)
            return error_response(words)
        return response

    async def _finish(self, task_id: str, response: TaskResponse) -> None:
        while True:
            try:
                is_kept = await in_store_thread(self._store.finish, self._worker, task_id, response)
            except ServiceUnavailable as error:
                if self._is_stopping:
                    log.error("what task %s came to is lost: %s", task_id, error)
                    return
                await asyncio.sleep(_STORE_AWAY_S)
            else:
                if not is_kept:
                    log.info(
                        "what task %s came to is dropped: it was cancelled, or taken for abandoned", task_id
                    )
                return
