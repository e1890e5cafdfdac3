"""The thread that keeps a worker's leases, and ends the tasks of workers that no longer keep theirs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from typing import Final

from bentoml._serving.tasks.store import TaskStore, error_response
from bentoml.exceptions import ServiceUnavailable

log = logging.getLogger("bentoml")

_INTERVAL_S: Final = 0.5

_ABANDONED: Final = error_response(
    "the worker that ran this task ended before the task was done; `retry` runs it once more"
)


class LeaseKeeper:
    """Renews the leases of the tasks that this worker runs, twice a second.

    A thread, because a method may block the loop for as long as it likes without being taken for dead.

    Args:
        lease_s: how long a worker may be silent.
        held: the tasks that this worker believes to hold.
        on_lost: told, in the thread, of each that it does not: cancelled through any worker, or taken
            for abandoned.
    """

    def __init__(
        self,
        *,
        store: TaskStore,
        worker: str,
        lease_s: float,
        held: Callable[[], Collection[str]],
        on_lost: Callable[[str], None],
    ) -> None:
        self._store = store
        self._worker = worker
        self._lease_s = lease_s
        self._held = held
        self._on_lost = on_lost
        self._interval_s = min(_INTERVAL_S, lease_s / 4)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="task-leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _keep(self) -> None:
        watching_since = last_seen = time.time()
        is_away = False
        while not self._stopped.wait(self._interval_s):
            now = time.time()
            # After a pause of the machine, a jump of its clock or an absence of the store, every lease looks
            # ended. The others get the length of one to renew theirs before any is taken for abandoned.
            if not 0 <= now - last_seen < self._lease_s / 2:
                watching_since = now
            try:
                self._renew()
                if now - watching_since >= self._lease_s:
                    self._expire()
            except Exception as error:  # without this thread the worker is taken for dead
                if not is_away:
                    is_bug = not isinstance(error, ServiceUnavailable)
                    log.error("%s; tasks go on once it answers", error, exc_info=is_bug)
                is_away = True
                continue
            if is_away:
                log.info("the task store answers again")
            is_away = False
            last_seen = now

    def _renew(self) -> None:
        held = self._held()
        if held:
            kept = self._store.renew(self._worker, held, self._lease_s)
            for task_id in held:
                if task_id not in kept:
                    self._on_lost(task_id)

    def _expire(self) -> None:
        for task_id in self._store.expire(_ABANDONED):
            log.error("task %s failed: the worker that ran it ended before it was done", task_id)
