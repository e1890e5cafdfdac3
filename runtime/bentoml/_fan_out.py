"""One call for each of many items: `await self.peer.method.map(items)`."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def call_for_each(
    method: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    concurrency: int = 8,
    return_exceptions: bool = False,
) -> list[R | Exception]:
    """The results of `method(item)` for all items, in their order.

    An item is taken when a call for it can begin, so that a source which makes them one by one is not
    overrun.

    Args:
        concurrency: how many calls run at once.
        return_exceptions: put what a call raises in the place of its result. Otherwise the first that is
            raised cancels the other calls, and is raised here.

    Raises:
        ValueError: `concurrency` is less than 1.
    """
    _check(concurrency)
    source = _numbered(items)
    results: dict[int, R | Exception] = {}
    turn = asyncio.Lock()

    async def take_and_call() -> None:
        while True:
            async with turn:  # an iterator gives one item at a time
                taken = await anext(source, None)
            if taken is None:
                return
            number, item = taken
            try:
                results[number] = await method(item)
            except Exception as error:
                if not return_exceptions:
                    raise
                results[number] = error

    callers = [asyncio.create_task(take_and_call()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*callers)
    finally:
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
    return [results[number] for number in range(len(results))]


def call_for_each_blocking(
    method: Callable[[T], R],
    items: Iterable[T],
    *,
    concurrency: int = 8,
    return_exceptions: bool = False,
) -> list[R | Exception]:
    """As `call_for_each`, for a method that returns: the calls run in threads.

    The first call that raises keeps others from beginning; those that run are waited for.

    Raises:
        ValueError: `concurrency` is less than 1.
    """
    _check(concurrency)
    results: dict[int, R | Exception] = {}
    source = enumerate(items)
    with ThreadPoolExecutor(concurrency, thread_name_prefix="map") as threads:
        running: dict[Future[R], int] = {}

        def begin(count: int) -> None:
            for number, item in islice(source, count):
                running[threads.submit(contextvars.copy_context().run, method, item)] = number

        begin(concurrency)
        while running:
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                number = running.pop(future)
                error = future.exception()
                if error is None:
                    results[number] = future.result()
                elif return_exceptions and isinstance(error, Exception):
                    results[number] = error
                else:
                    raise error
            begin(len(ended))
    return [results[number] for number in range(len(results))]


def _check(concurrency: int) -> None:
    if concurrency < 1:
        raise ValueError(f"concurrency {concurrency}: expected 1 or more")


async def _numbered(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[tuple[int, Any]]:
    number = 0
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield number, item
            number += 1
    else:
        for item in items:
            yield number, item
            number += 1
