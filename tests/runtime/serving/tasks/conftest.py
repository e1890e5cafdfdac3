"""What the tests of tasks share: stores of both kinds, a Redis server, and workers that run tasks."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any, Protocol

import pytest
import redis
from tests.runtime.conftest import DEADLINE_S, until

from bentoml._serving.tasks.redis_store import RedisTaskStore
from bentoml._serving.tasks.routes import TaskRoutes
from bentoml._serving.tasks.runner import TaskRunner
from bentoml._serving.tasks.sqlite_store import SQLiteTaskStore
from bentoml._serving.tasks.store import TaskRequest, TaskResponse, TaskStore

Execute = Callable[[TaskRequest], Awaitable[TaskResponse]]


def task_request(task_id: str, body: bytes = b"", endpoint: str = "paint") -> TaskRequest:
    return TaskRequest(task_id=task_id, endpoint=endpoint, headers=(), body=body)


def answer(body: bytes = b"", status: int = 200) -> TaskResponse:
    return TaskResponse(status=status, headers=((b"content-type", b"text/plain"),), body=body)


async def echo(request: TaskRequest) -> TaskResponse:
    return answer(request.body)


async def eventually(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    """The first true value of `condition`, while the loop goes on; fails with `what` past the deadline."""

    async def first() -> Any:
        while not (value := await condition()):  # noqa: ASYNC110  # a store tells nobody that it changed
            await asyncio.sleep(0.01)
        return value

    try:
        return await asyncio.wait_for(first(), DEADLINE_S)
    except asyncio.TimeoutError:
        raise AssertionError(f"not within {DEADLINE_S:.0f} s: {what}") from None


@asynccontextmanager
async def running(
    store: TaskStore,
    execute: Execute = echo,
    *,
    worker: str = "worker",
    concurrency: int = 1,
    lease_s: float = 20.0,
    largest_result: int = 2**20,
) -> AsyncIterator[TaskRoutes]:
    """A worker that runs the tasks of the endpoint `paint`; what is still running at the end is failed."""
    runner = TaskRunner(
        store=store,
        worker=worker,
        execute=execute,
        concurrency=concurrency,
        lease_s=lease_s,
        largest_result=largest_result,
    )
    await runner.start()
    try:
        yield TaskRoutes(store=store, runner=runner, endpoint="paint")
    finally:
        await runner.stop(grace_s=0)


async def submitted(routes: TaskRoutes, body: bytes = b"") -> str:
    return str((await routes.submit((), body))["task_id"])


async def ended(routes: TaskRoutes, task_id: str) -> str:
    """The status of the task, once that is final."""

    async def final() -> str | None:
        status = str((await routes.status(task_id))["status"])
        return None if status in ("pending", "in_progress") else status

    return str(await eventually(final, f"task {task_id} ends"))


async def begun(routes: TaskRoutes, task_id: str) -> None:
    async def is_running() -> bool:
        return (await routes.status(task_id))["status"] == "in_progress"

    await eventually(is_running, f"task {task_id} is begun")


class OpenSQLite(Protocol):
    """Opens the file `tasks.db` in `tmp_path`, as each worker does for itself."""

    def __call__(
        self, *, service: str = ..., retention_s: float = ..., max_bytes: int = ...
    ) -> SQLiteTaskStore: ...


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


@pytest.fixture
def open_sqlite(database: Path) -> Iterator[OpenSQLite]:
    with ExitStack() as opened:

        def open_sqlite(
            *, service: str = "Painter", retention_s: float = 3600.0, max_bytes: int = 2**30
        ) -> SQLiteTaskStore:
            store = SQLiteTaskStore(database, service=service, retention_s=retention_s, max_bytes=max_bytes)
            return opened.enter_context(closing(store))

        yield open_sqlite


class RedisServer:
    """A Redis server of its own, on a socket in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "s"
        self.url = f"unix://{self._socket}"
        self.start()

    def start(self, *options: str) -> None:
        settings = ["--port", "0", "--unixsocket", str(self._socket), "--save", "", *options]
        with (self._socket.parent / "log").open("ab") as log:
            self._process = subprocess.Popen(["redis-server", *settings], stdout=log, stderr=log)
        until(self._answers, "redis-server answers")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(DEADLINE_S)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def _answers(self) -> bool:
        with closing(self.client()) as client, suppress(redis.ConnectionError):
            return bool(client.ping())
        return False


@pytest.fixture
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


class OpenRedis(Protocol):
    """Makes a store in the test's Redis server, as each worker does for itself."""

    def __call__(self, *, service: str = ..., retention_s: float = ...) -> RedisTaskStore: ...


@pytest.fixture
def open_redis(redis_server: RedisServer) -> Iterator[OpenRedis]:
    with ExitStack() as opened:

        def open_redis(*, service: str = "Painter", retention_s: float = 3600.0) -> RedisTaskStore:
            store = RedisTaskStore(redis_server.url, service=service, retention_s=retention_s)
            return opened.enter_context(closing(store))

        yield open_redis


class OpenStore(Protocol):
    """Opens the same store once more, as each worker does for itself."""

    def __call__(self, *, service: str = ...) -> TaskStore: ...


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def open_store(request: pytest.FixtureRequest) -> OpenStore:
    opener: OpenStore = request.getfixturevalue(f"open_{request.param}")
    return opener
