"""A crew, whose workers are no processes and do as the test says."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bentoml._config import load_config
from bentoml._process.board import Board
from bentoml._process.crew import Crew, Times
from bentoml._process.port import PublicPort
from bentoml._process.processes import WorkerProcess
from bentoml._process.task import ServiceTask
from bentoml._process.workers import WorkerPlan

FOREVER_S = 1e6


class Worker:
    """Stands for a worker process: remembers the signals that it gets, and ends by SIGKILL."""

    pid = 0

    def __init__(self, line: socket.socket) -> None:
        self.signals: list[int] = []
        self._line = line
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def report(self, state: str, reason: str = "") -> None:
        self._line.sendall(json.dumps({"state": state, "reason": reason}).encode() + b"\n")

    def send_signal(self, number: int) -> None:
        self.signals.append(number)
        if number == signal.SIGKILL and not self._code.done():
            self._line.close()
            self._code.set_result(-number)

    async def wait(self) -> int:
        return await self._code


class Workers:
    """Starts workers that the test then gets."""

    def __init__(self) -> None:
        self._started: asyncio.Queue[Worker] = asyncio.Queue()

    async def start(self, descriptors: tuple[int, ...], environ: Mapping[str, str]) -> WorkerProcess:
        worker = Worker(socket.socket(fileno=os.dup(descriptors[0])))
        self._started.put_nowait(worker)
        return worker

    async def next(self) -> Worker:
        return await asyncio.wait_for(self._started.get(), 30)

    async def close(self) -> None:
        pass


class Ticks(Board):
    """A board that tells what happens each time that the supervisor looks at it.

    Args:
        seen: called with how often it has been looked at; returns the beats that are seen then.
    """

    seen: Callable[[int], int] = staticmethod(lambda count: count)
    count = 0

    def beats(self, index: int) -> int:
        self.count += 1
        return self.seen(self.count)


@pytest.fixture
def board() -> Iterator[Ticks]:
    board = Ticks(Board.new(1).descriptor, 1)
    yield board
    board.close()


@asynccontextmanager
async def running(board: Board, metrics: Path, times: Times) -> AsyncIterator[Workers]:
    """A crew of one, from its start to its end."""
    task = ServiceTask(
        target="service:Iris",
        service="Iris",
        config=load_config("Iris"),
        declared={},
        project=metrics,
        workers=(WorkerPlan(0, {}),),
        host="127.0.0.1",
        port=0,
        management_port=0,
    )
    workers = Workers()
    port = socket.socket()
    public = PublicPort(port, 5, "PORT")
    crew = Crew(task, public, board, workers, metrics=metrics, times=times, on_failure=lambda: None)
    crew.start()
    try:
        yield workers
    finally:
        await crew.stop(signal.SIGKILL)


def pauses(log: pytest.LogCaptureFixture) -> list[str]:
    return re.findall(r"again in (\S+) s", log.text)


@pytest.mark.parametrize(
    ("proven_after_s", "reason", "expected"),
    [
        (-1.0, "", ["0.1", "0.1", "0.1", "0.1"]),
        (math.inf, "", ["0.1", "0.2", "0.4", "0.4"]),
        (-1.0, "no weights", ["0.1", "0.2", "0.4", "0.4"]),
    ],
    ids=["killed once a while", "killed at once", "slow to find that it cannot start"],
)
def test_a_worker_that_does_not_last_is_started_again_later_and_later(
    board: Ticks,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    proven_after_s: float,
    reason: str,
    expected: list[str],
) -> None:
    times = Times(
        stuck_after_s=FOREVER_S,
        grace_s=FOREVER_S,
        first_pause_s=0.1,
        longest_pause_s=0.4,
        proven_after_s=proven_after_s,
    )

    async def test() -> None:
        async with running(board, tmp_path, times) as workers:
            for count in range(len(expected)):
                worker = await workers.next()
                if reason and count:
                    worker.report("failed", reason)
                else:
                    worker.report("ready")
                worker.send_signal(signal.SIGKILL)
            await workers.next()

    with caplog.at_level(logging.INFO, "bentoml"):
        asyncio.run(test())
    assert pauses(caplog) == expected


def test_a_worker_that_took_long_to_load_is_not_taken_for_stuck(board: Ticks, tmp_path: Path) -> None:
    times = Times(stuck_after_s=0.15, grace_s=FOREVER_S, tick_s=0.1)

    async def test() -> list[int]:
        async with running(board, tmp_path, times) as workers:
            worker = await workers.next()
            over = asyncio.Event()

            def seen(count: int) -> int:
                if count == 4:
                    worker.report("ready")  # heard before the next tick, which comes before its first beat
                if count == 10:
                    over.set()
                return max(0, count - 5)

            board.seen = seen
            await asyncio.wait_for(over.wait(), 30)
            return worker.signals[:]

    assert asyncio.run(test()) == []
