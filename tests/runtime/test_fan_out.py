"""One call for each of many items, where events say which call goes on."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from bentoml._fan_out import call_for_each, call_for_each_blocking

PATIENCE_S = 30.0


async def double(x: int) -> int:
    return 2 * x


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_results_are_in_the_order_of_the_items() -> None:
    async def test() -> None:
        ended = [asyncio.Event() for _ in range(4)]

        async def last_first(x: int) -> int:
            if x < 3:
                await ended[x + 1].wait()
            ended[x].set()
            return 2 * x

        assert await call_for_each(last_first, range(4), concurrency=4) == [0, 2, 4, 6]

    asyncio.run(test())


@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_all_items_are_called_however_many(count: int) -> None:
    assert asyncio.run(call_for_each(double, range(count), concurrency=3)) == [2 * x for x in range(count)]


def test_no_more_calls_run_at_once_than_asked_for() -> None:
    async def test() -> None:
        running = 0
        most = 0

        async def call(x: int) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

        await call_for_each(call, range(50), concurrency=7)
        assert most == 7

    asyncio.run(test())


@pytest.mark.parametrize("is_async", [False, True], ids=["iterable", "async iterable"])
def test_an_item_is_taken_when_its_call_can_begin(is_async: bool) -> None:
    async def test() -> None:
        taken: list[int] = []
        go_on = asyncio.Event()

        def items() -> Iterator[int]:
            for x in range(10):
                taken.append(x)
                yield x

        async def async_items() -> AsyncIterator[int]:
            for x in items():
                yield x

        async def call(x: int) -> int:
            await go_on.wait()
            return x

        calls = asyncio.create_task(
            call_for_each(call, async_items() if is_async else items(), concurrency=3)
        )
        await turns()
        assert taken == [0, 1, 2]

        go_on.set()
        assert await calls == list(range(10))

    asyncio.run(test())


def test_calls_run_while_the_source_has_nothing_yet() -> None:
    async def test() -> None:
        called: list[int] = []
        next_item: asyncio.Queue[int] = asyncio.Queue()

        async def items() -> AsyncIterator[int]:
            while (x := await next_item.get()) >= 0:
                yield x

        async def call(x: int) -> None:
            called.append(x)

        calls = asyncio.create_task(call_for_each(call, items()))
        next_item.put_nowait(5)
        await turns()
        assert called == [5]

        next_item.put_nowait(-1)
        await calls

    asyncio.run(test())


def test_exceptions_stand_in_the_place_of_results_where_asked_for() -> None:
    async def odd_fails(x: int) -> int:
        if x % 2:
            raise ValueError(x)
        return x

    results = asyncio.run(call_for_each(odd_fails, range(4), return_exceptions=True))

    assert [str(result) for result in results] == ["0", "1", "2", "3"]
    assert [type(result) for result in results] == [int, ValueError, int, ValueError]


def test_the_first_exception_is_raised_and_cancels_the_other_calls() -> None:
    async def test() -> None:
        begun: list[int] = []
        cancelled: list[int] = []

        async def call(x: int) -> None:
            begun.append(x)
            if x == 2:
                raise ValueError("the third")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(x)
                raise

        with pytest.raises(ValueError, match="the third"):
            await call_for_each(call, range(100), concurrency=3)
        assert (begun, sorted(cancelled), len(asyncio.all_tasks())) == ([0, 1, 2], [0, 1], 1)

    asyncio.run(test())


def test_a_cancelled_map_cancels_its_calls_and_waits_for_them() -> None:
    async def test() -> None:
        cleaned: list[int] = []

        async def call(x: int) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.append(x)

        calls = asyncio.create_task(call_for_each(call, range(100), concurrency=3))
        await turns()
        calls.cancel()

        with pytest.raises(asyncio.CancelledError):
            await calls
        assert (sorted(cleaned), len(asyncio.all_tasks())) == ([0, 1, 2], 1)

    asyncio.run(test())


def test_what_the_source_raises_is_raised_and_ends_the_calls() -> None:
    async def test() -> None:
        async def items() -> AsyncIterator[int]:
            yield 1
            raise LookupError("no more")

        async def call(x: int) -> None:
            await asyncio.Event().wait()

        with pytest.raises(LookupError, match="no more"):
            await call_for_each(call, items())
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(test())


def test_calls_see_the_context_of_the_caller() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def call(x: int) -> str:
        return variable.get()

    async def test() -> None:
        variable.set("the caller's")
        assert await call_for_each(call, range(2)) == ["the caller's"] * 2

    asyncio.run(test())


@pytest.mark.parametrize("concurrency", [0, -1])
def test_a_concurrency_below_one_is_refused(concurrency: int) -> None:
    with pytest.raises(ValueError, match=f"concurrency {concurrency}: expected 1 or more"):
        asyncio.run(call_for_each(double, [1], concurrency=concurrency))
    with pytest.raises(ValueError, match=f"concurrency {concurrency}: expected 1 or more"):
        call_for_each_blocking(str, [1], concurrency=concurrency)


# For callers that block


def test_blocking_results_are_in_the_order_of_the_items() -> None:
    ended = [threading.Event() for _ in range(4)]

    def last_first(x: int) -> int:
        if x < 3:
            assert ended[x + 1].wait(PATIENCE_S)
        ended[x].set()
        return 2 * x

    assert call_for_each_blocking(last_first, range(4), concurrency=4) == [0, 2, 4, 6]


def test_no_more_threads_call_at_once_than_asked_for() -> None:
    together = threading.Barrier(3)

    def call(x: int) -> int:
        together.wait(PATIENCE_S)  # goes on when three are there
        return threading.active_count()

    before = threading.active_count()
    counts = call_for_each_blocking(call, range(12), concurrency=3)

    assert set(counts) == {before + 3}


def test_an_item_is_taken_when_a_thread_can_call_with_it() -> None:
    taken: list[int] = []
    seen: list[int] = []

    def items() -> Iterator[int]:
        for x in range(4):
            taken.append(x)
            yield x

    def call(x: int) -> None:
        seen.append(len(taken))

    call_for_each_blocking(call, items(), concurrency=1)

    assert seen == [1, 2, 3, 4]


def test_exceptions_of_threads_stand_in_the_place_of_results_where_asked_for() -> None:
    def odd_fails(x: int) -> int:
        if x % 2:
            raise ValueError(x)
        return x

    results = call_for_each_blocking(odd_fails, range(4), return_exceptions=True)

    assert [type(result) for result in results] == [int, ValueError, int, ValueError]


def test_after_an_exception_no_more_threads_begin_and_those_that_run_are_waited_for() -> None:
    begun: list[int] = []
    ended: list[int] = []
    failed = threading.Event()

    def call(x: int) -> None:
        begun.append(x)
        if x == 0:
            failed.set()
            raise ValueError("the first")
        assert failed.wait(PATIENCE_S)
        ended.append(x)

    with pytest.raises(ValueError, match="the first"):
        call_for_each_blocking(call, range(100), concurrency=2)
    assert set(begun) - {0} == set(ended)
    assert len(begun) < 100


def test_threads_see_the_context_of_the_caller() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("the caller's")

    assert call_for_each_blocking(lambda x: variable.get(), range(2)) == ["the caller's"] * 2
