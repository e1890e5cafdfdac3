"""What the five calls answer, word for word."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest
from tests.runtime.serving.tasks.conftest import OpenSQLite, answer, begun, ended, running, submitted

from bentoml._serving.tasks.routes import TaskRoutes
from bentoml._serving.tasks.store import TaskRequest, TaskResponse
from bentoml.exceptions import BadInput, NotFound, PayloadTooLarge, StateException

Scenario = Callable[[TaskRoutes], Awaitable[None]]


async def paint(request: TaskRequest) -> TaskResponse:
    """Runs until it is cancelled, fails, or gives its body back: the body says which."""
    if request.body == b"forever":
        await asyncio.Event().wait()
    return answer(request.body, 400 if request.body == b"fail" else 200)


@pytest.fixture
def play(open_sqlite: OpenSQLite) -> Callable[[Scenario], None]:
    """Runs a scenario against the calls of an endpoint whose worker runs one task at a time."""

    def play(scenario: Scenario) -> None:
        async def main() -> None:
            async with running(open_sqlite(), paint) as routes:
                await scenario(routes)

        asyncio.run(main())

    return play


Play = Callable[[Scenario], None]


def test_submit_answers_with_an_id(play: Play) -> None:
    async def scenario(routes: TaskRoutes) -> None:
        reply = await routes.submit((), b"red")
        assert reply == {"task_id": reply["task_id"], "status": "in_progress"}
        assert re.fullmatch("[0-9a-f]{32}", str(reply["task_id"]))

    play(scenario)


def test_status_of_a_task_that_waits(play: Play) -> None:
    async def scenario(routes: TaskRoutes) -> None:
        await begun(routes, await submitted(routes, b"forever"))
        task_id = await submitted(routes)
        reply = await routes.status(task_id)
        assert list(reply) == ["task_id", "status", "created_at", "executed_at"]
        assert (reply["task_id"], reply["status"], reply["executed_at"]) == (task_id, "pending", None)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", str(reply["created_at"]))

    play(scenario)


@pytest.mark.parametrize(("body", "status"), [(b"red", "completed"), (b"fail", "failed")])
def test_status_of_a_task_that_has_ended(play: Play, body: bytes, status: str) -> None:
    async def scenario(routes: TaskRoutes) -> None:
        task_id = await submitted(routes, body)
        assert await ended(routes, task_id) == status
        assert (await routes.status(task_id))["executed_at"] is not None

    play(scenario)


@pytest.mark.parametrize(("body", "status"), [(b"red", 200), (b"fail", 400)])
def test_get_gives_the_stored_response(play: Play, body: bytes, status: int) -> None:
    async def scenario(routes: TaskRoutes) -> None:
        task_id = await submitted(routes, body)
        await ended(routes, task_id)
        assert await routes.get(task_id) == answer(body, status)

    play(scenario)


@pytest.mark.parametrize("call", [TaskRoutes.get, TaskRoutes.retry])
def test_a_task_that_runs_can_neither_be_got_nor_retried(
    play: Play, call: Callable[[TaskRoutes, str], Awaitable[object]]
) -> None:
    async def scenario(routes: TaskRoutes) -> None:
        task_id = await submitted(routes, b"forever")
        with pytest.raises(StateException, match=f"^task {task_id} is not completed yet$"):
            await call(routes, task_id)

    play(scenario)


def test_retry_runs_the_same_request_under_a_new_id(play: Play) -> None:
    async def scenario(routes: TaskRoutes) -> None:
        task_id = await submitted(routes, b"red")
        await ended(routes, task_id)
        reply = await routes.retry(task_id)
        retried = str(reply["task_id"])
        assert reply == {"task_id": retried, "status": "in_progress"}
        assert retried != task_id
        await ended(routes, retried)
        assert await routes.get(retried) == answer(b"red")

    play(scenario)


def test_cancel_answers_that_the_task_is_cancelled(play: Play) -> None:
    async def scenario(routes: TaskRoutes) -> None:
        task_id = await submitted(routes, b"forever")
        await begun(routes, task_id)
        assert await routes.cancel(task_id) == {"task_id": task_id, "status": "canceled"}

    play(scenario)


def test_cancelling_twice_is_as_good_as_once(play: Play) -> None:
    async def scenario(routes: TaskRoutes) -> None:
        task_id = await submitted(routes, b"forever")
        assert await routes.cancel(task_id) == await routes.cancel(task_id)

    play(scenario)


@pytest.mark.parametrize(("body", "words"), [(b"red", "completed"), (b"fail", "failed")])
def test_a_task_that_has_ended_cannot_be_cancelled(play: Play, body: bytes, words: str) -> None:
    async def scenario(routes: TaskRoutes) -> None:
        task_id = await submitted(routes, body)
        await ended(routes, task_id)
        with pytest.raises(StateException, match=f"^task {task_id} has {words} already$"):
            await routes.cancel(task_id)

    play(scenario)


def test_a_cancelled_task_has_no_response(play: Play) -> None:
    async def scenario(routes: TaskRoutes) -> None:
        task_id = await submitted(routes, b"forever")
        await routes.cancel(task_id)
        with pytest.raises(StateException, match=f"^task {task_id} was canceled$"):
            await routes.get(task_id)

    play(scenario)


def test_a_cancelled_task_can_be_retried(play: Play) -> None:
    async def scenario(routes: TaskRoutes) -> None:
        task_id = await submitted(routes, b"forever")
        await routes.cancel(task_id)
        await begun(routes, str((await routes.retry(task_id))["task_id"]))

    play(scenario)


WITH_AN_ID = [TaskRoutes.status, TaskRoutes.get, TaskRoutes.retry, TaskRoutes.cancel]


@pytest.mark.parametrize("call", WITH_AN_ID)
def test_a_call_without_an_id_is_refused(
    play: Play, call: Callable[[TaskRoutes, str | None], Awaitable[object]]
) -> None:
    async def scenario(routes: TaskRoutes) -> None:
        with pytest.raises(BadInput, match=r"^task_id is required$"):
            await call(routes, None)

    play(scenario)


@pytest.mark.parametrize("call", WITH_AN_ID)
def test_an_unknown_id_is_not_found(
    play: Play, call: Callable[[TaskRoutes, str | None], Awaitable[object]]
) -> None:
    async def scenario(routes: TaskRoutes) -> None:
        with pytest.raises(NotFound, match=r"^task_id not found$"):
            await call(routes, "unknown")

    play(scenario)


@pytest.mark.parametrize("call", WITH_AN_ID)
def test_the_task_of_another_endpoint_is_not_found(
    play: Play, call: Callable[[TaskRoutes, str | None], Awaitable[object]]
) -> None:
    async def scenario(routes: TaskRoutes) -> None:
        task_id = await submitted(routes, b"forever")
        other = TaskRoutes(store=routes.store, runner=routes.runner, endpoint="sketch")
        with pytest.raises(NotFound):
            await call(other, task_id)

    play(scenario)


def test_a_body_that_no_store_can_keep_is_refused(open_sqlite: OpenSQLite) -> None:
    async def scenario() -> None:
        async with running(open_sqlite(max_bytes=2**20)) as routes:
            await routes.submit((), bytes(2**20 + 1))

    with pytest.raises(PayloadTooLarge, match="the body has 1048577 bytes, a task may have 1048576"):
        asyncio.run(scenario())
