from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import uuid
import zoneinfo
from typing import TypedDict

import pydantic
import pytest
from tests.runtime.codec.frames import encoded, exactly, round_trip

from bentoml import codec

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    SMALL = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: int
    labels: dict[int, object]


@dataclasses.dataclass(frozen=True)
class Slotted:
    __slots__ = ("x",)
    x: int


class Params(pydantic.BaseModel):
    prompt: str
    steps: int = 25


class Aliased(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    from_: str = pydantic.Field(alias="from")


class Names(pydantic.RootModel[list[str]]):
    pass


class Output(collections.OrderedDict[str, object]):
    """What some libraries return: a mapping that is an object as well."""


@dataclasses.dataclass
class RecordOutput(Output):
    """A mapping of those fields of a record that are set, as diffusers' outputs are."""

    images: list[str]
    flagged: bool | None = None

    def __post_init__(self) -> None:
        self["images"] = self.images


class Movie(TypedDict):
    title: str


Pair = collections.namedtuple("Pair", "left right")

VALUES = [
    None,
    True,
    0,
    -1,
    2**63,
    2**64 - 1,
    2**64,
    -(2**63),
    -(2**63) - 1,
    -(2**70),
    1.5,
    float("inf"),
    1 + 2j,
    "",
    "naïve ☃ 🎉",
    b"",
    b"\x00\xff",
    bytearray(b"\x00\xff"),
    [],
    {},
    (),
    set(),
    {1, "a", (2, 3)},
    frozenset({None, 1.5}),
    ([1, (2, {"a": (3,)})], {"b": [()]}),
    {1: "a", None: "b", (1, 2): {True: b"c"}, b"d": 1.5, 2.5: frozenset({(1,)})},
    {datetime.date(2024, 1, 1): uuid.UUID(int=3), decimal.Decimal("1.5"): 1j},
    datetime.datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=datetime.timezone.utc),
    datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone(datetime.timedelta(hours=-3, minutes=-30))),
    datetime.datetime(1, 1, 1),
    datetime.date(2024, 2, 29),
    datetime.time(1, 2, 3, 4),
    datetime.time(1, 2, tzinfo=datetime.timezone.utc),
    datetime.timedelta(days=-3, microseconds=7),
    datetime.timedelta.max,
    datetime.timedelta.min,
    uuid.UUID(int=2**127 + 1),
    decimal.Decimal("-1.50"),
    [(1, 2.5), (3, 4.5)],
    [({1}, frozenset({2})), {3: ({4: (5,)},)}],
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_arrives_as_it_was_sent(value: object) -> None:
    assert exactly(round_trip(value)) == exactly(value)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_arrives_so_from_anywhere_inside_another(value: object) -> None:
    whole = {"a": [(value, {1: value})], "b": {"c": [value]}}

    assert exactly(round_trip(whole)) == exactly(whole)


def test_a_number_of_thousands_of_digits_arrives_whole() -> None:
    assert round_trip([10**5000, -(10**5000)]) == [10**5000, -(10**5000)]


def test_nan_and_the_sign_of_zero_survive() -> None:
    assert [str(number) for number in round_trip([float("nan"), -0.0])] == ["nan", "-0.0"]


@pytest.mark.parametrize("fold", [0, 1])
def test_an_hour_that_comes_twice_is_still_the_one_that_was_meant(fold: int) -> None:
    arrived = round_trip(datetime.datetime(2024, 10, 27, 2, 30, fold=fold, tzinfo=BERLIN))

    assert (arrived.fold, arrived.tzinfo) == (fold, BERLIN)


def test_a_time_that_never_was_arrives_as_it_was_sent() -> None:
    skipped = datetime.datetime(2024, 3, 31, 2, 30, tzinfo=BERLIN)

    assert repr(round_trip(skipped)) == repr(skipped)


def test_a_zone_that_has_changed_since_keeps_the_instant() -> None:
    sent = codec.encode(datetime.datetime(2024, 1, 1, 12, tzinfo=BERLIN))[0]
    arrived = codec.decode(bytes(sent).replace(b"+01:00", b"+05:00"))

    assert arrived == datetime.datetime(2024, 1, 1, 7, tzinfo=datetime.timezone.utc)
    assert arrived.tzinfo is BERLIN


def test_a_time_keeps_its_zone() -> None:
    assert round_trip(datetime.time(2, 30, tzinfo=BERLIN)).tzinfo is BERLIN


@pytest.mark.parametrize("level", range(6))
def test_a_bytearray_is_one_at_any_depth(level: int) -> None:
    value: object = bytearray(b"\x01")
    for _ in range(level):
        value = [{"a": value}, 1.5, b"\x02"]

    assert repr(round_trip(value)) == repr(value)


def test_a_bytearray_inside_of_what_is_no_list_is_one_too() -> None:
    sent = [Point(1, {2: [bytearray(b"a")]}), Output(a=bytearray(b"b")), ([bytearray(b"c")],)]

    assert round_trip(sent) == [
        {"x": 1, "labels": {2: [bytearray(b"a")]}},
        {"a": bytearray(b"b")},
        ([bytearray(b"c")],),
    ]


@pytest.mark.parametrize("view", [memoryview(b"abcd"), memoryview(b"a.b.c.d.")[::2]])
def test_a_view_arrives_as_bytes(view: memoryview) -> None:
    assert round_trip([view]) == [b"abcd"]


@pytest.mark.parametrize("size", [1023, 1024, 2**16 - 1, 2**16, 2**20])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_bytes_of_any_size_arrive_as_they_were_sent(kind: type, size: int) -> None:
    value = [[kind(range(256)) * (size // 256)], {"a": (kind(size),), "b": kind(b"c")}]

    assert round_trip(value) == value


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_large_bytes_are_sent_without_a_copy(kind: type) -> None:
    data = kind(2**20)
    parts = codec.encode([[data], {}])

    assert any(part.obj is data for part in parts if isinstance(part, memoryview))


def test_an_empty_bytearray_may_be_written_to() -> None:
    arrived = round_trip(bytearray())
    arrived += b"a"

    assert arrived == b"a"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, "red"),
        (Size.SMALL, 1),
        (Access.READ | Access.WRITE, 3),
        (Pair(1, [2]), (1, [2])),
        (collections.OrderedDict(a=1), {"a": 1}),
        (Output(a=(1,)), {"a": (1,)}),
        (RecordOutput(["a"]), {"images": ["a"]}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.defaultdict(list, {1: [2]}), {1: [2]}),
        (Movie(title="M"), {"title": "M"}),
        (Point(1, {2: "two"}), {"x": 1, "labels": {2: "two"}}),
        (Slotted(1), {"x": 1}),
        (Params(prompt="cat"), {"prompt": "cat", "steps": 25}),
        (Names(["a"]), ["a"]),
        ({Colour.RED: Size.SMALL}, {"red": 1}),
        ([Params(prompt="cat"), [Pair(Colour.RED, {2})]], [{"prompt": "cat", "steps": 25}, [("red", {2})]]),
    ],
)
def test_a_type_of_the_projects_own_travels_as_the_plain_one_it_is_made_of(
    value: object, plain: object
) -> None:
    assert round_trip(value) == plain


def test_a_model_travels_under_the_names_its_class_takes() -> None:
    model = Aliased.model_validate({"from": "here", "also": 1})

    assert Aliased.model_validate(round_trip(model)) == model


def test_nothing_is_kept_from_one_value_to_the_next() -> None:
    first = encoded([1, (2, {3: bytearray(b"4")})])
    encoded({"other": [set(), bytes(2**16)]})

    assert encoded([1, (2, {3: bytearray(b"4")})]) == first
