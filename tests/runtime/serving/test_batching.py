from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bentoml._serving.batching import Batcher, _Bursts, _Cost
from bentoml.exceptions import (
    InternalServerError,
    InvalidArgument,
    ServiceUnavailable,
    UnservableException,
)


class Panic(BaseException):
    """As extensions in Rust raise it."""


def as_it_is(batch: Any) -> Any:
    return batch


@dataclass
class Method:
    """A batchable method whose calls wait until the test lets them go on."""

    result: Callable[[Any], Any] = as_it_is
    is_held: bool = True
    calls: list[Any] = field(default_factory=list)
    was_cancelled: bool = False

    def __post_init__(self) -> None:
        self.started, self.released = asyncio.Event(), asyncio.Event()

    async def __call__(self, batch: Any) -> Any:
        self.calls.append(batch)
        self.started.set()
        try:
            if self.is_held:
                await self.released.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return self.result(batch)


def batcher(
    call: Callable[[Any], Awaitable[Any]],
    *,
    can_cancel: bool = True,
    batch_dim: tuple[int, int] = (0, 0),
    max_batch_size: int = 100,
    max_latency_ms: float = 60_000,
    observe: Callable[[int], None] = lambda size: None,
) -> Batcher:
    return Batcher(
        call=call,
        can_cancel=can_cancel,
        batch_dim=batch_dim,
        max_batch_size=max_batch_size,
        max_latency_ms=max_latency_ms,
        observe=observe,
    )


async def submitted(batches: Batcher, *values: Any) -> list[asyncio.Task[Any]]:
    """Callers with a batch each, all of whom have got as far as waiting."""
    tasks = [asyncio.ensure_future(batches.submit(value)) for value in values]
    await turns(2)
    return tasks


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def results_of(method: Method, batches: Batcher, values: Sequence[Any]) -> list[Any]:
    """What callers get whose batches form while a first one, of the same kind as theirs, runs."""
    first = (await submitted(batches, values[0]))[0]
    others = await submitted(batches, *values)
    method.released.set()
    await first
    return await asyncio.gather(*others, return_exceptions=True)


def run(test: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(test, 30))


def test_batches_that_come_while_one_runs_are_merged_into_one_call() -> None:
    async def test() -> Method:
        method = Method()
        results = await results_of(method, batcher(method), [[1], [2, 3], [4]])
        assert results == [[1], [2, 3], [4]]
        return method

    assert run(test()).calls == [[1], [1, 2, 3, 4]]


def test_callers_of_the_same_moment_share_the_first_call() -> None:
    async def test() -> Method:
        method = Method(is_held=False)
        batches = batcher(method)
        assert [*await asyncio.gather(batches.submit([1]), batches.submit([2]))] == [[1], [2]]
        return method

    assert run(test()).calls == [[1, 2]]


def test_a_lone_batch_is_passed_as_it_is() -> None:
    async def test() -> bool:
        method = Method(is_held=False)
        array = np.arange(3)
        return await batcher(method).submit(array) is array

    assert run(test())


def test_the_size_of_each_call_is_observed() -> None:
    async def test() -> list[int]:
        method, sizes = Method(), list[int]()
        await results_of(method, batcher(method, observe=sizes.append), [[1], [2, 3]])
        return sizes

    assert run(test()) == [1, 3]


def images(*colours: str) -> list[Image.Image]:
    return [Image.new("RGB", (2, 2), colour) for colour in colours]


@pytest.mark.parametrize(
    "values",
    [
        [["a"], ["b", "c"]],
        [("a",), ("b", "c")],
        [images("red"), images("green", "blue")],
        [np.arange(4).reshape(1, 4), np.arange(8).reshape(2, 4)],
        [np.array(["a"], object), np.array([None, "b"], object)],
        [torch.arange(4.0).reshape(1, 4), torch.arange(8.0).reshape(2, 4)],
        [pd.DataFrame({"x": [1], "y": ["a"]}), pd.DataFrame({"x": [2, 3], "y": ["b", "c"]})],
        [pd.Series([1.5], name="x"), pd.Series([2.5, 3.5], name="x")],
    ],
    ids=["list", "tuple", "images", "array", "array of objects", "tensor", "frame", "series"],
)
def test_every_kind_of_batch_is_merged_and_split(values: list[Any]) -> None:
    async def test() -> tuple[Method, list[Any]]:
        method = Method()
        return method, await results_of(method, batcher(method), values)

    method, results = run(test())
    assert [(type(result), repr(result)) for result in results] == [
        (type(value), repr(value)) for value in values
    ]
    assert [len(call) for call in method.calls] == [1, 3]


@pytest.mark.parametrize("package", [np, torch])
def test_arrays_are_merged_and_their_results_split_along_their_own_dimensions(package: Any) -> None:
    async def test() -> list[Any]:
        method = Method(result=lambda batch: package.asarray(batch).T)
        values = [package.ones((3, 1)), package.zeros((3, 2))]
        return await results_of(method, batcher(method, batch_dim=(-1, 0)), values)

    first, second = run(test())
    assert (tuple(first.shape), tuple(second.shape)) == ((1, 3), (2, 3))
    assert first.min() == 1
    assert second.max() == 0


def test_a_result_may_be_of_another_kind_than_the_batch() -> None:
    async def test() -> list[Any]:
        method = Method(result=lambda batch: np.array([len(word) for word in batch]))
        return await results_of(method, batcher(method), [["one"], ["three", "four"]])

    assert [result.tolist() for result in run(test())] == [[3], [5, 4]]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.zeros((1, 2)), np.zeros((1, 3))),
        (np.zeros((1, 2)), np.zeros((1, 2), np.float32)),
        (np.zeros((1, 2)), np.zeros((1, 2, 1))),
        (np.ma.masked_array([1], [True]), np.ma.masked_array([2], [False])),
        (torch.zeros(1), torch.zeros(1, dtype=torch.int64)),
        (torch.zeros(1), np.zeros(1)),
        ([1], (1,)),
        (pd.DataFrame({"x": [1]}), pd.DataFrame({"y": [1]})),
        (pd.DataFrame({"x": [1]}), pd.DataFrame({"x": [1.5]})),
        (pd.DataFrame({"x": [1]}, ["a"]), pd.DataFrame({"x": [1]}, ["a"])),
        (pd.Series([1], name="x"), pd.Series([1], name="y")),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'shape', '')}",
)
def test_batches_that_cannot_be_merged_go_in_calls_of_their_own(one: Any, other: Any) -> None:
    async def test() -> Method:
        method = Method()
        await results_of(method, batcher(method), [one, other])
        return method

    assert [len(call) for call in run(test()).calls] == [1, 1, 1]


def test_the_first_to_come_is_the_first_served_with_all_that_are_like_it() -> None:
    async def test() -> Method:
        method = Method()
        await results_of(method, batcher(method), [["a"], (1,), ["b"], (2,)])
        return method

    assert run(test()).calls == [["a"], ["a", "b"], (1, 2)]


def test_a_call_takes_no_more_than_the_largest_batch_size() -> None:
    async def test() -> Method:
        method = Method()
        await results_of(method, batcher(method, max_batch_size=3), [[1, 2], [3], [4, 5], [6, 7]])
        return method

    assert run(test()).calls == [[1, 2], [1, 2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize(
    "value",
    [list(range(7)), np.arange(7), torch.arange(7), pd.Series(range(7)), pd.Series([1] * 7, [*"abcdefg"])],
)
def test_a_batch_over_the_largest_size_is_cut_and_its_results_are_joined(value: Any) -> None:
    async def test() -> tuple[Method, Any]:
        method = Method(is_held=False)
        return method, await batcher(method, max_batch_size=3).submit(value)

    method, result = run(test())
    assert (type(result), repr(result)) == (type(value), repr(value))
    assert [len(call) for call in method.calls] == [3, 3, 1]


def test_parts_of_one_batch_whose_results_differ_in_type_are_an_error() -> None:
    async def test() -> None:
        method = Method(result=lambda batch: batch if 0 in batch else tuple(batch), is_held=False)
        await batcher(method, max_batch_size=2).submit([0, 1, 2])

    with pytest.raises(
        InternalServerError, match=r"^the results of one batch are of several types: list, tuple$"
    ):
        run(test())


def test_a_batch_without_items_goes_alone() -> None:
    async def test() -> Method:
        method = Method()
        assert await results_of(method, batcher(method), [[], [1], []]) == [[], [1], []]
        return method

    assert run(test()).calls == [[], [], [1], []]


def halved(batch: list[int]) -> list[float]:
    return [1 / item for item in batch]


def test_a_bad_item_fails_only_its_own_caller() -> None:
    async def test() -> tuple[Method, list[Any]]:
        method = Method(result=halved)
        return method, await results_of(method, batcher(method), [[1], [2], [0, 4], [8]])

    method, results = run(test())
    assert [repr(result) for result in results] == [
        "[1.0]", "[0.5]", "ZeroDivisionError('division by zero')", "[0.125]",
    ]  # fmt: skip
    assert method.calls == [[1], [1, 2, 0, 4, 8], [1, 2], [0, 4, 8], [0, 4], [8]]


def test_a_failure_that_is_no_items_fault_is_not_tried_again() -> None:
    async def test() -> tuple[Method, list[Any]]:
        method = Method()
        batches = batcher(method)
        first = await submitted(batches, [1])
        others = await submitted(batches, [2], [3])
        method.result = fail
        method.released.set()
        return method, await asyncio.gather(*first, *others, return_exceptions=True)

    def fail(batch: Any) -> Any:
        raise ServiceUnavailable("the peer is not there")

    method, results = run(test())
    assert method.calls == [[1], [2, 3]]
    assert [str(result) for result in results] == ["the peer is not there"] * 3


class Largest(NamedTuple):
    values: list[int]
    indices: list[int]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([1, 2, 3], "the result for a batch of 2 has 3 items"),
        (np.zeros((1, 2)), "the result for a batch of 2 has 1 items"),
        (np.zeros(()), "the result for a batch has 0 dimensions, and `batch_dim` says 0"),
        (
            {"scores": [1, 2]},
            "the result for a batch is a dict, expected one of list, tuple, numpy.ndarray, torch.Tensor, "
            "pandas.DataFrame or pandas.Series",
        ),
        (Largest([1], [2]), "the result for a batch is a Largest, expected a plain tuple, or a list"),
    ],
)
def test_a_result_that_is_not_one_for_each_item_is_an_error_also_for_a_lone_caller(
    result: Any, message: str
) -> None:
    async def test() -> None:
        await batcher(Method(result=lambda batch: result, is_held=False)).submit([1, 2])

    with pytest.raises(InternalServerError) as caught:
        run(test())

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            7,
            "the batch is a int, expected one of list, tuple, numpy.ndarray, torch.Tensor, "
            "pandas.DataFrame or pandas.Series",
        ),
        (np.zeros(2), "the batch has 1 dimensions, and `batch_dim` says 1"),
    ],
)
def test_a_value_without_items_is_refused(value: Any, message: str) -> None:
    async def test() -> None:
        await batcher(Method(), batch_dim=(1, 0)).submit(value)

    with pytest.raises(InvalidArgument) as caught:
        run(test())

    assert str(caught.value) == message


@pytest.mark.parametrize("value", [[1], pd.Series([1])])
def test_what_has_one_dimension_only_cannot_be_merged_along_another(value: Any) -> None:
    async def test() -> None:
        await batcher(Method(), batch_dim=(1, 0)).submit(value)

    with pytest.raises(
        UnservableException, match=r"^`batch_dim` says 1, and a \w+ can be merged along 0 only$"
    ):
        run(test())


def test_the_index_of_a_frame_does_not_depend_on_who_else_is_there() -> None:
    async def test() -> list[Any]:
        method = Method()
        values = [pd.DataFrame({"x": [1, 2]}), pd.DataFrame({"x": [3]}), pd.DataFrame({"x": [4]}, ["a"])]
        return await results_of(method, batcher(method), values)

    assert [list(frame.index) for frame in run(test())] == [[0, 1], [0], ["a"]]


# Of a call that takes any time at all, the second to wait is late.
AT_ONCE_MS = 1e-9


async def warm(batches: Batcher) -> None:
    for _ in range(2):
        await batches.submit([0])


def test_a_caller_whose_result_would_come_too_late_is_refused() -> None:
    async def test() -> None:
        method = Method(is_held=False)
        batches = batcher(method, max_latency_ms=AT_ONCE_MS)
        await warm(batches)
        method.is_held = True
        waiting = await submitted(batches, [1]) + await submitted(batches, [2])
        try:
            await batches.submit([3])
        finally:
            method.released.set()
            assert await asyncio.gather(*waiting) == [[1], [2]]

    with pytest.raises(ServiceUnavailable, match=r"^process is overloaded$"):
        run(test())


def test_a_caller_before_whom_nobody_waits_is_never_refused() -> None:
    async def test() -> Any:
        batches = batcher(Method(is_held=False), max_latency_ms=AT_ONCE_MS)
        await warm(batches)
        return await batches.submit([1])

    assert run(test()) == [1]


def test_a_caller_who_leaves_the_queue_is_not_run() -> None:
    async def test() -> Method:
        method = Method()
        batches = batcher(method)
        first = await submitted(batches, [1])
        leaving, staying = await submitted(batches, [2], [3])
        leaving.cancel()
        method.released.set()
        assert await asyncio.gather(*first, staying) == [[1], [3]]
        return method

    assert run(test()).calls == [[1], [3]]


def test_a_call_that_nobody_waits_for_any_more_is_cancelled() -> None:
    async def test() -> tuple[Method, Any]:
        method = Method()
        batches = batcher(method)
        leaving = await submitted(batches, [1], [2])
        for caller in leaving:
            caller.cancel()
        await asyncio.wait(leaving)
        method.is_held = False
        return method, await batches.submit([3])

    method, result = run(test())
    assert (method.calls, method.was_cancelled, result) == ([[1, 2], [3]], True, [3])


def test_a_call_that_cannot_be_cancelled_is_waited_for_by_the_next() -> None:
    async def test() -> Method:
        method = Method()
        batches = batcher(method, can_cancel=False)
        [leaving] = await submitted(batches, [1])
        leaving.cancel()
        await asyncio.wait({leaving})
        [staying] = await submitted(batches, [2])
        await turns(10)
        assert (method.calls, method.was_cancelled) == ([[1]], False)
        method.released.set()
        assert await staying == [2]
        return method

    assert run(test()).calls == [[1], [2]]


def test_a_call_goes_on_while_one_of_its_callers_is_there() -> None:
    async def test() -> tuple[Method, Any]:
        method = Method()
        leaving, staying = await submitted(batcher(method), [1], [2])
        leaving.cancel()
        await asyncio.wait({leaving})
        method.released.set()
        return method, await staying

    method, result = run(test())
    assert (method.was_cancelled, result) == (False, [2])


def test_the_search_for_a_bad_item_leaves_out_those_who_are_gone() -> None:
    async def test() -> Method:
        method = Method(result=halved)
        leaving, bad, good = await submitted(batcher(method), [1], [0], [2])
        leaving.cancel()
        await turns(2)
        method.released.set()
        await asyncio.wait({bad, good})
        assert good.result() == [0.5]
        assert isinstance(bad.exception(), ZeroDivisionError)
        return method

    assert run(test()).calls == [[1, 0, 2], [0, 2], [0], [2]]


def test_a_method_that_cancels_itself_is_an_error_and_not_a_silence() -> None:
    async def cancel(batch: Any) -> Any:
        raise asyncio.CancelledError

    async def test() -> None:
        await batcher(cancel).submit([1])

    with pytest.raises(InternalServerError, match=r"^the call of a batch was cancelled$"):
        run(test())


@pytest.mark.parametrize("error", [SystemExit(3), Panic("out of bounds")], ids=repr)
def test_what_is_no_exception_ends_neither_the_loop_nor_the_callers_of_others(error: BaseException) -> None:
    async def fail_for_zero(batch: Any) -> Any:
        if 0 in batch:
            raise error
        return batch

    async def test() -> list[Any]:
        bad, good = await submitted(batcher(fail_for_zero), [0], [1])
        return [*await asyncio.gather(bad, good, return_exceptions=True)]

    failure, result = run(test())
    assert result == [1]
    assert isinstance(failure, InternalServerError)
    assert str(failure) == f"the method of a batch raised {error!r}"


request_id = contextvars.ContextVar("request_id", default="none")


def test_a_call_runs_in_the_context_of_no_single_request() -> None:
    async def test() -> list[str]:
        seen: list[str] = []

        async def call(batch: Any) -> Any:
            seen.append(request_id.get())
            return batch

        batches = batcher(call)
        request_id.set("of the first caller")
        await batches.submit([1])
        return seen

    assert run(test()) == ["none"]


def expecting(method: Method, callers: int) -> Batcher:
    """A batcher that learned: so many callers come within a quarter of the hour that a call takes."""
    batches = batcher(method, max_latency_ms=1e9)
    batches._cost.fixed_s = 3600.0
    batches._bursts._expected = callers / 0.9
    return batches


def test_a_batch_waits_for_as_many_callers_as_come_together() -> None:
    async def test() -> Method:
        method = Method(is_held=False)
        batches = expecting(method, callers=2)
        first = await submitted(batches, [1])
        assert method.calls == []
        others = await submitted(batches, [2], [3])
        await asyncio.gather(*first, *others)
        return method

    assert run(test()).calls == [[1, 2, 3]]


def test_a_batch_that_is_full_waits_for_nobody() -> None:
    async def test() -> Method:
        method = Method(is_held=False)
        await expecting(method, callers=2).submit(list(range(100)))
        return method

    assert len(run(test()).calls) == 1


def test_a_batcher_whose_only_caller_left_while_it_waited_serves_the_next() -> None:
    async def test() -> Method:
        method = Method(is_held=False)
        batches = expecting(method, callers=1)
        (leaving,) = await submitted(batches, [1])
        leaving.cancel()
        await asyncio.wait({leaving})
        await asyncio.gather(batches.submit([2]), batches.submit([3]))
        return method

    assert run(test()).calls == [[2, 3]]


def test_callers_that_come_now_and_then_are_not_waited_for() -> None:
    bursts = _Bursts()

    goals = []
    for minute in range(100):
        bursts.note_arrival(60.0 * minute)
        goals.append(bursts.open(60.0 * minute, waiting=1, fixed_s=1.0).callers)

    assert goals == [1] * 100


def test_callers_that_come_together_are_waited_for_soon() -> None:
    bursts = _Bursts()
    for minute in range(10):
        bursts.open(60.0 * minute, waiting=1, fixed_s=1.0)
        for caller in range(8):
            bursts.note_arrival(60.0 * minute + caller / 100)

    burst = bursts.open(600.0, waiting=1, fixed_s=1.0)

    assert burst.callers > 4
    assert burst.ends_at == 600.25


def test_those_who_wait_are_not_held_up_for_a_few_more() -> None:
    bursts = _Bursts()
    bursts._expected = 2.0

    assert bursts.open(0.0, waiting=8, fixed_s=1.0).callers == 8


def test_the_fixed_cost_and_that_of_an_item_are_told_apart() -> None:
    cost = _Cost()
    for size in (1, 10, 3, 50, 7):
        cost.learn(size, 2.0 + 0.5 * size)

    assert (cost.fixed_s, cost.item_s) == pytest.approx((2.0, 0.5))
    assert cost.of(20, calls=2) == pytest.approx(14.0)


def test_what_the_first_call_has_to_load_is_not_expected_of_the_others() -> None:
    cost = _Cost()
    cost.learn(1, 1000.0)
    cost.learn(1, 1.0)

    assert cost.of(1) == pytest.approx(1.0)


@given(st.lists(st.tuples(st.integers(0, 100), st.floats(0, 1e3)), max_size=30))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_cost_is_never_below_nothing(calls: list[tuple[int, float]]) -> None:
    cost = _Cost()
    for size, seconds in calls:
        cost.learn(size, seconds)

    assert cost.item_s >= 0
    assert cost.fixed_s >= -1e-6


@dataclass(frozen=True)
class Caller:
    items: tuple[int, ...]
    kind: Callable[[Sequence[int]], Any]
    comes_after: int
    leaves_after: int | None


def column(items: Sequence[int]) -> Any:
    return np.array(items, np.float32).reshape(-1, 1)


BAD = 13
callers = st.builds(
    Caller,
    items=st.lists(st.integers(0, BAD), max_size=9).map(tuple),
    kind=st.sampled_from([list, tuple, np.array, column, torch.tensor]),
    comes_after=st.integers(0, 12),
    leaves_after=st.none() | st.integers(0, 6),
)


@given(st.lists(callers, min_size=1, max_size=12), st.integers(1, 5), st.integers(0, 3))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_whoever_comes_and_goes_everyone_gets_their_own_items_and_no_call_is_too_large(
    everyone: list[Caller], max_batch_size: int, call_turns: int
) -> None:
    sizes: list[int] = []

    async def call(batch: Any) -> Any:
        assert len(batch) <= max_batch_size
        await turns(call_turns)
        if any(item == BAD for item in flat(batch)):
            raise ValueError("a bad item")
        return batch

    async def come(caller: Caller, batches: Batcher) -> Any:
        await turns(caller.comes_after)
        task = asyncio.ensure_future(batches.submit(caller.kind(caller.items)))
        if caller.leaves_after is not None:
            await turns(caller.leaves_after)
            task.cancel()
        await asyncio.wait({task})
        return "left" if task.cancelled() else task.exception() or task.result()

    async def test() -> list[Any]:
        batches = batcher(call, max_batch_size=max_batch_size, observe=sizes.append)
        return await asyncio.gather(*(come(caller, batches) for caller in everyone))

    for caller, result in zip(everyone, run(test()), strict=True):
        if isinstance(result, str):
            assert caller.leaves_after is not None
        elif BAD in caller.items:
            assert isinstance(result, ValueError)
        else:
            assert tuple(flat(result)) == caller.items
    assert all(size <= max_batch_size for size in sizes)


def flat(batch: Any) -> Iterator[Any]:
    return iter(np.asarray(batch).reshape(-1).tolist())
