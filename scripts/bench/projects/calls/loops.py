"""What Caller does to measure its calls, the same in each of its versions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import cache
from typing import Any, Protocol, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
Measured: TypeAlias = dict[str, list[float] | str]
"""`seconds`, one figure for each time; or `failure`, the reason why there is none."""

ITEM = "{:07}\n"


class Callee(Protocol):
    """The service that is called, as its caller sees it."""

    async def add(self, *, a: int) -> int: ...
    async def back(self, *, array: Array) -> Array: ...
    def count(self, *, items: int) -> AsyncIterator[str]: ...


def array_like(array: Array, data: bytes | bytearray) -> Array:
    """The array that these are the bytes of."""
    received: Array = np.frombuffer(data, array.dtype).reshape(array.shape)
    return received


async def measure(callee: Callee, case: str, size: int, times: int) -> Measured:
    """How long a case takes each time; the first time is not counted, since it makes the connections."""
    try:
        took = [await _timed(CASES[case](callee, size)) for _ in range(times + 1)]
    except Exception as error:  # noqa: BLE001  whatever an implementation raises is what is reported
        return {"failure": f"{type(error).__name__}: {error}"}
    return {"seconds": took[1:]}


async def _timed(work: Awaitable[None]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


async def _small(callee: Callee, size: int) -> None:
    """`size` calls at once, whose work is nothing."""
    if size == 1:
        _check(await callee.add(a=2) == 3)
        return
    answers = await asyncio.gather(*(callee.add(a=2) for _ in range(size)), return_exceptions=True)
    failures = [answer for answer in answers if isinstance(answer, BaseException)]
    if failures:
        first = f"{type(failures[0]).__name__}: {failures[0]}"
        raise RuntimeError(f"{len(failures)} of {size} calls at once, the first with {first}")
    _check(answers == [3] * size)


async def _array(callee: Callee, size: int) -> None:
    """An array of `size` MiB there and back."""
    array = _ones(size)
    answer = await callee.back(array=array)
    _check(answer.dtype == array.dtype and answer.shape == array.shape and answer[-1, -1, -1] == 1)


@cache
def _ones(size: int) -> Array:
    """Made once, so that it is not measured."""
    return np.ones((size, 512, 512), np.float32)


async def _stream(callee: Callee, size: int) -> None:
    """A stream of `size` items of text."""
    # Not the number of pieces is compared: some hand out what the network delivers together as one.
    length = 0
    async for text in callee.count(items=size):
        length += len(text)
    _check(length == size * len(ITEM.format(0)))


def _check(is_right: bool) -> None:
    if not is_right:
        raise ValueError("the answer is wrong")


CASES: Mapping[str, Callable[[Callee, int], Awaitable[None]]] = {
    "small": _small,
    "array": _array,
    "stream": _stream,
}
