from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pydantic
import pytest
from tests.runtime.codec.frames import round_trip

from bentoml import codec


class Plain:
    """A class of the project's own."""


@dataclasses.dataclass
class Point:
    x: int
    labels: dict[int, object]


class Params(pydantic.BaseModel):
    prompt: str


@pytest.mark.parametrize(
    ("value", "path", "what"),
    [
        (object(), "value", "an object"),
        ([1, {"a": (2, object())}], "value[1]['a'][1]", "an object"),
        ({1: object()}, "value[1]", "an object"),
        ({object(): 1}, "list(value)[0]", "an object"),
        ([{(1, object())}], "list(value[0])[0][1]", "an object"),
        (Point(1, {2: Point}), "value.labels[2]", "a type"),
        (Params.model_construct(prompt=iter(())), "value.prompt", "a tuple_iterator"),
        (Point, "value", "a type"),
        ({"{}": [range(3)]}, "value['{}'][0]", "a range"),
    ],
)
def test_what_cannot_travel_is_named_with_its_path(value: object, path: str, what: str) -> None:
    with pytest.raises(codec.EncodeError) as caught:
        codec.encode(value)

    assert str(caught.value) == f"`{path}` is {what}, which cannot travel between services"


def test_a_class_of_the_projects_own_is_told_what_to_do_about_it() -> None:
    with pytest.raises(codec.EncodeError) as caught:
        codec.encode([Plain()])

    assert str(caught.value) == (
        f"`value[0]` is a {Plain.__module__}.Plain, which cannot travel between services: "
        "make it a dataclass or a pydantic model and annotate the endpoint with that, "
        "or register it with `bentoml.codec.register`"
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [("\ud800", "surrogates not allowed"), (1 << 2**20, "it has more than 1048576 bits")],
    ids=["half a character", "a long number"],
)
def test_a_value_that_cannot_travel_though_its_type_can_is_told_with_the_reason(
    value: object, reason: str
) -> None:
    with pytest.raises(codec.EncodeError, match=r"^`value\[0\]` is an? .* between services: ") as caught:
        codec.encode([value])

    assert reason in str(caught.value)


def nested(make: Callable[[Any], object], levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = make(value)
    return value


CONTAINERS: list[Callable[[Any], object]] = [
    lambda value: [value],
    lambda value: (value,),
    lambda value: {"a": value},
    lambda value: {1: value},
    lambda value: frozenset({value}),
]


@pytest.mark.parametrize("make", CONTAINERS)
def test_a_value_may_be_nested_180_levels_deep(make: Callable[[Any], object]) -> None:
    value = nested(make, 180)

    assert round_trip(value) == value


@pytest.mark.parametrize("make", CONTAINERS)
def test_a_value_nested_deeper_is_refused_by_the_sender(make: Callable[[Any], object]) -> None:
    with pytest.raises(codec.EncodeError, match="the value is nested more than 200 levels deep"):
        codec.encode(nested(make, 300))


@pytest.mark.parametrize("make", CONTAINERS[:4])
def test_no_depth_of_nesting_is_too_much_for_the_sender_to_refuse(make: Callable[[Any], object]) -> None:
    with pytest.raises(codec.EncodeError, match="the value is nested more than 200 levels deep"):
        codec.encode(nested(make, 100_000))


def test_a_value_that_holds_itself_is_refused_by_the_sender() -> None:
    value: list[object] = []
    value.append(value)

    with pytest.raises(codec.EncodeError, match="nested more than 200 levels deep"):
        codec.encode(value)
