from __future__ import annotations

import hashlib
import hmac

import pytest

from bentoml import _environment as environment
from bentoml._wire import ITEM_HEAD_SIZE, ItemKind, item_head, read_item_head, token_for
from bentoml.exceptions import BadInput


@pytest.mark.parametrize("kind", ItemKind)
@pytest.mark.parametrize("length", [0, 1, 2**32 - 1])
def test_the_head_of_an_item_says_kind_and_length(kind: ItemKind, length: int) -> None:
    assert read_item_head(item_head(kind, length)) == (kind, length)


def test_the_head_of_an_item_is_eight_bytes_little_endian() -> None:
    assert item_head(ItemKind.FAILURE, 0x01020304) == bytes([2, 0, 0, 0, 4, 3, 2, 1])
    assert ITEM_HEAD_SIZE == 8


def test_no_head_says_that_an_item_has_four_gibibytes() -> None:
    with pytest.raises(ValueError, match="has 4294967296 bytes, expected 4294967295 at most"):
        item_head(ItemKind.VALUE, 2**32)


def test_an_unknown_kind_of_item_is_refused() -> None:
    with pytest.raises(BadInput, match="an item of kind 3, expected one of 0 to 2"):
        read_item_head(bytes([3, 0, 0, 0, 0, 0, 0, 0]))


SECRET = {environment.DEPLOYMENT_SECRET: "secret"}


def test_a_token_is_made_of_the_secret_and_the_name_of_the_service() -> None:
    expected = hmac.new(b"secret", b"bento peer Leaf", hashlib.sha256).hexdigest()

    assert token_for("Leaf", SECRET) == expected


def test_a_token_for_one_service_is_none_for_another() -> None:
    assert token_for("Leaf", SECRET) != token_for("Top", SECRET)


@pytest.mark.parametrize("environ", [{}, {environment.DEPLOYMENT_SECRET: ""}], ids=["absent", "empty"])
def test_without_a_secret_there_is_no_token(environ: dict[str, str]) -> None:
    assert token_for("Leaf", environ) is None
