from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentoml._peers.items import ItemReader
from bentoml._wire import ItemKind, item_head
from bentoml.exceptions import BadInput

UNKNOWN = bytes([9, 0, 0, 0, 0, 0, 0, 0])


def item(kind: ItemKind, frame: bytes) -> bytes:
    return item_head(kind, len(frame)) + frame


def read(*pieces: bytes) -> list[tuple[ItemKind, bytes]]:
    reader = ItemReader()
    return [(kind, bytes(frame)) for piece in pieces for kind, frame in reader.feed(piece)]


@given(
    items=st.lists(st.tuples(st.sampled_from(ItemKind), st.binary(max_size=40)), max_size=6),
    points=st.lists(st.integers(0, 300), max_size=8),
)
def test_items_are_the_same_in_whatever_pieces_they_come(
    items: list[tuple[ItemKind, bytes]], points: list[int]
) -> None:
    sent = b"".join(item(kind, frame) for kind, frame in items)
    ends = [0, *sorted(point for point in points if point < len(sent)), len(sent)]

    assert read(*(sent[start:end] for start, end in pairwise(ends))) == items


def test_an_item_is_there_with_its_last_byte() -> None:
    sent = item(ItemKind.VALUE, b"frame")
    reader = ItemReader()

    assert [len(list(reader.feed(sent[at : at + 1]))) for at in range(len(sent))] == [0] * 12 + [1]


def test_an_empty_item_is_one() -> None:
    assert read(item(ItemKind.END, b"")) == [(ItemKind.END, b"")]


@pytest.mark.parametrize("before", [b"", item(ItemKind.VALUE, b"frame")], ids=["first", "behind another"])
def test_an_item_of_an_unknown_kind_is_refused(before: bytes) -> None:
    with pytest.raises(BadInput, match="an item of kind 9"):
        read(before + UNKNOWN)
