"""What MessagePack has no type for: the codes of a frame's extensions, and what stands in them."""

from __future__ import annotations

import enum
from typing import Any, Final, Protocol

import ormsgpack

from bentoml.exceptions import BadInput

Buffer = bytes | bytearray | memoryview

# What is shorter stands in the tree: an entry in the header and padding would cost more than a copy of it.
SMALLEST_BUFFER: Final = 1024


class Code(enum.IntEnum):
    """MessagePack extension types of a frame's trees. Numbers are never used again for something else."""

    TUPLE = 1  # these five have no payload: their items stand in the next tree
    SET = 2
    FROZENSET = 3
    MAPPING = 4  # [key, value, key, value, ...], for keys other than text
    NAMED = 5  # [name, value], for what `register` knows by its name

    INTEGER = 16  # beyond 64 bits: two's complement
    COMPLEX = 17  # two float64
    DATETIME = 18  # ISO 8601 text, and the name of the zone in brackets where it has one
    DATE = 19  # ISO 8601 text
    TIME = 20  # like DATETIME
    TIMEDELTA = 21  # days, seconds, microseconds as int32
    UUID = 22  # 16 bytes
    DECIMAL = 23  # decimal text
    BYTES = 24  # packed: data
    BYTEARRAY = 25  # packed: data
    FILE = 26  # packed [name, data]

    ARRAY = 32  # packed [dtype, shape, data]
    SCALAR = 33  # packed [dtype, bytes]
    TENSOR = 34  # packed [dtype, shape, data]
    IMAGE = 35  # packed [mode, width, height, palette mode, palette, info, data]


class EncodeError(TypeError):
    """A value, or something inside it, is of no type that a frame can carry."""


class Sender(Protocol):
    """Where an extension's data goes."""

    def put(self, data: Buffer) -> int | bytes:
        """What refers to the data in a payload: the number of its buffer, or itself where it is short."""
        ...


class Receiver(Protocol):
    """Where an extension's data comes from."""

    def data(self, reference: object) -> memoryview:
        """What `Sender.put` was given; may be written to where the frame may, and is referred to once."""
        ...


def extension(code: Code, fields: object) -> ormsgpack.Ext:
    """An extension whose payload is packed."""
    return ormsgpack.Ext(code, ormsgpack.packb(fields))


def fields_of(payload: bytes, *kinds: Any) -> list[Any]:
    """The packed list of a payload, each item of the kind that it must have."""
    values = ormsgpack.unpackb(payload)
    if type(values) is not list or len(values) != len(kinds):
        raise BadInput("frame: an extension with the wrong number of fields")
    for value, kind in zip(values, kinds, strict=True):
        if not isinstance(value, kind) or isinstance(value, bool):
            raise BadInput(f"frame: an extension holds a {type(value).__name__} where it must not")
    return values
