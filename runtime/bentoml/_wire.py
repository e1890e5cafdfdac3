"""What a call between services says in its headers, and how a stream is cut into items.

WIRE.md describes the whole of it.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from bentoml import _environment as environment
from bentoml.exceptions import BadInput

STREAM_TYPE: Final = "application/vnd.bento.frames"
"""The media type of a stream: items, each a head of 8 bytes and a frame."""

TOKEN_HEADER: Final = "x-bento-token"  # noqa: S105  # the name of a header
"""Proves that the caller holds the deployment's secret, to one service."""

CONTRACT_HEADER: Final = "x-bento-contract"
"""Hashes of the contracts that the caller knows for the endpoint, comma-separated."""

ANOTHER_CONTRACT: Final = 412
"""The status of a call that was not begun: its contract is not the callee's, whose own is the body."""

LARGEST_ITEM: Final = 2**32 - 1
"""Bytes of the frame of one item."""

_ITEM_HEAD: Final = struct.Struct("<B3xI")
ITEM_HEAD_SIZE: Final = _ITEM_HEAD.size


class ItemKind(IntEnum):
    """What follows the head of an item."""

    VALUE = 0  # a frame
    END = 1  # nothing: the stream is complete
    FAILURE = 2  # a frame that tells of an exception; the stream ends here


def item_head(kind: ItemKind, length: int) -> bytes:
    """The head of an item whose frame has `length` bytes.

    Raises:
        ValueError: no head can say so many.
    """
    if length > LARGEST_ITEM:
        raise ValueError(f"an item of a stream has {length} bytes, expected {LARGEST_ITEM} at most")
    return _ITEM_HEAD.pack(kind, length)


def read_item_head(head: bytes | bytearray | memoryview) -> tuple[ItemKind, int]:
    """The kind and length that the head of an item says.

    Raises:
        BadInput: there is no such kind.
    """
    kind, length = _ITEM_HEAD.unpack_from(head)
    try:
        return ItemKind(kind), length
    except ValueError:
        raise BadInput(f"stream: an item of kind {kind}, expected one of 0 to {max(ItemKind)}") from None


def token_for(service: str, environ: Mapping[str, str]) -> str | None:
    """What proves to `service` that its caller belongs to the deployment; None where there is no secret.

    HMAC-SHA256 of the service's name: who receives it can show it to no other service.
    """
    secret = environ.get(environment.DEPLOYMENT_SECRET)
    if not secret:
        return None
    return hmac.new(secret.encode(), b"bento peer " + service.encode(), hashlib.sha256).hexdigest()
