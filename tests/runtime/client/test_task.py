from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.runtime.client.conftest import INTEGER, URL, answering, endpoint, service, takes

from bentoml import AsyncHTTPClient, SyncHTTPClient
from bentoml._task_status import TaskStatus
from bentoml.exceptions import BentoMLException, InvalidArgument, NotFound, RemoteException


class Jobs:
    """A service with one task, `job`, that doubles what it is given; it keeps every one."""

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}

    @property
    def app(self) -> Starlette:
        app = service(endpoint("job", takes=takes(x=INTEGER), is_task=True), job=lambda _: 0)
        for name, answer, method in [
            ("submit", self._submit, "POST"),
            ("status", self._known, "GET"),
            ("get", self._get, "GET"),
            ("retry", lambda request: self._take(self._known(request)["x"]), "POST"),
            ("cancel", self._cancel, "PUT"),
        ]:
            app.router.routes.append(Route(f"/job/{name}", answering(answer), methods=[method]))
        return app

    def _take(self, x: int) -> dict[str, Any]:
        task_id = f"t{len(self.tasks)}"
        self.tasks[task_id] = {"task_id": task_id, "status": "in_progress", "x": x}
        return self.tasks[task_id]

    def _known(self, request: Request) -> dict[str, Any]:
        return self.tasks[request.query_params["task_id"]]

    async def _submit(self, request: Request) -> dict[str, Any]:
        return self._take((await request.json())["x"])

    def _get(self, request: Request) -> object:
        task = self.tasks.get(request.query_params["task_id"])
        if task is None:
            return JSONResponse({"error": "task_id not found"}, 404)
        if task["status"] != "completed":
            return JSONResponse({"error": f"task {task['task_id']} is not completed yet"}, 400)
        return 2 * task["x"]

    def _cancel(self, request: Request) -> dict[str, Any]:
        self._known(request)["status"] = "canceled"
        return self._known(request)


Steps = Callable[..., list[Any]]
"""Submits `job(4)`, calls these methods of the task in turn; gives the task and what each gave or raised."""


def steps_sync(app: Starlette, *names: str) -> list[Any]:
    with SyncHTTPClient(URL, app=app) as client:
        found = [client.job.submit(4)]
        for name in names:
            try:
                found.append(getattr(found[0], name)())
            except BentoMLException as error:
                found.append(error)
        return found


def steps_async(app: Starlette, *names: str) -> list[Any]:
    async def run() -> list[Any]:
        # Without `async with`, so that the first method called is one of a task that nobody knows yet.
        client = AsyncHTTPClient(URL, app=app)
        found = [await client.job.submit(x=4)]
        for name in names:
            try:
                found.append(await getattr(found[0], name)())
            except BentoMLException as error:
                found.append(error)
        await client.close()
        return found

    return asyncio.run(run())


@pytest.fixture(params=[steps_sync, steps_async], ids=["sync", "async"])
def steps(request: pytest.FixtureRequest) -> Steps:
    steps: Steps = request.param
    return steps


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


def test_a_task_that_is_submitted_has_an_id(jobs: Jobs, steps: Steps) -> None:
    (task,) = steps(jobs.app)

    assert task.id == "t0"
    assert repr(task).endswith("Task(id='t0')")


def test_a_task_says_how_far_it_has_come(jobs: Jobs, steps: Steps) -> None:
    _, status = steps(jobs.app, "get_status")

    assert status is TaskStatus.IN_PROGRESS
    assert (status, status.value) == ("in_progress", "in_progress")


def test_the_result_of_a_task_that_runs_is_not_there(jobs: Jobs, steps: Steps) -> None:
    _, error = steps(jobs.app, "get")

    assert isinstance(error, InvalidArgument)
    assert str(error) == "task t0 is not completed yet"


def test_the_result_of_a_task_is_of_the_type_of_its_endpoint(jobs: Jobs, steps: Steps) -> None:
    app = jobs.app
    steps(app)
    jobs.tasks["t0"]["status"] = "completed"

    with SyncHTTPClient(URL, app=app) as client:
        assert client.job.get("t0") == 8


def test_a_task_that_is_canceled_says_so(jobs: Jobs, steps: Steps) -> None:
    _, nothing, status = steps(jobs.app, "cancel", "get_status")

    assert (nothing, status) == (None, TaskStatus.CANCELED)


def test_a_task_is_retried_as_another(jobs: Jobs, steps: Steps) -> None:
    task, again = steps(jobs.app, "retry")

    assert (task.id, again.id) == ("t0", "t1")
    assert jobs.tasks["t1"]["x"] == 4


def test_a_task_may_be_called_like_any_endpoint(jobs: Jobs) -> None:
    with SyncHTTPClient(URL, app=jobs.app) as client:
        assert client.job(1) == 0


def test_a_task_that_nobody_knows_is_told(jobs: Jobs) -> None:
    with SyncHTTPClient(URL, app=jobs.app) as client, pytest.raises(NotFound, match="task_id not found"):
        client.job.get("t9")


@pytest.mark.parametrize(
    ("reply", "method"),
    [([], "retry"), ({"task_id": 5}, "retry"), ({}, "get_status"), ({"status": "odd"}, "get_status")],
)
def test_a_reply_that_says_nothing_of_a_task_is_told(jobs: Jobs, reply: object, method: str) -> None:
    app = service(endpoint("job", is_task=True), job=lambda _: 0)
    for name in ("retry", "status"):
        app.router.routes.append(Route(f"/job/{name}", answering(lambda _: reply), methods=["GET", "POST"]))

    with (
        SyncHTTPClient(URL, app=app) as client,
        pytest.raises(RemoteException, match=r"http://service/job/.*: expected"),
    ):
        getattr(client.job, method)("t0")
