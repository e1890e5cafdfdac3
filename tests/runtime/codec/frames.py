"""Frames as tests make them: whole ones, and some that no honest sender would send."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import ormsgpack

from bentoml import codec
from bentoml.codec._extensions import Code


def encoded(value: object) -> bytearray:
    return bytearray().join(codec.encode(value))


def round_trip(value: object) -> Any:
    return codec.decode(encoded(value))


def exactly(value: Any) -> Any:
    """The value as one that is equal only to its like, in type as well."""
    if isinstance(value, dict):
        return dict, [(exactly(key), exactly(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [exactly(item) for item in value]
    return type(value), value


def frame(*trees: bytes, buffers: Sequence[bytes] = ()) -> bytes:
    """A frame of these parts; its header is right, whatever they are."""
    lengths = [*map(len, trees), *map(len, buffers)]
    whole = struct.pack("<5sBHQ", b"BENF\x01", len(trees), 0, len(buffers))
    whole += struct.pack(f"<{len(lengths)}Q", *lengths) + b"".join(trees)
    for buffer in buffers:
        whole += bytes(-len(whole) % 16) + buffer
    return whole


def extension(code: Code, payload: bytes = b"") -> bytes:
    return ormsgpack.packb(ormsgpack.Ext(code, payload))


def packed(code: Code, fields: object) -> bytes:
    return extension(code, ormsgpack.packb(fields))


def named(name: str, value: object) -> bytes:
    """A frame that says its value is of a type which the receiver knows by that name."""
    return frame(extension(Code.NAMED), ormsgpack.packb([[name, value]]))
