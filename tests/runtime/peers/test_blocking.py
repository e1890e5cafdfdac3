from __future__ import annotations

import asyncio
import contextvars
import itertools
import signal
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress

import pytest
from tests.runtime.conftest import DEADLINE_S, until
from tests.runtime.peers.wire_ends import open_sockets

from bentoml._peers.blocking import BlockingLoop


@pytest.fixture
def blocking() -> Iterator[BlockingLoop]:
    loop = BlockingLoop()
    yield loop
    loop.stop(nothing)


async def nothing() -> None:
    pass


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "peers"]


def test_a_result_is_returned(blocking: BlockingLoop) -> None:
    async def double(x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    assert blocking.run(double(4)) == 8


def test_what_is_raised_is_raised(blocking: BlockingLoop) -> None:
    async def fail() -> None:
        raise LookupError("not there")

    with pytest.raises(LookupError, match="not there"):
        blocking.run(fail())


def test_all_callers_share_one_thread(blocking: BlockingLoop) -> None:
    together = threading.Barrier(8)

    async def name() -> str:
        return threading.current_thread().name

    def call(_: int) -> str:
        together.wait(DEADLINE_S)
        return blocking.run(name())

    with ThreadPoolExecutor(8) as callers:
        assert list(callers.map(call, range(8))) == ["peers"] * 8
    assert len(threads()) == 1


def test_calls_see_the_context_of_the_caller(blocking: BlockingLoop) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def seen() -> str:
        return variable.get()

    variable.set("the caller's")

    assert blocking.run(seen()) == "the caller's"


def test_nothing_is_started_before_the_first_call() -> None:
    BlockingLoop().stop(nothing)

    assert threads() == []


class Interrupted(Exception):
    """What a signal's handler raises, as that of Ctrl-C does."""


@pytest.fixture
def interrupted_once() -> Iterator[None]:
    """The first of many signals raises."""
    signals = itertools.count()

    def interrupt(*_: object) -> None:
        if next(signals) == 0:
            raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_a_caller_that_is_interrupted_cancels_its_call(
    blocking: BlockingLoop, interrupted_once: None
) -> None:
    caller = threading.get_ident()
    cancelled = threading.Event()

    async def interrupt_until_cancelled() -> None:
        try:
            while True:  # a thread that only begins to wait would not be woken by one signal
                signal.pthread_kill(caller, signal.SIGUSR1)
                await asyncio.sleep(0.001)
        finally:
            cancelled.set()

    with pytest.raises(Interrupted):
        blocking.run(interrupt_until_cancelled())
    assert cancelled.wait(DEADLINE_S)


def test_a_generator_may_be_closed_from_the_thread_of_the_loop_itself(blocking: BlockingLoop) -> None:
    """As the garbage collector does it, which runs where it is its turn."""
    closed = threading.Event()

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            closed.set()

    async def close_here() -> None:
        blocking.close_soon(generator)

    generator = numbers()
    blocking.run(anext(generator))
    blocking.run(close_here())

    assert closed.wait(DEADLINE_S)


def test_closing_a_generator_begins_no_loop() -> None:
    async def numbers() -> AsyncGenerator[int, None]:
        yield 1

    BlockingLoop().close_soon(numbers())

    assert threads() == []


def test_whoever_waits_when_it_is_stopped_sees_a_cancellation() -> None:
    blocking = BlockingLoop()
    begun = threading.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(blocking.run, wait())
        assert begun.wait(DEADLINE_S)
        blocking.stop(nothing)

        with pytest.raises(CancelledError):
            call.result(DEADLINE_S)


def test_what_was_opened_on_it_is_closed_there_before_it_ends() -> None:
    blocking = BlockingLoop()
    loops: list[asyncio.AbstractEventLoop] = []

    async def note() -> None:
        loops.append(asyncio.get_running_loop())

    blocking.run(note())
    blocking.stop(note)

    assert loops[0] is loops[1]
    assert loops[0].is_closed()


def test_stopped_it_leaves_no_thread_and_no_socket() -> None:
    before = open_sockets()
    blocking = BlockingLoop()
    blocking.run(nothing())
    blocking.stop(nothing)

    assert (threads(), open_sockets()) == ([], before)


def test_no_caller_waits_for_ever_when_it_is_stopped_meanwhile() -> None:
    async def hop() -> None:
        await asyncio.sleep(0)

    def call_until(done: threading.Event, blocking: BlockingLoop) -> None:
        while not done.is_set():
            with suppress(CancelledError):
                blocking.run(hop())

    for _ in range(20):
        blocking = BlockingLoop()
        done = threading.Event()
        with ThreadPoolExecutor(3) as callers:
            calls = [callers.submit(call_until, done, blocking) for _ in range(3)]
            until(threads, "the loop runs")
            blocking.stop(nothing)
            done.set()
            for call in calls:
                call.result(DEADLINE_S)
        blocking.stop(nothing)
