"""A crew, whose workers are no processes and do as the test says."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import re
import selectors
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bentoml._config import load_config
from bentoml._process.board import Board
from bentoml._process.crew import Crew, Times
from bentoml._process.line import STACKS_SIGNAL
from bentoml._process.port import PublicPort
from bentoml._process.processes import WorkerProcess
from bentoml._process.supervisor import times_of
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

    async def next(self, within_s: float = 30) -> Worker:
        return await asyncio.wait_for(self._started.get(), within_s)

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


class Selector(selectors.DefaultSelector):
    """Waits for nothing but events: time that a loop would wait is passed over."""

    passed_over_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(timeout and 0)
        if not events and timeout is not None:
            self.passed_over_s += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock goes on at once to when something is due."""

    def __init__(self) -> None:
        self._waiting = Selector()
        super().__init__(self._waiting)

    def time(self) -> float:
        return super().time() + self._waiting.passed_over_s


@pytest.fixture
def virtual_loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


@pytest.fixture
def board() -> Iterator[Ticks]:
    board = Ticks(Board.new(1).descriptor, 1)
    yield board
    board.close()


@asynccontextmanager
async def running_crew(board: Board, metrics: Path, times: Times) -> AsyncIterator[tuple[Crew, Workers]]:
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
    with socket.socket() as port:
        public = PublicPort(port, 5, "PORT")
        crew = Crew(task, public, board, workers, metrics=metrics, times=times, on_failure=lambda: None)
        crew.start()
        try:
            yield crew, workers
        finally:
            await crew.stop(signal.SIGKILL)


@asynccontextmanager
async def running(board: Board, metrics: Path, times: Times) -> AsyncIterator[Workers]:
    async with running_crew(board, metrics, times) as (_, workers):
        yield workers


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


@pytest.mark.parametrize("blocked_s", [60, 85])
def test_a_loop_that_is_blocked_for_less_than_the_timeout_and_a_margin_is_live_and_ready(
    board: Ticks, tmp_path: Path, virtual_loop: VirtualLoop, blocked_s: int
) -> None:
    async def test() -> tuple[set[tuple[bool, bool]], list[int]]:
        async with running_crew(board, tmp_path, times_of(load_config("Iris"))) as (crew, workers):
            worker = await workers.next()
            worker.report("ready")
            await asyncio.sleep(5)
            began, beats = virtual_loop.time(), board.count
            board.seen = lambda count: beats if virtual_loop.time() < began + blocked_s else count
            health = set()
            while virtual_loop.time() < began + 2 * blocked_s:
                health.add((crew.is_live, crew.is_ready))
                await asyncio.sleep(1)
            return health, worker.signals[:]

    assert virtual_loop.run_until_complete(test()) == ({(True, True)}, [])


@pytest.mark.parametrize(("timeout_s", "margin_s"), [(60, 30), (5, 1), (600, 30)])
def test_a_loop_is_stuck_once_it_is_silent_for_longer_than_the_timeout_and_the_margin(
    board: Ticks, tmp_path: Path, virtual_loop: VirtualLoop, timeout_s: float, margin_s: float
) -> None:
    config = load_config("Iris", {"traffic": {"timeout": timeout_s}})

    async def test() -> tuple[float, list[int]]:
        times = times_of(config, stuck_margin_s=margin_s)
        async with running(board, tmp_path, times) as workers:
            worker = await workers.next()
            worker.report("ready")
            board.seen = lambda count: 0
            began = virtual_loop.time()
            await workers.next(within_s=FOREVER_S)  # which takes the place of the one that was stuck
            return virtual_loop.time() - began, worker.signals

    after_s, signals = virtual_loop.run_until_complete(test())
    assert signals == [STACKS_SIGNAL, signal.SIGKILL]
    # It is looked for once a second, has a second for its stacks, and its successor half a one to wait.
    assert timeout_s + margin_s < after_s < timeout_s + margin_s + 4
