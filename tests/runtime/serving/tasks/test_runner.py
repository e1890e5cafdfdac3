from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Collection
from contextlib import closing, suppress
from pathlib import Path

import pytest
from tests.runtime.conftest import DEADLINE_S, until
from tests.runtime.serving.tasks.conftest import (
    OpenSQLite,
    OpenStore,
    RedisServer,
    answer,
    begun,
    ended,
    eventually,
    running,
    submitted,
    task_request,
)

from bentoml._serving.tasks import runner
from bentoml._serving.tasks.redis_store import RedisTaskStore
from bentoml._serving.tasks.routes import TaskRoutes
from bentoml._serving.tasks.runner import TaskRunner
from bentoml._serving.tasks.sqlite_store import SQLiteTaskStore
from bentoml._serving.tasks.store import TaskRequest, TaskResponse
from bentoml._task_status import TaskStatus
from bentoml.exceptions import StateException

SHORT_S = 0.4


async def forever(request: TaskRequest) -> TaskResponse:
    await asyncio.Event().wait()
    return answer()


def test_a_submitted_task_is_run_and_its_response_kept(open_store: OpenStore) -> None:
    async def scenario() -> TaskResponse:
        async with running(open_store()) as routes:
            task_id = await submitted(routes, b"red")
            await ended(routes, task_id)
            return await routes.get(task_id)

    assert asyncio.run(scenario()) == answer(b"red")


def test_tasks_that_waited_before_the_worker_started_are_run(open_store: OpenStore) -> None:
    open_store().submit(task_request("a", b"red"))

    async def scenario() -> str:
        async with running(open_store()) as routes:
            return await ended(routes, "a")

    assert asyncio.run(scenario()) == "completed"


def test_a_task_that_is_submitted_to_a_busy_worker_is_run_by_another(open_store: OpenStore) -> None:
    async def scenario() -> str:
        async with running(open_store(), forever, worker="busy") as busy:
            await begun(busy, await submitted(busy))
            async with running(open_store(), worker="idle"):
                return await ended(busy, await submitted(busy))

    assert asyncio.run(scenario()) == "completed"


def test_methods_that_hold_all_threads_of_the_loop_do_not_hold_up_the_calls(open_sqlite: OpenSQLite) -> None:
    async def scenario() -> str:
        release = threading.Event()
        held = [asyncio.ensure_future(asyncio.to_thread(release.wait)) for _ in range(64)]
        try:
            async with running(open_sqlite()) as routes:
                return await ended(routes, await submitted(routes))
        finally:
            release.set()
            await asyncio.wait(held)

    assert asyncio.run(scenario()) == "completed"


def test_as_many_tasks_run_at_once_as_may_and_no_more(open_sqlite: OpenSQLite) -> None:
    running_now: set[str] = set()
    most = 0

    async def scenario() -> None:
        three_run = asyncio.Event()

        async def count(request: TaskRequest) -> TaskResponse:
            nonlocal most
            running_now.add(request.task_id)
            most = max(most, len(running_now))
            if most == 3:
                three_run.set()
            await asyncio.wait_for(three_run.wait(), DEADLINE_S)
            running_now.remove(request.task_id)
            return answer()

        async with running(open_sqlite(), count, concurrency=3) as routes:
            for task_id in [await submitted(routes) for _ in range(20)]:
                assert await ended(routes, task_id) == "completed"

    asyncio.run(scenario())
    assert most == 3


def test_an_exception_fails_the_task_and_tells_the_caller_nothing(
    open_sqlite: OpenSQLite, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: TaskRequest) -> TaskResponse:
        raise KeyError("secret words")

    async def scenario() -> TaskResponse:
        async with running(open_sqlite(), fail) as routes:
            task_id = await submitted(routes)
            assert await ended(routes, task_id) == "failed"
            return await routes.get(task_id)

    response = asyncio.run(scenario())
    assert (response.status, b"check the server log" in response.body) == (500, True)
    assert b"secret" not in response.body
    assert "secret words" in caplog.text


def test_a_result_that_is_too_large_fails_the_task_with_words(open_sqlite: OpenSQLite) -> None:
    async def scenario() -> TaskResponse:
        async with running(open_sqlite(), largest_result=1000) as routes:
            task_id = await submitted(routes, bytes(1001))
            assert await ended(routes, task_id) == "failed"
            return await routes.get(task_id)

    assert asyncio.run(scenario()).body == b'{"error": "the result has 1001 bytes, a task may come to 1000"}'


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(3)], ids=repr)
def test_a_method_that_cancels_itself_or_exits_fails_its_own_task_and_is_in_the_log(
    open_sqlite: OpenSQLite, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    async def fail(request: TaskRequest) -> TaskResponse:
        if request.body == b"good":
            return answer()
        raise error

    async def scenario() -> tuple[TaskResponse, str]:
        async with running(open_sqlite(), fail) as routes:
            task_id = await submitted(routes)
            assert await ended(routes, task_id) == "failed"
            return await routes.get(task_id), await ended(routes, await submitted(routes, b"good"))

    response, status_of_another = asyncio.run(scenario())
    assert (b"check the server log" in response.body, status_of_another) == (True, "completed")
    assert f"the method raised {error!r}" in caplog.text


@pytest.mark.parametrize("through", ["its own worker", "another worker"])
def test_a_cancelled_task_stops_where_it_runs(open_store: OpenStore, through: str) -> None:
    async def scenario() -> str:
        stopped = asyncio.Event()

        async def until_cancelled(request: TaskRequest) -> TaskResponse:
            try:
                return await forever(request)
            finally:
                stopped.set()

        async with running(open_store(), until_cancelled, worker="its own worker") as routes:
            task_id = await submitted(routes)
            await begun(routes, task_id)
            async with running(open_store(), worker="another worker") as others:
                await (routes if through == "its own worker" else others).cancel(task_id)
                await asyncio.wait_for(stopped.wait(), DEADLINE_S)
            return await ended(routes, task_id)

    assert asyncio.run(scenario()) == "canceled"


def test_the_result_of_a_task_that_cannot_be_stopped_is_dropped(open_sqlite: OpenSQLite) -> None:
    async def scenario() -> str:
        release, returned = asyncio.Event(), asyncio.Event()

        async def stubborn(request: TaskRequest) -> TaskResponse:
            try:
                await release.wait()
            except asyncio.CancelledError:
                await release.wait()
            returned.set()
            return answer(b"late")

        async with running(open_sqlite(), stubborn) as routes:
            task_id = await submitted(routes)
            await begun(routes, task_id)
            await routes.cancel(task_id)
            release.set()
            await asyncio.wait_for(returned.wait(), DEADLINE_S)
            next_task = await submitted(
                routes
            )  # with one at a time, begun after the first has been dealt with
            await ended(routes, next_task)
            return await ended(routes, task_id)

    assert asyncio.run(scenario()) == "canceled"


class Watched(SQLiteTaskStore):
    """Counts how often leases were renewed."""

    renewals = 0

    def renew(self, worker: str, task_ids: Collection[str], lease_s: float) -> frozenset[str]:
        self.renewals += 1
        return super().renew(worker, task_ids, lease_s)


def test_a_task_that_is_cancelled_is_told_once_and_keeps_its_place_until_it_ends(database: Path) -> None:
    times_told = 0

    async def scenario(store: Watched) -> str:
        release, is_told = asyncio.Event(), asyncio.Event()

        async def with_thread(request: TaskRequest) -> TaskResponse:
            nonlocal times_told
            while not release.is_set() and request.body == b"stubborn":
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    times_told += 1
                    is_told.set()
            return answer()

        async def is_renewed_often() -> bool:
            return store.renewals > seen + 5

        async with running(store, with_thread, lease_s=SHORT_S) as routes:
            first, second = await submitted(routes, b"stubborn"), await submitted(routes)
            await begun(routes, first)
            await routes.cancel(first)
            await is_told.wait()
            seen = store.renewals
            await eventually(is_renewed_often, "the leases are renewed")
            assert (await routes.status(second))["status"] == "pending"
            release.set()
            return await ended(routes, second)

    with closing(Watched(database, service="Painter", retention_s=3600.0, max_bytes=2**30)) as store:
        assert asyncio.run(scenario(store)) == "completed"
    assert times_told == 1


def test_a_cancelled_task_makes_room_for_the_next(open_sqlite: OpenSQLite) -> None:
    async def scenario() -> None:
        async with running(open_sqlite(), forever) as routes:
            first, second = await submitted(routes), await submitted(routes)
            await begun(routes, first)
            await routes.cancel(first)
            await begun(routes, second)

    asyncio.run(scenario())


def test_of_tasks_cancelled_as_they_are_begun_each_is_either_run_or_cancelled(open_store: OpenStore) -> None:
    async def is_cancelled(routes: TaskRoutes, task_id: str) -> bool:
        try:
            await routes.cancel(task_id)
        except StateException:
            return False
        return True

    async def scenario() -> None:
        async with (
            running(open_store(), worker="a", concurrency=4) as a,
            running(open_store(), worker="b", concurrency=4) as b,
        ):
            for i in range(100):
                task_id = await submitted((a, b)[i % 2])
                await asyncio.sleep(i % 30 / 10_000)  # any moment from before the claim to after the end
                expected = "canceled" if await is_cancelled(b, task_id) else "completed"
                assert await ended(a, task_id) == expected

    asyncio.run(scenario())


def test_a_worker_whose_loop_is_blocked_keeps_its_task(open_sqlite: OpenSQLite, database: Path) -> None:
    store = open_sqlite()
    store.submit(task_request("a"))

    def leased_until() -> float:
        with closing(sqlite3.connect(database)) as connection:
            return float(connection.execute("SELECT leased_until FROM tasks").fetchone()[0])

    async def block(request: TaskRequest) -> TaskResponse:
        over = leased_until() + 2 * SHORT_S
        until(lambda: time.time() > over, "two leases have passed")
        assert store.expire(answer(status=500)) == ()
        return answer()

    async def scenario() -> str:
        async with running(open_sqlite(), block, lease_s=SHORT_S) as routes:
            return await ended(routes, "a")

    assert asyncio.run(scenario()) == "completed"


def test_the_task_of_a_worker_that_went_silent_fails_with_words(open_store: OpenStore) -> None:
    dead = open_store()
    dead.submit(task_request("a"))
    dead.claim("dead", SHORT_S)

    async def scenario() -> TaskResponse:
        async with running(open_store(), lease_s=SHORT_S) as routes:
            assert await ended(routes, "a") == "failed"
            return await routes.get("a")

    response = asyncio.run(scenario())
    assert response.status == 500
    assert b"the worker that ran this task ended before the task was done" in response.body


def test_a_failed_task_is_run_again_only_when_asked_to(open_sqlite: OpenSQLite) -> None:
    dead = open_sqlite()
    dead.submit(task_request("a", b"red"))
    dead.claim("dead", SHORT_S)
    ran: list[str] = []

    async def note(request: TaskRequest) -> TaskResponse:
        ran.append(request.task_id)
        return answer(request.body)

    async def scenario() -> str:
        async with running(open_sqlite(), note, lease_s=SHORT_S) as routes:
            await ended(routes, "a")
            assert ran == []
            retried = str((await routes.retry("a"))["task_id"])
            await ended(routes, retried)
            assert (await routes.get(retried)).body == b"red"
            return retried

    retried = asyncio.run(scenario())
    assert ran == [retried]


def test_a_task_that_cannot_be_read_does_not_hold_up_the_others(
    open_sqlite: OpenSQLite, database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_sqlite()
    store.submit(task_request("damaged"))
    store.submit(task_request("whole"))
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE requests SET headers = 'no JSON' WHERE id = 'damaged'")

    async def scenario() -> tuple[str, str]:
        async with running(store, lease_s=SHORT_S) as routes:
            return await ended(routes, "whole"), await ended(routes, "damaged")

    assert asyncio.run(scenario()) == ("completed", "failed")
    assert "no task could be claimed" in caplog.text


def test_a_worker_forgets_what_is_old(open_sqlite: OpenSQLite) -> None:
    store = open_sqlite(retention_s=-1)
    store.submit(task_request("a"))
    store.cancel("a")

    async def is_forgotten() -> bool:
        return store.status("a") is None

    async def scenario() -> None:
        async with running(store):
            await eventually(is_forgotten, "the task is forgotten")

    asyncio.run(scenario())


def test_a_worker_that_stops_lets_its_task_end(open_sqlite: OpenSQLite) -> None:
    store = open_sqlite()

    async def scenario() -> str:
        go_on = asyncio.Event()

        async def wait(request: TaskRequest) -> TaskResponse:
            await go_on.wait()
            return answer()

        runner = TaskRunner(store=store, worker="worker", execute=wait)
        routes = TaskRoutes(store=store, runner=runner, endpoint="paint")
        await runner.start()
        task_id = await submitted(routes)
        await begun(routes, task_id)
        stopping = asyncio.create_task(runner.stop(grace_s=30))
        await asyncio.sleep(0)
        go_on.set()
        await stopping
        return task_id

    assert store.response(asyncio.run(scenario())) == answer()


def test_a_task_that_outlasts_the_grace_period_fails_with_words(open_sqlite: OpenSQLite) -> None:
    store = open_sqlite()

    async def scenario() -> str:
        has_begun = asyncio.Event()

        async def work(request: TaskRequest) -> TaskResponse:
            has_begun.set()
            return await forever(request)

        async with running(store, work) as routes:
            task_id = await submitted(routes)
            await has_begun.wait()
            return task_id

    response = store.response(asyncio.run(scenario()))
    assert response is not None
    assert b"the task was interrupted before it was done" in response.body


def test_a_task_that_cannot_be_stopped_fails_with_words_as_its_worker_stops(
    open_sqlite: OpenSQLite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_LAST_WORDS_S", 0.01)
    store = open_sqlite()

    async def scenario() -> str:
        release, has_begun = asyncio.Event(), asyncio.Event()

        async def stubborn(request: TaskRequest) -> TaskResponse:
            has_begun.set()
            with suppress(asyncio.CancelledError):
                await release.wait()
            await release.wait()
            return answer()

        async with running(store, stubborn) as routes:
            task_id = await submitted(routes)
            await has_begun.wait()
        return task_id

    response = store.response(asyncio.run(scenario()))
    assert response is not None
    assert b"the task was interrupted before it was done" in response.body


def test_what_cannot_be_stopped_ends_in_silence_when_its_store_is_closed(
    database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner, "_LAST_WORDS_S", 0.01)

    async def scenario() -> None:
        release, has_begun, has_ended = (asyncio.Event() for _ in range(3))

        async def stubborn(request: TaskRequest) -> TaskResponse:
            has_begun.set()
            try:
                await release.wait()
            finally:
                await release.wait()
                has_ended.set()
            return answer()

        with closing(SQLiteTaskStore(database, service="Painter")) as store:
            async with running(store, stubborn) as routes:
                await submitted(routes)
                await has_begun.wait()
        release.set()
        await has_ended.wait()
        await eventually(no_run_is_left, "the runner has done with the task")

    async def no_run_is_left() -> bool:
        return not any(task.get_name().startswith("task-") for task in asyncio.all_tasks())

    asyncio.run(scenario())
    assert caplog.text == ""


def test_a_draining_worker_lets_its_task_go_on_and_claims_no_other(open_sqlite: OpenSQLite) -> None:
    store = open_sqlite()

    async def scenario() -> list[str]:
        go_on = asyncio.Event()

        async def wait(request: TaskRequest) -> TaskResponse:
            await go_on.wait()
            return answer()

        draining = TaskRunner(store=store, worker="worker", execute=wait, concurrency=2)
        routes = TaskRoutes(store=store, runner=draining, endpoint="paint")
        await draining.start()
        first = await submitted(routes)
        await begun(routes, first)
        draining.drain()
        second = await submitted(routes)
        go_on.set()
        statuses = [await ended(routes, first), str((await routes.status(second))["status"])]
        await draining.stop(grace_s=0)
        return statuses

    assert asyncio.run(scenario()) == ["completed", "pending"]


def test_tasks_that_a_stopping_worker_has_not_begun_stay_for_another(open_sqlite: OpenSQLite) -> None:
    store = open_sqlite()

    async def first() -> str:
        async with running(store, forever) as routes:
            await begun(routes, await submitted(routes))
            return await submitted(routes)

    async def second(task_id: str) -> str:
        async with running(open_sqlite(), worker="another") as routes:
            return await ended(routes, task_id)

    task_id = asyncio.run(first())
    before = store.status(task_id)
    assert before is not None
    assert before.status is TaskStatus.PENDING
    assert asyncio.run(second(task_id)) == "completed"


@pytest.mark.redis
def test_a_store_that_goes_away_for_a_while_costs_no_result(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    redis_server.stop()
    redis_server.start("--dir", str(tmp_path), "--appendonly", "yes")

    async def scenario(store: RedisTaskStore) -> str:
        go_on = asyncio.Event()

        async def wait(request: TaskRequest) -> TaskResponse:
            await go_on.wait()
            return answer()

        async def is_noticed() -> bool:
            return "tasks go on once it answers" in caplog.text

        async with running(store, wait) as routes:
            task_id = await submitted(routes)
            await begun(routes, task_id)
            redis_server.stop()
            go_on.set()
            await eventually(is_noticed, "the store's absence is logged")
            redis_server.start("--dir", str(tmp_path), "--appendonly", "yes")
            return await ended(routes, task_id)

    with closing(RedisTaskStore(redis_server.url, service="Painter")) as store:
        assert asyncio.run(scenario(store)) == "completed"
