"""Plays rows through the clients of whichever `bentoml` is installed.

Reads a list of columns, each `{"kind": "sync" | "async", "addresses": {project: url}, "rows": [name]}`, and
writes for each an object of row name → null, or what went wrong in words.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import TypedDict

from tests.compat.rows import ROWS, Client, Task, Value

import bentoml

TIMEOUT_S = 20.0


class Column(TypedDict):
    """What one client is to play."""

    kind: str
    addresses: dict[str, str]
    rows: list[str]


class Waiting:
    """What a client of either kind returns, as a plain value."""

    def __init__(self, finish: Callable[[Value], Value], collect: Callable[[Value], list[Value]]) -> None:
        self.finish = finish
        self.collect = collect


class DrivenTask(Task):
    """A task of the installed client."""

    def __init__(self, task: Value, waiting: Waiting) -> None:
        self._task, self._waiting = task, waiting

    @property
    def id(self) -> str:
        return str(self._task.id)

    def status(self) -> str:
        return str(self._waiting.finish(self._task.get_status()).value)

    def get(self) -> Value:
        return self._waiting.finish(self._task.get())

    def cancel(self) -> None:
        self._waiting.finish(self._task.cancel())

    def retry(self) -> Task:
        return DrivenTask(self._waiting.finish(self._task.retry()), self._waiting)


class DrivenClient(Client):
    """The installed client, as rows ask for it."""

    def __init__(self, client: Value, waiting: Waiting, folder: Path) -> None:
        self._client, self._waiting, self._folder = client, waiting, folder

    @property
    def folder(self) -> Path:
        return self._folder

    def call(self, endpoint: str, *args: Value, **kwargs: Value) -> Value:
        return self._waiting.finish(getattr(self._client, endpoint)(*args, **kwargs))

    def call_by_name(self, endpoint: str, *args: Value, **kwargs: Value) -> Value:
        return self._waiting.finish(self._client.call(endpoint, *args, **kwargs))

    def items(self, endpoint: str, *args: Value, **kwargs: Value) -> list[Value]:
        return self._waiting.collect(getattr(self._client, endpoint)(*args, **kwargs))

    def submit(self, endpoint: str, *args: Value, **kwargs: Value) -> Task:
        submitted = getattr(self._client, endpoint).submit(*args, **kwargs)
        return DrivenTask(self._waiting.finish(submitted), self._waiting)

    def request(self, method: str, path: str, **options: Value) -> Value:
        return self._waiting.finish(self._client.request(method, path, **options))

    def is_ready(self) -> bool:
        return bool(self._waiting.finish(self._client.is_ready()))


@contextmanager
def sync_client(url: str, folder: Path) -> Iterator[Client]:
    with bentoml.SyncHTTPClient(url, timeout=TIMEOUT_S, server_ready_timeout=0) as client:
        yield DrivenClient(client, Waiting(lambda value: value, list), folder)


@contextmanager
def async_client(url: str, folder: Path) -> Iterator[Client]:
    """The asynchronous client on a loop of its own, which runs while a row waits."""
    loop = asyncio.new_event_loop()

    def finish(value: Awaitable[Value]) -> Value:
        return loop.run_until_complete(asyncio.wait_for(value, TIMEOUT_S))

    async def collected(stream: Value) -> list[Value]:
        return [item async for item in stream]

    try:
        client = bentoml.AsyncHTTPClient(url, timeout=TIMEOUT_S, server_ready_timeout=0)
        finish(client.__aenter__())
        yield DrivenClient(client, Waiting(finish, lambda stream: finish(collected(stream))), folder)
        finish(client.__aexit__(None, None, None))
    finally:
        loop.close()


def play(column: Column, folder: Path) -> dict[str, str | None]:
    """Each row of the column, and what went wrong with it."""
    make = sync_client if column["kind"] == "sync" else async_client
    faults: dict[str, str | None] = {}
    with ExitStack() as opened:
        clients: dict[str, Client] = {}
        for name in column["rows"]:
            row = ROWS[name]
            try:
                if row.project not in clients:
                    url = column["addresses"][row.project]
                    clients[row.project] = opened.enter_context(make(url, folder))
                row.play(clients[row.project])
            except Exception as error:  # noqa: BLE001  # whatever it is, it is this row's fault and no other's
                faults[name] = f"{type(error).__name__}: {error}"
            else:
                faults[name] = None
    return faults


def main() -> None:
    columns: list[Column] = json.load(sys.stdin)
    # What a library prints is no part of the answer.
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        faults = [play(column, Path(folder)) for column in columns]
    json.dump(faults, sys.stdout)


if __name__ == "__main__":
    main()
