from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentoml._client.schema import Schema, Unreadable
from bentoml._client.stream import BytesItems, JSONItems, TextItems, decoder_for

TEXT = {"type": "string", "is_stream": True}
OBJECTS = {"type": "object", "is_stream": True}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def items_of(schema: Schema, *chunks: bytes) -> list[Any]:
    decoder = decoder_for(schema)
    return [item for chunk in chunks for item in decoder.feed(chunk)] + list(decoder.end())


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


@settings(deadline=None, max_examples=50)
@given(items=st.lists(values), cuts=st.lists(st.integers(min_value=0)), pretty=st.booleans())
def test_documents_on_lines_are_items_wherever_the_network_cuts_them(
    items: list[Any], cuts: list[int], pretty: bool
) -> None:
    data = "".join(json.dumps(item, ensure_ascii=pretty) + "\n" for item in items).encode()

    assert items_of({}, b"[]", *pieces(data, cuts)) == [[], *items]


@settings(deadline=None, max_examples=50)
@given(
    items=st.lists(st.lists(values) | st.dictionaries(st.text(), values) | st.text()),
    cuts=st.lists(st.integers(min_value=0)),
)
def test_documents_with_nothing_between_them_are_items_too(items: list[Any], cuts: list[int]) -> None:
    data = "".join(map(json.dumps, items)).encode()

    assert items_of(OBJECTS, *pieces(data, cuts)) == items


@pytest.mark.parametrize(
    ("data", "items"),
    [
        (b"1\n2\n", [1, 2]),
        (b"1 2", [1, 2]),
        (b"truefalsenull", [True, False, None]),
        (b'1{"a": 2}"x"[3]', [1, {"a": 2}, "x", [3]]),
        (b"\r\n \n", []),
        (b"", []),
    ],
)
def test_numbers_and_words_are_items_where_something_ends_them(data: bytes, items: list[Any]) -> None:
    assert items_of({"type": "number"}, data) == items


def test_an_item_is_there_as_soon_as_it_is_closed() -> None:
    decoder = JSONItems(OBJECTS)

    assert list(decoder.feed(b'{"a": "}')) == []
    assert list(decoder.feed(b'"}')) == [{"a": "}"}]


@settings(deadline=None)
@given(text=st.text(), cuts=st.lists(st.integers(min_value=0)))
def test_text_comes_whole_characters_at_a_time(text: str, cuts: list[int]) -> None:
    assert "".join(items_of(TEXT, *pieces(text.encode(), cuts))) == text


def test_text_comes_as_it_is_sent() -> None:
    assert items_of(TEXT, b"one ", b"two \xc3", b"\xa4") == ["one ", "two ", "ä"]


@pytest.mark.parametrize("schema", [{"type": "string", "format": "binary"}, {"type": "file"}])
def test_bytes_come_as_they_are_sent(schema: Schema) -> None:
    assert items_of(schema, b"\xff", b"\x00\n") == [b"\xff", b"\x00\n"]


def test_an_array_in_a_stream_is_an_array() -> None:
    schema = {"type": "tensor", "format": "numpy-array", "dtype": "float32"}

    (item,) = items_of(schema, b"[1, ", b"2]\n")

    np.testing.assert_array_equal(item, np.array([1, 2], np.float32))


@pytest.mark.parametrize(
    ("schema", "chunks"),
    [
        (TEXT, [b"ab\xc3"]),
        (TEXT, [b"\xff"]),
        (OBJECTS, [b'{"a": 1}', b'{"a": ']),
        (OBJECTS, [b'"text']),
        (OBJECTS, [b'{"a": 1}tru']),
        (OBJECTS, [b"{]}"]),
        (OBJECTS, [b"}"]),
        (OBJECTS, [b"nothing of the kind "]),
        (OBJECTS, [b"[" * 100_000 + b"]" * 100_000]),
        ({"type": "tensor", "format": "numpy-array"}, [b'[[1], {"a": 1}]\n']),
    ],
)
def test_a_stream_that_is_not_what_the_schema_says_is_told(schema: Schema, chunks: list[bytes]) -> None:
    with pytest.raises(Unreadable):
        items_of(schema, *chunks)


@pytest.mark.parametrize(
    ("data", "items"),
    [(b'{"a": 1}\n{"b"', None), (b' {"a": 1}\n', [{"a": 1}]), (b"some text", ["some text"])],
)
def test_items_without_a_type_are_json_if_an_object_comes_first(data: bytes, items: list[Any] | None) -> None:
    if items is None:
        with pytest.raises(Unreadable, match="ended inside an item"):
            items_of({}, data)
    else:
        assert items_of({}, data) == items


def test_text_may_stand_among_other_items() -> None:
    schema = {"anyOf": [{"type": "string"}, {"type": "integer"}]}

    assert isinstance(decoder_for(schema), TextItems)
    assert isinstance(decoder_for({"type": "string", "format": "binary"}), BytesItems)
