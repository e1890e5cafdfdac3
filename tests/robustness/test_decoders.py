"""Requests and frames that nobody would send on purpose: each is answered, and none is a failure."""

from __future__ import annotations

import datetime
import decimal
import itertools
import json
import os
import uuid
from contextlib import suppress
from typing import Any

import ml_dtypes
import numpy as np
import ormsgpack
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image
from tests.robustness.conftest import Ask
from tests.runtime.codec.frames import encoded, exactly, frame, round_trip

from bentoml import codec
from bentoml.codec._extensions import Code
from bentoml.exceptions import BadInput

PATHS = ["/add", "/order", "/array", "/image", "/file", "/blob", "/options", "/whole", "/text", "/numbers"]

# The same examples each time, so that a gate fails for a change and for nothing else; `make fuzz` takes new
# ones, as many as the variable says.
bounded = settings(
    derandomize="BENTO_FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=int(os.environ.get("BENTO_FUZZ_EXAMPLES", "150")),
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(
    ["a", "b", "order", "spans", "value", "image", "file", "blob", "args", "kwargs", "count"]
)
media_types = st.sampled_from(
    [
        b"application/json", b"", b"text/plain", b"multipart/form-data", b"multipart/form-data; boundary=x",
        b"application/x-www-form-urlencoded", codec.MEDIA_TYPE.encode(), b"application/json; charset=utf-16",
    ]
)  # fmt: skip


def pieces_of(body: bytes, cuts: list[int]) -> list[bytes]:
    """The body in pieces, as a network may deliver it."""
    places = sorted({cut % (len(body) + 1) for cut in cuts} | {0, len(body)})
    return [body[start:stop] for start, stop in itertools.pairwise(places)]


def assert_is_answered(answer: tuple[int, bytes]) -> None:
    status, body = answer
    assert status == 200 or 400 <= status < 500, (status, body)
    if status != 200:
        assert json.loads(body)["error"]


@bounded
@given(
    path=st.sampled_from(PATHS),
    kind=media_types,
    body=st.binary(max_size=400),
    cuts=st.lists(st.integers(0, 400)),
)
def test_any_bytes_of_any_type_are_answered(
    ask: Ask, path: str, kind: bytes, body: bytes, cuts: list[int]
) -> None:
    assert_is_answered(ask(path, [(b"content-type", kind)], pieces_of(body, cuts)))


@bounded
@given(path=st.sampled_from(PATHS), value=st.dictionaries(names, anything, max_size=5) | anything)
def test_any_json_is_answered(ask: Ask, path: str, value: Any) -> None:
    body = json.dumps(value).encode("utf-8", "surrogatepass")

    assert_is_answered(ask(path, [(b"content-type", b"application/json")], [body]))


@bounded
@given(
    path=st.sampled_from(PATHS),
    parts=st.lists(st.tuples(names | st.text(max_size=5), st.binary(max_size=60), st.booleans()), max_size=5),
    damage=st.none() | st.tuples(st.integers(0, 10_000), st.binary(max_size=4)),
)
def test_any_form_is_answered(
    ask: Ask, path: str, parts: list[tuple[str, bytes, bool]], damage: tuple[int, bytes] | None
) -> None:
    body = bytearray()
    for name, content, is_file in parts:
        file_name = '; filename="x.png"' if is_file else ""
        head = f'--x\r\nContent-Disposition: form-data; name="{name}"{file_name}\r\n\r\n'
        body += head.encode("utf-8", "replace") + content + b"\r\n"
    body += b"--x--\r\n"
    if damage is not None:
        at = damage[0] % len(body)
        body[at : at + len(damage[1])] = damage[1]

    assert_is_answered(ask(path, [(b"content-type", b"multipart/form-data; boundary=x")], [bytes(body)]))


hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values = st.recursive(
    hashable | st.binary().map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(hashable, inner, max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        | st.sets(hashable, max_size=4)
    ),
    max_leaves=12,
)


@bounded
@given(values)
def test_any_value_of_the_standard_library_arrives_as_it_was_sent(value: object) -> None:
    assert exactly(round_trip(value)) == exactly(value)


plain_dtypes = (
    npst.boolean_dtypes()
    | npst.integer_dtypes()
    | npst.unsigned_integer_dtypes()
    | npst.floating_dtypes(sizes=(16, 32, 64))
    | npst.complex_number_dtypes(sizes=(64, 128))
    | npst.datetime64_dtypes()
    | npst.timedelta64_dtypes()
    | npst.unicode_string_dtypes()
    | npst.byte_string_dtypes()
)
shapes = npst.array_shapes(min_dims=0, min_side=0, max_side=20)
arrays = plain_dtypes.flatmap(lambda dtype: npst.arrays(dtype, shapes))
sizes = st.integers(0, 300)
images = st.builds(Image.new, st.sampled_from(Image.MODES), st.tuples(sizes, sizes))
tables = st.builds(
    lambda numbers, texts, zone: pd.DataFrame(
        {
            "number": pd.array(numbers, dtype="Int16"),
            "text": (texts * len(numbers))[: len(numbers)],
            "kind": pd.Categorical(numbers),
            "time": pd.date_range("2024", periods=len(numbers), tz=zone),
        }
    ),
    st.lists(st.none() | st.integers(-100, 100), max_size=5),
    st.lists(st.none() | st.text(max_size=3), min_size=1, max_size=3),
    st.sampled_from(["UTC", "Europe/Berlin", None]),
)
carried = st.recursive(
    arrays
    | arrays.map(lambda array: array.T)
    | arrays.filter(lambda array: array.size > 0).map(lambda array: array.reshape(-1)[0])
    | st.builds(lambda shape: np.ones(shape, ml_dtypes.bfloat16), shapes)
    | st.builds(lambda shape: torch.ones(shape, dtype=torch.float16), shapes)
    | images
    | tables
    | st.builds(ValueError, st.text(), st.integers())
    | st.builds(lambda size: b"x" * size, st.integers(0, 100_000)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=5,
)


@bounded
@given(carried)
@pytest.mark.filterwarnings("ignore")  # odd dates, of which NumPy and pandas warn
def test_any_array_image_or_table_makes_the_same_frame_again_where_it_arrived(value: object) -> None:
    data = encoded(value)

    assert encoded(codec.decode(data)) == data


@bounded
@given(
    path=st.sampled_from(PATHS),
    call=st.tuples(
        st.lists(anything | carried, max_size=3), st.dictionaries(names, anything | carried, max_size=3)
    ),
    damage=st.none() | st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=4)),
)
@pytest.mark.filterwarnings("ignore")
def test_any_frame_is_answered(
    ask: Ask, path: str, call: tuple[list[Any], dict[str, Any]], damage: tuple[int, bytes] | None
) -> None:
    try:
        body = bytearray(b"".join(codec.encode(list(call))))
    except codec.EncodeError:
        return  # text that is no Unicode cannot be sent in the first place
    if damage is not None:
        at = damage[0] % len(body)
        body[at : at + len(damage[1])] = damage[1]
    status, answer = ask(path, [(b"content-type", codec.MEDIA_TYPE.encode())], [bytes(body)])

    assert status == 200 or 400 <= status < 500, (status, answer)


@bounded
@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_raise_bad_input(data: bytes) -> None:
    with pytest.raises(BadInput):
        codec.decode(data)


SAMPLES = [
    encoded(value)
    for value in (
        {"a": (1, [np.arange(500), {2: b"c"}]), "b": datetime.date(2024, 1, 1)},
        [Image.new("P", (30, 40)), Image.new("RGB", (2, 2)), np.array("2024", "datetime64[Y]"), np.str_("x")],
        [2**80, 1j, {1: (2,)}, {frozenset({3})}, decimal.Decimal("1.5"), uuid.UUID(int=1), bytearray(2000)],
        [torch.ones(3), torch.ones(1000, dtype=torch.bfloat16), np.ones(3, ml_dtypes.bfloat16)],
        pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", "v"])}),
        pd.Series(pd.date_range("2024", periods=2, tz="Europe/Berlin"), index=pd.Index([1.5, 2.5])),
        [ValueError("x", 1), OSError(2, "no", "f"), UnicodeDecodeError("utf-8", b"abc", 1, 2, "bad")],
        [datetime.datetime(2024, 1, 1), datetime.timedelta(1), pd.Timestamp("2024", tz="UTC"), pd.NaT],
    )
]


@bounded
@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 499), st.integers(0, 255)), max_size=6))
@pytest.mark.filterwarnings("ignore")
def test_a_frame_with_changed_bytes_is_refused_or_is_a_value(
    sample: bytearray, changes: list[tuple[int, int]]
) -> None:
    changed = sample[:]
    for offset, byte in changes:
        changed[offset % len(changed)] = byte

    with suppress(BadInput):
        codec.decode(changed)


codes = st.sampled_from(Code)
named = st.sampled_from(
    ["exception", "pandas.DataFrame", "pandas.Index", "pandas.Series", "pandas.Timestamp"]
)
words = st.sampled_from(
    ["range", "values", "levels", "numbers", "objects", "texts", "<f8", "float32", "L", "D"]
)
trees: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers(-5, 5) | st.text(max_size=3) | st.binary(max_size=8) | words,
    lambda inner: (
        st.lists(inner, max_size=7)
        | st.builds(lambda code, fields: ormsgpack.Ext(code, ormsgpack.packb(fields)), codes, inner)
        | st.builds(lambda code: ormsgpack.Ext(code, b""), codes)
        | st.tuples(named, inner).map(list)
    ),
    max_leaves=10,
)


@bounded
@given(trees, st.lists(st.lists(trees, max_size=4), max_size=3), st.integers(0, 2))
@pytest.mark.filterwarnings("ignore")
def test_any_well_packed_frame_is_refused_or_is_a_value(
    first: object, rest: list[list[object]], buffers: int
) -> None:
    with suppress(BadInput):
        codec.decode(frame(*map(ormsgpack.packb, [first, *rest]), buffers=[bytes(1024)] * buffers))


@pytest.mark.parametrize("count", [999, 1001, 10_000])
def test_very_many_parts_are_read_or_refused(ask: Ask, count: int) -> None:
    body = b"".join(b'--x\r\nContent-Disposition: form-data; name="args"\r\n\r\n1\r\n' for _ in range(count))
    status, answer = ask(
        "/options", [(b"content-type", b"multipart/form-data; boundary=x")], [body + b"--x--\r\n"]
    )

    assert (status == 200) == (count <= 1000), answer


@pytest.mark.parametrize("depth", [100, 10_000, 1_000_000])
@pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_very_deep_json_is_refused(ask: Ask, depth: int, start: bytes, end: bytes) -> None:
    body = b'{"kwargs": {"x": ' + start * depth + b"1" + end * depth + b"}}"
    status, answer = ask("/add", [(b"content-type", b"application/json")], [body])

    assert status == 400, answer


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-type", b"multipart/form-data; boundary=" + b"x" * 100_000)],
        [(b"content-type", b"\xff\xfe\x00")],
        [(b"content-type", b"application/json"), (b"content-type", b"multipart/form-data")],
        [(b"content-length", b"99999999999999999999")],
        [(b"content-length", b"-1")],
        [(b"traceparent", b"\xff" * 1000)],
    ],
)
def test_odd_headers_are_answered(ask: Ask, headers: list[tuple[bytes, bytes]]) -> None:
    assert_is_answered(ask("/add", headers, [b'{"a": 1}']))


@pytest.mark.parametrize("cut", [3, 20, 60, 61])
def test_a_form_that_breaks_off_is_refused(ask: Ask, cut: int) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%d\r\n'
    whole = part % (b"a", 7) + part % (b"b", 100) + b"--x--\r\n"
    headers = [(b"content-type", b"multipart/form-data; boundary=x")]

    assert ask("/add", headers, [whole])[0] == 200
    assert ask("/add", headers, [whole[:-cut]])[0] == 400
