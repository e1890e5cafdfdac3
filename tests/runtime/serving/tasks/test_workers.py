"""Tasks over several worker processes, some of which die."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.runtime.conftest import DEADLINE_S, until
from tests.runtime.serving.tasks.conftest import OpenSQLite, ended, running, task_request

from bentoml._serving.tasks.store import TaskStore
from bentoml._task_status import TaskStatus

LEASE_S = 0.5

# Names itself in every response. Of a task that says so, it never comes to an end.
WORKER = f"""
import asyncio, os, signal, sys
from pathlib import Path
from bentoml._serving.tasks.runner import TaskRunner
from bentoml._serving.tasks.sqlite_store import SQLiteTaskStore
from bentoml._serving.tasks.store import TaskRequest, TaskResponse

async def execute(request):
    if request.body == b"forever":
        await asyncio.Event().wait()
    return TaskResponse(status=200, headers=(), body=str(os.getpid()).encode())

async def main():
    store = SQLiteTaskStore(Path(sys.argv[1]), service="Painter")
    runner = TaskRunner(store=store, worker=str(os.getpid()), execute=execute, lease_s={LEASE_S})
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await runner.start()
    await stopped.wait()
    await runner.stop(grace_s=0)
    store.close()

asyncio.run(main())
"""

StartWorker = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def start_worker(database: Path) -> Iterator[StartWorker]:
    started: list[subprocess.Popen[bytes]] = []

    def start_worker() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-W", "error", "-c", WORKER, str(database)]
        started.append(subprocess.Popen(command))
        return started[-1]

    yield start_worker
    for process in started:
        process.kill()
        process.wait()


def wait_for(store: TaskStore, task_id: str, status: TaskStatus) -> None:
    def is_there() -> bool:
        task = store.status(task_id)
        return task is not None and task.status is status

    until(is_there, f"task {task_id} is {status.value}")


def test_many_workers_run_each_task_once(open_sqlite: OpenSQLite, start_worker: StartWorker) -> None:
    store = open_sqlite()
    workers = {start_worker().pid for _ in range(4)}
    task_ids = [f"task-{i}" for i in range(200)]
    for task_id in task_ids:
        store.submit(task_request(task_id))
    for task_id in task_ids:
        wait_for(store, task_id, TaskStatus.COMPLETED)

    responses = [store.response(task_id) for task_id in task_ids]
    assert {int(response.body) for response in responses if response} <= workers


def test_a_task_whose_worker_is_killed_fails_and_can_be_run_again(
    open_sqlite: OpenSQLite, start_worker: StartWorker
) -> None:
    store = open_sqlite()
    store.submit(task_request("a", b"forever"))
    worker = start_worker()
    wait_for(store, "a", TaskStatus.IN_PROGRESS)
    os.kill(worker.pid, signal.SIGKILL)

    async def scenario() -> str:
        async with running(store, lease_s=LEASE_S) as routes:
            assert await ended(routes, "a") == "failed"
            return await ended(routes, str((await routes.retry("a"))["task_id"]))

    assert asyncio.run(scenario()) == "completed"


def test_results_outlive_the_worker_that_made_them(
    open_sqlite: OpenSQLite, start_worker: StartWorker
) -> None:
    store = open_sqlite()
    store.submit(task_request("a"))
    worker = start_worker()
    wait_for(store, "a", TaskStatus.COMPLETED)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait(DEADLINE_S)

    response = open_sqlite().response("a")
    assert response is not None
    assert int(response.body) == worker.pid


def test_a_task_that_a_stopped_worker_left_waiting_is_run_by_the_next(
    open_sqlite: OpenSQLite, start_worker: StartWorker
) -> None:
    store = open_sqlite()
    store.submit(task_request("a", b"forever"))
    store.submit(task_request("b"))
    first = start_worker()
    wait_for(store, "a", TaskStatus.IN_PROGRESS)
    first.terminate()

    assert first.wait(DEADLINE_S) == 0
    wait_for(store, "a", TaskStatus.FAILED)
    start_worker()
    wait_for(store, "b", TaskStatus.COMPLETED)


def test_a_task_is_cancelled_in_the_process_that_runs_it(
    open_sqlite: OpenSQLite, start_worker: StartWorker
) -> None:
    store = open_sqlite()
    store.submit(task_request("a", b"forever"))
    store.submit(task_request("b"))
    start_worker()
    wait_for(store, "a", TaskStatus.IN_PROGRESS)

    store.cancel("a")

    wait_for(store, "b", TaskStatus.COMPLETED)  # one runs at a time: the first has made room for it
