from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import io
import struct
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import ormsgpack
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bentoml import codec
from bentoml.exceptions import BadInput


def encoded(value: object) -> bytearray:
    return bytearray().join(codec.encode(value))


def round_trip(value: object) -> Any:
    return codec.decode(encoded(value))


def frame(*trees: bytes, buffers: tuple[bytes, ...] = ()) -> bytes:
    """A frame of parts that an honest sender might never make."""
    return b"".join(codec._framed(list(trees), [memoryview(buffer) for buffer in buffers]))


def extension(code: codec._Code, payload: bytes) -> bytes:
    return ormsgpack.packb(ormsgpack.Ext(code, payload))


def array_frame(dtype: object, shape: object, index: object = 0, *, data: bytes = bytes(16)) -> bytes:
    tree = extension(codec._Code.ARRAY, ormsgpack.packb([dtype, shape, index]))
    return frame(tree, buffers=(data,))


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    SMALL = 1


@dataclasses.dataclass
class Point:
    x: int
    labels: dict[int, object]


class Params(pydantic.BaseModel):
    prompt: str
    steps: int = 25


class Aliased(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    from_: str = pydantic.Field(alias="from")


class Names(pydantic.RootModel[list[str]]):
    pass


Pair = collections.namedtuple("Pair", "left right")

PLAIN_VALUES = [
    None,
    True,
    0,
    -1,
    2**63,
    2**64,
    -(2**70),
    10**300,
    1.5,
    float("inf"),
    1 + 2j,
    "",
    "naïve ☃ 🎉",
    b"",
    b"\x00\xff",
    [],
    {},
    (),
    set(),
    {1, "a", (2, 3)},
    frozenset({None, 1.5}),
    ([1, (2, {"a": (3,)})], {"b": [()]}),
    {1: "a", None: "b", (1, 2): {True: b"c"}},
    datetime.datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=datetime.timezone.utc),
    datetime.datetime(1, 1, 1),
    datetime.date(2024, 2, 29),
    datetime.time(1, 2, 3, 4),
    datetime.timedelta(days=-3, microseconds=7),
    uuid.UUID(int=2**127 + 1),
    decimal.Decimal("-1.50"),
    [(1, 2.5), (3, 4.5)],
]

ARRAYS = {
    "one": np.arange(3, dtype=np.int32),
    "c order": np.arange(24, dtype=np.float64).reshape(2, 3, 4),
    "fortran order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "every other": np.arange(10)[::2],
    "backwards": np.arange(10)[::-1],
    "transposed": np.arange(6).reshape(2, 3).T,
    "broadcast": np.broadcast_to(np.array([1, 2]), (3, 2)),
    "no dimension": np.array(7.5),
    "empty": np.empty((0, 3), np.uint8),
    "half precision": np.array([1.5, -0.0, np.inf], np.float16),
    "complex": np.array([1 + 2j], np.complex64),
    "bool": np.array([True, False]),
    "big endian": np.array([1, 2], ">i4"),
    "times": np.array(["2024-02-29", "NaT"], "datetime64[s]"),
    "durations": np.array([1, 2], "timedelta64[ms]"),
    "text": np.array(["a", "☃"]),
    "bytes": np.array([b"a", b"bc"]),
    "read-only": np.frombuffer(b"abcd", np.uint8),
}


@pytest.mark.parametrize("value", PLAIN_VALUES, ids=repr)
def test_a_value_arrives_as_it_was_sent(value: object) -> None:
    arrived = round_trip(value)

    assert arrived == value
    assert type(arrived) is type(value)


def test_nan_and_the_sign_of_zero_survive() -> None:
    assert [str(number) for number in round_trip([float("nan"), -0.0])] == ["nan", "-0.0"]


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_an_array_keeps_its_dtype_shape_and_numbers(array: np.ndarray[Any, Any]) -> None:
    arrived = round_trip({"array": (array,)})["array"][0]

    assert (arrived.dtype, arrived.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(arrived, array)


@pytest.mark.parametrize("scalar", [np.float16(1.5), np.int64(-3), np.bool_(True), np.str_("☃"), np.str_("")])
def test_a_numpy_scalar_keeps_its_type(scalar: np.generic) -> None:
    arrived = round_trip(scalar)

    assert arrived == scalar
    assert type(arrived) is type(scalar)


def test_a_numpy_time_keeps_its_unit() -> None:
    assert round_trip(np.datetime64("2024-02-29T01", "h")).dtype == "datetime64[h]"


def test_arrays_of_a_bytearray_may_be_written_to() -> None:
    arrived = round_trip(np.zeros(3))
    arrived[0] = 1

    assert arrived[0] == 1


def test_arrays_of_bytes_may_not_be_written_to() -> None:
    assert not codec.decode(bytes(encoded(np.zeros(3)))).flags.writeable


def test_an_array_is_sent_without_a_copy() -> None:
    array = np.zeros(1000)

    assert any(
        np.shares_memory(np.frombuffer(part, np.uint8), array) for part in codec.encode(array) if len(part)
    )


def test_buffers_stand_where_any_dtype_may_be_read_from() -> None:
    arrived = round_trip([np.zeros(3, np.uint8), np.zeros(2), np.zeros(5, np.float16), np.zeros(1)])

    assert all(array.flags.aligned for array in arrived)


def test_an_array_under_a_key_that_is_no_text_travels_once() -> None:
    array = np.zeros(1000)

    assert len(encoded({1: {2: array}})) < array.nbytes + 300


def test_a_bytearray_arrives_as_bytes() -> None:
    assert round_trip([bytearray(b"a"), memoryview(b"b")]) == [b"a", b"b"]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, "red"),
        (Size.SMALL, 1),
        (Pair(1, [2]), (1, [2])),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (Point(1, {2: "two"}), {"x": 1, "labels": {2: "two"}}),
        (Params(prompt="cat"), {"prompt": "cat", "steps": 25}),
        (Names(["a"]), ["a"]),
        ({Colour.RED: Size.SMALL}, {"red": 1}),
    ],
)
def test_a_type_of_the_projects_own_travels_as_the_plain_one_it_is_made_of(
    value: object, plain: object
) -> None:
    assert round_trip(value) == plain


def test_a_model_travels_under_the_names_its_class_takes() -> None:
    model = Aliased.model_validate({"from": "here", "also": 1})

    assert Aliased.model_validate(round_trip(model)) == model


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "I", "F", "I;16", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"]
)
def test_an_image_keeps_its_mode_and_pixels(mode: str) -> None:
    image = Image.effect_noise((5, 3), 50).convert("L" if mode == "I;16" else "RGB").convert(mode)
    arrived = round_trip((image,))[0]

    assert (arrived.mode, arrived.size, arrived.tobytes()) == (image.mode, image.size, image.tobytes())


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (1, 1)])
def test_an_image_may_be_of_any_size(size: tuple[int, int]) -> None:
    assert round_trip(Image.new("RGB", size)).size == size


def cut_short() -> Image.Image:
    file = io.BytesIO()
    Image.effect_noise((50, 50), 10).save(file, "PNG")
    return Image.open(io.BytesIO(file.getvalue()[:200]))


def paletted() -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    return image


def test_a_palette_keeps_its_colours() -> None:
    arrived = round_trip(paletted())

    assert arrived.mode == "P"
    assert arrived.convert("RGB").tobytes() == bytes([255, 0, 0, 0, 255, 0, 0, 0, 255])


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 128])])
def test_a_palette_keeps_what_is_transparent(transparency: int | bytes) -> None:
    image = paletted()
    image.info["transparency"] = transparency

    assert round_trip(image).convert("RGBA").tobytes() == image.convert("RGBA").tobytes()


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "GIF"])
def test_an_image_whose_file_is_not_read_yet_keeps_its_colours(file_format: str) -> None:
    file = io.BytesIO()
    paletted().save(file, file_format)

    arrived = round_trip(Image.open(file))

    assert arrived.convert("RGB").tobytes() == paletted().convert("RGB").tobytes()


HEAD = "42454e46 01 000000"
VECTORS: list[tuple[object, str]] = [
    (None, f"{HEAD} 01000000 00000000 0100000000000000 c0 00000000000000"),
    (
        [1, "a", b"b", 1.5, True],
        f"{HEAD} 01000000 00000000 1100000000000000 95 01 a161 c40162 cb3ff8000000000000 c300000000000000",
    ),
    (
        (1, ()),
        f"{HEAD} 03000000 00000000 0600000000000000 0800000000000000 0100000000000000"
        "d60101000000 9201d60102000000 90 000000000000000000",
    ),
    (
        {2: 2**64},
        f"{HEAD} 02000000 00000000 0600000000000000 1b00000000000000"
        "d60f01000000 919202 c71504 b43138343436373434303733373039353531363136"
        "000000000000000000000000000000",
    ),
    (
        datetime.date(2024, 2, 29),
        f"{HEAD} 01000000 00000000 0e00000000000000 c70b07 aa323032342d30322d3239 00000000000000000000",
    ),
    (
        np.array([1, 2], "<i2"),
        f"{HEAD} 01000000 01000000 0a00000000000000 0400000000000000 d70c 93 a33c6932 9102 00 000000000000"
        "01000200 000000000000000000000000",
    ),
    (
        Image.new("L", (2, 1), 7),
        f"{HEAD} 01000000 01000000 0c00000000000000 0200000000000000 c7090e 97 a14c 02 01 c0 c0 c0 00"
        "00000000 0707 0000000000000000000000000000",
    ),
]


@pytest.mark.parametrize(("value", "text"), VECTORS, ids=[str(value) for value, _ in VECTORS])
def test_a_frame_is_these_bytes_in_every_version(value: object, text: str) -> None:
    assert encoded(value).hex() == text.replace(" ", "")
    assert encoded(codec.decode(bytes.fromhex(text))).hex() == text.replace(" ", "")


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
    ],
)
def test_what_cannot_travel_is_named_with_its_path(value: object, path: str, what: str) -> None:
    with pytest.raises(codec.EncodeError) as caught:
        codec.encode(value)

    assert str(caught.value) == f"`{path}` is {what}, which cannot travel between services"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.array([object()]), "its dtype is object"),
        (np.zeros(1, [("a", "i4")]), "its dtype is [('a', '<i4')]"),
        ("\ud800", "surrogates not allowed"),
        (10**5000, "it has too many digits"),
        (cut_short(), "image file is truncated"),
    ],
    ids=["objects", "records", "half a character", "a long number", "half a file"],
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


WHOLE = encoded({"a": (1, [np.arange(5), {2: b"c"}]), "b": datetime.date(2024, 1, 1)})


def is_refused(data: bytes | bytearray) -> bool:
    try:
        codec.decode(data)
    except BadInput as error:
        return str(error).startswith("frame: ")
    return False


def test_a_frame_cut_anywhere_is_refused() -> None:
    assert [length for length in range(len(WHOLE)) if not is_refused(WHOLE[:length])] == []


def test_bytes_after_the_frame_are_refused() -> None:
    with pytest.raises(BadInput, match=f"its header speaks of {len(WHOLE)} bytes, it has {len(WHOLE) + 1}"):
        codec.decode(WHOLE + b"\x00")


@pytest.mark.parametrize("start", [b"BENF\x02", b"BENG\x01", b"\x80\x05.."])
def test_another_format_or_version_is_refused(start: bytes) -> None:
    with pytest.raises(BadInput, match="unknown magic or version"):
        codec.decode(start + WHOLE[len(start) :])


@pytest.mark.parametrize("lie", [2, 2**31, 2**63, 2**64 - 1])
@pytest.mark.parametrize("offset", [16, 24, 32, 40])
def test_a_length_that_lies_is_refused(offset: int, lie: int) -> None:
    lying = WHOLE[:]
    struct.pack_into("<Q", lying, offset, lie)

    with pytest.raises(BadInput, match="its header speaks of"):
        codec.decode(lying)


@pytest.mark.parametrize("offset", [8, 12])
@pytest.mark.parametrize("lie", [0, 7, 2**32 - 1])
def test_a_number_of_parts_that_lies_is_refused(offset: int, lie: int) -> None:
    lying = WHOLE[:]
    struct.pack_into("<I", lying, offset, lie)

    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(lying)


@pytest.mark.parametrize(
    "tree",
    [
        b"\xdd\xff\xff\xff\xff",  # 4 Gi items
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xc1",
        b"",
        b"\xa1\xff",
        b"\x91" * 2000 + b"\x01",
    ],
)
def test_a_tree_that_is_no_messagepack_is_refused(tree: bytes) -> None:
    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(frame(tree))


@pytest.mark.parametrize(
    "dtype",
    ["|O", "object", "O", "|V8", "i4,f4", "<f8\n", "|S0", "<U0", "<m8[\u0663s]", "os.system", "", 5, None],
)
def test_a_dtype_that_is_not_plain_is_refused(dtype: object) -> None:
    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(array_frame(dtype, [2]))


@pytest.mark.parametrize(
    "shape",
    [
        [3],
        [2**62],
        [2**62, 4],
        [-2],
        [-1, -2],
        [2, True],
        [2.0],
        ["2"],
        None,
        [1] * 100,
        [0, 2**62],
        [2**70, 0],
    ],
)
def test_a_shape_that_does_not_fit_is_refused(shape: object) -> None:
    with pytest.raises((BadInput, TypeError), match=r"^frame: |Integer exceeds"):
        codec.decode(array_frame("<f8", shape))


@pytest.mark.parametrize("index", [1, -1, 2**40, "0", None])
def test_a_buffer_that_is_not_there_is_refused(index: object) -> None:
    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(array_frame("<f8", [2], index))


def test_a_buffer_is_named_once() -> None:
    array = extension(codec._Code.ARRAY, ormsgpack.packb(["<f8", [2], 0]))

    with pytest.raises(BadInput, match="buffer 0 is not there, or is named a second time"):
        codec.decode(frame(b"\x92" + array + array, buffers=(bytes(16),)))


def test_a_buffer_that_nothing_names_is_refused() -> None:
    with pytest.raises(BadInput, match="that nothing names"):
        codec.decode(frame(b"\xc0", buffers=(b"a",)))


def tuple_of(tree: int) -> bytes:
    return extension(codec._Code.TUPLE, struct.pack("<I", tree))


@pytest.mark.parametrize(
    "trees",
    [
        (),
        (b"\xc0", b"\x90"),
        (tuple_of(0),),
        (tuple_of(2),),
        (tuple_of(1), b"\x91" + tuple_of(1)),
        (tuple_of(1), b"\x91" + tuple_of(0)),
        (b"\x92" + tuple_of(1) * 2, b"\x90"),
        (tuple_of(1), b"\xc0"),
        (tuple_of(1), b"\x80"),
        (extension(codec._Code.TUPLE, b""),),
        (extension(codec._Code.MAPPING, struct.pack("<I", 1)), b"\x91\x91\x01"),
        (extension(codec._Code.MAPPING, struct.pack("<I", 1)), b"\x91\x92\x90\x01"),  # a list for a key
        (extension(codec._Code.SET, struct.pack("<I", 1)), b"\x91\x90"),
    ],
)
def test_trees_that_do_not_hold_together_are_refused(trees: tuple[bytes, ...]) -> None:
    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(frame(*trees))


@pytest.mark.parametrize("lists", [0, 1000])
def test_a_frame_nested_deeper_than_a_sender_goes_is_refused(lists: int) -> None:
    trees = [b"\x91" * lists + tuple_of(number + 1) for number in range(201)]
    trees = [trees[0], *(b"\x91" + tree for tree in trees[1:]), b"\x90"]

    with pytest.raises(BadInput, match="nested more than 200 levels deep"):
        codec.decode(frame(*trees))


@pytest.mark.parametrize("code", [0, 16, 99, 127])
def test_an_unknown_extension_is_refused(code: int) -> None:
    with pytest.raises(BadInput, match=f"unknown extension type {code}"):
        codec.decode(frame(ormsgpack.packb(ormsgpack.Ext(code, b""))))


@pytest.mark.parametrize("code", list(codec._Code))
@pytest.mark.parametrize(
    "payload", [b"", b"\x00" * 3, b"\xc0", b"\x90", ormsgpack.packb("no"), ormsgpack.packb([1, "a"])]
)
def test_an_extension_with_the_wrong_payload_is_refused(code: codec._Code, payload: bytes) -> None:
    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(frame(extension(code, payload)))


def test_an_integer_too_long_to_read_quickly_is_refused() -> None:
    digits = ormsgpack.packb("9" * 5000)

    with pytest.raises(BadInput, match="at most 4300 digits"):
        codec.decode(frame(extension(codec._Code.INTEGER, digits)))


@pytest.mark.parametrize(
    "fields",
    [
        ["RGB", 2**20, 2**20, None, None, None, 0],
        ["RGB", 3, 3, None, None, None, 0],
        ["RGB", -1, -1, None, None, None, 0],
        ["nonsense", 1, 1, None, None, None, 0],
        ["L", 4, 4, "RGB", b"abc", None, 1],
        ["RGB", 1, 1, "RGB", b"abc", None, 0],
        ["P", 4, 4, "nonsense", b"abc", None, 0],
        ["P", 4, 4, None, b"abc", None, 0],
        ["RGB", 2**40, 0, None, None, None, 0],
    ],
)
def test_an_image_that_does_not_hold_together_is_refused(fields: list[object]) -> None:
    tree = extension(codec._Code.IMAGE, ormsgpack.packb(fields))

    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(frame(tree, buffers=(bytes(16),)))


def test_an_array_where_there_is_no_numpy_is_refused(in_new_python: Callable[[str], str]) -> None:
    program = f"""
import sys
sys.modules["numpy"] = None
from bentoml import codec
try:
    codec.decode({bytes(encoded(np.zeros(1)))!r})
except Exception as error:
    print(type(error).__name__, error)
"""

    assert in_new_python(program).startswith("BadInput frame: ")


hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.datetimes()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)

values = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(hashable, inner, max_size=4)
        | st.sets(hashable, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
@settings(deadline=None)
def test_any_value_of_the_closed_set_of_types_arrives_as_it_was_sent(value: object) -> None:
    assert round_trip(value) == value


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_no_bytes_do_anything_but_raise_bad_input(data: bytes) -> None:
    with pytest.raises(BadInput):
        codec.decode(data)


SAMPLES = [
    WHOLE,
    encoded([paletted(), Image.new("RGB", (2, 2)), np.array("2024", "datetime64[Y]"), np.str_("x")]),
    encoded([2**80, 1j, {1: (2,)}, {frozenset({3})}, decimal.Decimal("1.5"), uuid.UUID(int=1)]),
]


@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6))
@settings(deadline=None, max_examples=400)
def test_a_frame_with_changed_bytes_is_refused_or_is_a_value(
    sample: bytearray, changes: list[tuple[int, int]]
) -> None:
    changed = sample[:]
    for offset, byte in changes:
        changed[offset % len(changed)] = byte

    with suppress(BadInput):
        codec.decode(changed)


trees = st.recursive(
    st.none() | st.integers(-5, 5) | st.text(max_size=3) | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=7)
        | st.builds(
            lambda code, payload: ormsgpack.Ext(code, ormsgpack.packb(payload)), st.integers(1, 15), inner
        )
        | st.builds(
            lambda code, tree: ormsgpack.Ext(code, struct.pack("<I", tree)),
            st.integers(1, 15),
            st.integers(0, 3),
        )
    ),
    max_leaves=8,
)


@given(st.lists(trees, min_size=1, max_size=4), st.lists(st.binary(max_size=20), max_size=2))
@settings(deadline=None, max_examples=400)
def test_any_well_packed_frame_is_refused_or_is_a_value(contents: list[object], buffers: list[bytes]) -> None:
    with suppress(BadInput):
        codec.decode(frame(*map(ormsgpack.packb, contents), buffers=tuple(buffers)))
