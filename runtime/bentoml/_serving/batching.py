"""Adaptive batching: one call of a method for the items of several callers."""

from __future__ import annotations

import asyncio
import contextvars
import math
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Any, Protocol

from bentoml.exceptions import (
    DeadlineExceeded,
    InternalServerError,
    InvalidArgument,
    Overloaded,
    ServiceUnavailable,
    TooManyRequests,
    UnservableException,
)

# They say themselves that no item is to blame: running the halves would only add to what is too much.
_NO_ITEMS_FAULT = (ServiceUnavailable, TooManyRequests, DeadlineExceeded)


class Batcher:
    """Merges the batches of several callers, runs one merged batch at a time, and gives each caller its part.

    Batches form while one runs, so an idle batcher starts at once: a lone caller never waits for others that
    may not come, and the busier the method, the larger its batches. The exception are callers that come in
    bursts, as those do who all got their results from one batch: started at once, the first of them would
    run alone and the others behind it. A batch therefore waits for a quarter of a call's fixed cost, at most,
    where lately enough callers came within that time.

    A call that raises is split in halves until those who make it fail are found, so that only they get the
    error. The method may therefore see an item more than once.

    Args:
        call: runs the method on one batch.
        can_cancel: whether cancelling a call ends it, as is done when all those whose items it has are gone.
            One that runs in a thread goes on: it is waited for, so that no other runs beside it.
        batch_dim: the dimension along which batches are merged, and the one along which results are split.
        max_batch_size: of items in one call; a caller's larger batch is cut, and its results are joined.
        max_latency_ms: a caller that would probably wait longer for its result is refused.
        observe: told the number of items of each call.
    """

    def __init__(
        self,
        *,
        call: Callable[[Any], Awaitable[Any]],
        can_cancel: bool = True,
        batch_dim: tuple[int, int],
        max_batch_size: int,
        max_latency_ms: float,
        observe: Callable[[int], None],
    ) -> None:
        self._call = call
        self._can_cancel = can_cancel
        self._dim, self._result_dim = batch_dim
        self._max_size = max_batch_size
        self._max_latency_s = max_latency_ms / 1000
        self._observe = observe
        self._queue = _Queue()
        self._cost = _Cost()
        self._bursts = _Bursts()
        self._runner: asyncio.Task[None] | None = None
        self._running: _Running | None = None
        self._arrival: asyncio.Future[None] | None = None
        # A batch belongs to no single request, and must not see the context of the one that came first.
        self._context = contextvars.copy_context()

    async def submit(self, batch: Any) -> Any:
        """The method's result for `batch`, whichever others are merged with it.

        Raises:
            InvalidArgument: `batch` is nothing that has items along the dimension.
            Overloaded: others wait, and the result would come later than `max_latency_ms` allows.
        """
        pieces, size = self._pieces(batch)
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        self._refuse_if_late(size, now)
        jobs = [_Job(piece, arrived_at=now, result=loop.create_future()) for piece in pieces]
        for job in jobs:
            self._queue.add(job)
        self._bursts.note_arrival(now)
        self._wake(loop)
        try:
            results = [await job.result for job in jobs]
        finally:
            self._leave(jobs)
        return results[0] if len(results) == 1 else self._joined(results)

    def _pieces(self, batch: Any) -> tuple[list[_Piece], int]:
        try:
            kind, size = _measured(batch, self._dim)
        except ValueError as error:
            raise InvalidArgument(f"the batch {error}") from None
        if size == 0:
            # A method may well fail without items; whether it does must not depend on who else is there.
            return [_Piece(batch, kind, 0, object())], 0
        likeness = kind.likeness(batch, self._dim)
        if size <= self._max_size:
            return [_Piece(batch, kind, size, likeness)], size
        whole, rest = divmod(size, self._max_size)
        sizes = [self._max_size] * whole + [rest] * (rest > 0)
        cut = kind.split(batch, self._dim, sizes)
        return [_Piece(part, kind, n, likeness) for part, n in zip(cut, sizes, strict=True)], size

    def _refuse_if_late(self, size: int, now: float) -> None:
        if not self._queue:
            return  # someone has to run, or a wrong estimate would never be put right
        items = self._queue.items + size
        finish_s = self._cost.of(items, calls=math.ceil(items / self._max_size))
        if self._running is not None:
            finish_s += max(0.0, self._cost.of(self._running.size) - (now - self._running.started_at))
        if finish_s > self._max_latency_s:
            raise Overloaded("process is overloaded")

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._runner is None:
            self._runner = self._context.run(loop.create_task, self._run())
        elif self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _leave(self, jobs: list[_Job]) -> None:
        """Nobody waits for these any more, whether they were answered or not."""
        for job in jobs:
            self._queue.discard(job)
            if not job.result.cancel() and not job.result.cancelled():
                job.result.exception()  # seen, so that asyncio does not report it
        running = self._running
        if running is not None and self._can_cancel and all(job.result.cancelled() for job in running.jobs):
            running.call.cancel()

    def _joined(self, results: list[Any]) -> Any:
        kind, _ = _measured(results[0], self._result_dim)
        if any(_measured(result, self._result_dim)[0] is not kind for result in results):
            found = ", ".join(sorted({type(result).__name__ for result in results}))
            raise InternalServerError(f"the results of one batch are of several types: {found}")
        return kind.concatenate(results, self._result_dim)

    async def _run(self) -> None:
        try:
            while self._queue:
                await self._wait_for_burst()
                await self._serve(self._queue.take(self._max_size))
        finally:
            self._runner = None

    async def _wait_for_burst(self) -> None:
        burst = self._bursts.open(time.monotonic(), len(self._queue), self._cost.fixed_s)
        while 0 < len(self._queue) < burst.callers and self._queue.items < self._max_size:
            latest = self._queue.oldest_at + self._max_latency_s - self._cost.of(self._queue.items)
            pause_s = min(burst.ends_at, latest) - time.monotonic()
            if pause_s <= 0:
                return
            self._arrival = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._arrival}, timeout=pause_s)
            self._arrival = None

    async def _serve(self, jobs: list[_Job]) -> None:
        """Answer all of `jobs`: with one call, or with more where that one fails."""
        jobs = [job for job in jobs if not job.result.done()]
        if not jobs:
            return
        try:
            parts = await self._call_once(jobs)
        except Exception as error:  # noqa: BLE001  # whatever a method raises is for its callers
            if len(jobs) > 1 and not isinstance(error, _NO_ITEMS_FAULT):
                middle = len(jobs) // 2
                await self._serve(jobs[:middle])
                await self._serve(jobs[middle:])
                return
            for job in jobs:
                if not job.result.done():
                    job.result.set_exception(error)
        else:
            for job, part in zip(jobs, parts, strict=True):
                if not job.result.done():
                    job.result.set_result(part)

    async def _call_once(self, jobs: list[_Job]) -> list[Any]:
        batches = [job.piece.batch for job in jobs]
        sizes = [job.piece.size for job in jobs]
        size = sum(sizes)
        merged = batches[0] if len(jobs) == 1 else jobs[0].piece.kind.concatenate(batches, self._dim)
        self._observe(size)
        call = asyncio.ensure_future(self._contained(merged))
        self._running = _Running(jobs, size, time.monotonic(), call)
        try:
            await asyncio.wait({call})
            taken_s = time.monotonic() - self._running.started_at
        finally:
            call.cancel()
            self._running = None
        if call.cancelled():
            raise InternalServerError("the call of a batch was cancelled")
        result = call.result()
        self._cost.learn(size, taken_s)
        return self._parts(result, sizes)

    async def _contained(self, batch: Any) -> Any:
        try:
            return await self._call(batch)
        except (Exception, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            # Out of a task of its own `SystemExit` would end the loop, with all that others run there.
            raise InternalServerError(f"the method of a batch raised {error!r}") from error

    def _parts(self, result: Any, sizes: list[int]) -> list[Any]:
        try:
            kind, size = _measured(result, self._result_dim)
        except ValueError as error:
            raise InternalServerError(f"the result for a batch {error}") from None
        if size != sum(sizes):
            raise InternalServerError(f"the result for a batch of {sum(sizes)} has {size} items")
        return [result] if len(sizes) == 1 else kind.split(result, self._result_dim, sizes)


@dataclass(frozen=True)
class _Piece:
    """What goes into one call undivided: a caller's batch, or a part of one that is too large."""

    batch: Any
    kind: BatchKind
    size: int
    likeness: object


@dataclass(frozen=True, eq=False)
class _Job:
    piece: _Piece
    arrived_at: float
    result: asyncio.Future[Any]


@dataclass(frozen=True)
class _Running:
    jobs: list[_Job]
    size: int
    started_at: float
    call: asyncio.Future[Any]


class _Queue:
    """Those who wait. The first is served first, together with all that can be merged with it."""

    def __init__(self) -> None:
        self._jobs: dict[_Job, None] = {}
        self.items = 0

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def oldest_at(self) -> float:
        return next(iter(self._jobs)).arrived_at

    def add(self, job: _Job) -> None:
        self._jobs[job] = None
        self.items += job.piece.size

    def discard(self, job: _Job) -> None:
        if job in self._jobs:
            del self._jobs[job]
            self.items -= job.piece.size

    def take(self, max_size: int) -> list[_Job]:
        """Remove and return the jobs of the next call, none when all have left."""
        taken: list[_Job] = []
        size = 0
        for job in self._jobs:
            if taken and job.piece.likeness != taken[0].piece.likeness:
                continue
            if size + job.piece.size > max_size:
                break
            taken.append(job)
            size += job.piece.size
        for job in taken:
            self.discard(job)
        return taken


class _Cost:
    """What a call takes: `fixed_s`, and `item_s` for each item, fitted to those so far, the latest most."""

    _KEPT = 0.9

    def __init__(self) -> None:
        self.fixed_s = self.item_s = 0.0
        self._calls = self._sizes = self._times = self._sizes_squared = self._products = 0.0
        self._is_warm = False

    def of(self, items: int, *, calls: int = 1) -> float:
        return self.fixed_s * calls + self.item_s * items

    def learn(self, size: int, seconds: float) -> None:
        if not self._is_warm:
            self._is_warm = True  # the first call loads and compiles what no later one has to
            return
        self._calls = self._KEPT * self._calls + 1
        self._sizes = self._KEPT * self._sizes + size
        self._times = self._KEPT * self._times + seconds
        self._sizes_squared = self._KEPT * self._sizes_squared + size * size
        self._products = self._KEPT * self._products + size * seconds
        spread = self._calls * self._sizes_squared - self._sizes**2
        together = self._calls * self._products - self._sizes * self._times
        # Without calls of different sizes, nothing says that a larger one takes longer.
        slope = together / spread if spread > 1e-9 * self._calls * self._sizes_squared else 0.0
        self.item_s = min(max(0.0, slope), self._times / self._sizes) if self._sizes else 0.0
        self.fixed_s = (self._times - self.item_s * self._sizes) / self._calls


@dataclass(frozen=True)
class _Burst:
    """How many callers are worth waiting for, and until when."""

    callers: int
    ends_at: float


class _Bursts:
    """How many more callers come right after a batch could start: within a share of a call's fixed cost.

    Each of them saves a call of their own by being waited for, which costs those who wait already that share.
    Measured with 20 ms a call and 0.2 ms an item, and callers that come back 1 ms after their results: 16 of
    them get 550 items a second with the pause and 370 without, 64 get 1600 and 1200; one alone loses nothing.
    """

    _SHARE = 0.25
    _KEPT = 0.9
    _SHORTEST_S = 0.001  # the timers of a loop are no finer

    def __init__(self) -> None:
        self._expected = 0.0
        self._came = 0
        self._ends_at = -math.inf

    def note_arrival(self, now: float) -> None:
        if now < self._ends_at:
            self._came += 1

    def open(self, now: float, waiting: int, fixed_s: float) -> _Burst:
        """Begin to count those that come from now on, whether the batch waits for them or not."""
        self._expected = self._KEPT * self._expected + (1 - self._KEPT) * self._came
        self._came = 0
        pause_s = self._SHARE * fixed_s
        self._ends_at = now + pause_s
        is_worth_it = pause_s >= self._SHORTEST_S and self._expected > self._SHARE * waiting
        return _Burst(waiting + round(self._expected) if is_worth_it else waiting, self._ends_at)


class BatchKind(Protocol):
    """A type that a batch can have: how it is measured, merged and split along a dimension."""

    def size(self, batch: Any, dim: int) -> int:
        """The number of items.

        Raises:
            ValueError: there is no such dimension; says what there is.
        """
        ...

    def likeness(self, batch: Any, dim: int) -> object:
        """What is equal for batches that can be merged with one another."""
        ...

    def concatenate(self, batches: Sequence[Any], dim: int) -> Any:
        """One batch of the items of all."""
        ...

    def split(self, batch: Any, dim: int, sizes: Sequence[int]) -> list[Any]:
        """Batches of the given sizes, which add up to that of `batch`."""
        ...


def _measured(batch: Any, dim: int) -> tuple[BatchKind, int]:
    """The kind of a batch and its number of items.

    Raises:
        ValueError: what is wrong with it, as the end of a sentence.
    """
    for base in type(batch).__mro__:
        kind = _KINDS.get((base.__module__.partition(".")[0], base.__name__))
        if kind is not None:
            return kind, kind.size(batch, dim)
    *others, last = (f"{package}.{name}".removeprefix("builtins.") for package, name in _KINDS)
    raise ValueError(f"is a {type(batch).__name__}, expected one of {', '.join(others)} or {last}")


def _slices(sizes: Sequence[int]) -> list[slice]:
    return [slice(*bounds) for bounds in pairwise(accumulate(sizes, initial=0))]


def _first_dimension_only(batch: Any, dim: int) -> None:
    if dim != 0:
        what = type(batch).__name__
        raise UnservableException(f"`batch_dim` says {dim}, and a {what} can be merged along 0 only")


class _Items:
    """Lists and tuples, of anything."""

    def size(self, batch: Any, dim: int) -> int:
        _first_dimension_only(batch, dim)
        # `values, indices` with names is one result, however many items a batch has.
        if isinstance(batch, tuple) and type(batch) is not tuple:
            raise ValueError(f"is a {type(batch).__name__}, expected a plain tuple, or a list")
        return len(batch)

    def likeness(self, batch: Any, dim: int) -> object:
        return type(batch)

    def concatenate(self, batches: Sequence[Any], dim: int) -> Any:
        items = chain.from_iterable(batches)
        return tuple(items) if isinstance(batches[0], tuple) else list(items)

    def split(self, batch: Any, dim: int, sizes: Sequence[int]) -> list[Any]:
        return [batch[part] for part in _slices(sizes)]


@dataclass(frozen=True)
class _Arrays:
    """Arrays of a package that loaded them, and is not imported here for that reason."""

    package: str
    name: str
    function: str

    def size(self, batch: Any, dim: int) -> int:
        if not -batch.ndim <= dim < batch.ndim:
            raise ValueError(f"has {batch.ndim} dimensions, and `batch_dim` says {dim}")
        return int(batch.shape[dim])

    def likeness(self, batch: Any, dim: int) -> object:
        # Subclasses may hold what a merged array would not, as masked arrays do.
        if type(batch) is not getattr(sys.modules[self.package], self.name):
            return object()
        others = list(batch.shape)
        del others[dim]
        return type(batch), batch.dtype, str(getattr(batch, "device", "")), batch.ndim, tuple(others)

    def concatenate(self, batches: Sequence[Any], dim: int) -> Any:
        return getattr(sys.modules[self.package], self.function)(batches, dim)

    def split(self, batch: Any, dim: int, sizes: Sequence[int]) -> list[Any]:
        before = [slice(None)] * (dim % batch.ndim)
        indexes = [(*before, part) for part in _slices(sizes)]
        return [batch[index] for index in indexes]


class _Frames:
    """pandas' frames and series. An index that only counts the rows begins anew in each part."""

    def size(self, batch: Any, dim: int) -> int:
        _first_dimension_only(batch, dim)
        return len(batch)

    def likeness(self, batch: Any, dim: int) -> object:
        # Merged, an index with labels would have some of them twice.
        if not _only_counts(batch.index):
            return object()
        if batch.ndim == 1:
            return type(batch), batch.dtype, repr(batch.name)
        return type(batch), tuple(batch.dtypes), repr(list(batch.columns))

    def concatenate(self, batches: Sequence[Any], dim: int) -> Any:
        counts = all(_only_counts(batch.index) for batch in batches)
        return sys.modules["pandas"].concat(batches, ignore_index=counts)

    def split(self, batch: Any, dim: int, sizes: Sequence[int]) -> list[Any]:
        parts = [batch.iloc[part] for part in _slices(sizes)]
        return [part.reset_index(drop=True) for part in parts] if _only_counts(batch.index) else parts


def _only_counts(index: Any) -> bool:
    is_range = isinstance(index, sys.modules["pandas"].RangeIndex)
    return is_range and (index.start, index.step, index.name) == (0, 1, None)


_KINDS: dict[tuple[str, str], BatchKind] = {
    ("builtins", "list"): _Items(),
    ("builtins", "tuple"): _Items(),
    ("numpy", "ndarray"): _Arrays("numpy", "ndarray", "concatenate"),
    ("torch", "Tensor"): _Arrays("torch", "Tensor", "cat"),
    ("pandas", "DataFrame"): _Frames(),
    ("pandas", "Series"): _Frames(),
}
