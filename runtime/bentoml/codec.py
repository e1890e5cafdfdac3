"""Frames: how values travel between services.

A frame is one MessagePack tree and, behind it, the raw buffers of arrays and images, so that those are
neither encoded nor copied on the way out:

    offset  size  what
    0       4     magic, `BENF`
    4       1     version, 1
    5       3     zero
    8       4     length of the tree in bytes
    12      4     number of buffers, n
    16      8n    length of each buffer in bytes
    ...           the tree, then each buffer, each padded with zeros to a multiple of 16

All numbers are little-endian and unsigned. What MessagePack has no type for stands in the tree as an
extension; `_CODES` lists them. The set is closed: what is not in it is an error at the sender, and
nothing that arrives can name a class, load a module or run code.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
import re
import struct
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import ormsgpack

from bentoml.exceptions import BadInput

MEDIA_TYPE: Final = "application/vnd.bento.frame"

_MAGIC: Final = b"BENF\x01\x00\x00\x00"
_HEADER: Final = struct.Struct("<8sII")
_ALIGNMENT: Final = 16
_MAX_BUFFERS: Final = 1 << 16
_MAX_DEPTH: Final = 200
# Array dtypes that are plain numbers, times or fixed-size text: no objects, no records.
_PLAIN_DTYPE: Final = re.compile(r"[<>|=][biufcSU]\d{1,6}|[<>=][mM]8(\[\d{0,6}[A-Za-zμ]{1,7}\])?")

_PACK: Final = (
    ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
    | ormsgpack.OPT_PASSTHROUGH_BIG_INT
)

Buffer = bytes | bytearray | memoryview


class _Code(enum.IntEnum):
    """MessagePack extension types of a frame's tree. Numbers are never used again for something else."""

    TUPLE = 1  # the packed list of its items
    SET = 2
    FROZENSET = 3
    INTEGER = 4  # beyond 64 bits: decimal text
    COMPLEX = 5  # packed [real, imaginary]
    DATETIME = 6  # ISO 8601 text
    DATE = 7
    TIME = 8
    TIMEDELTA = 9  # packed [days, seconds, microseconds]
    UUID = 10  # 16 bytes
    DECIMAL = 11  # decimal text
    ARRAY = 12  # packed [dtype, shape, buffer]
    SCALAR = 13  # packed [dtype, bytes]
    IMAGE = 14  # packed [mode, width, height, palette mode, palette, buffer]
    MAPPING = 15  # packed list of [key, value], for keys other than text


class EncodeError(TypeError):
    """A value, or something inside it, is of no type that a frame can carry."""


def encode(value: object) -> list[Buffer]:
    """The frame of a value, in parts that are to be sent one after the other.

    Arrays and images are not copied: the parts are views of them.

    Raises:
        EncodeError: names the path to what cannot be carried, and its type.
    """
    encoder = _Encoder()
    try:
        tree = encoder.pack(value)
    except (TypeError, RecursionError):
        # Something is not text where MessagePack wants text, or cannot be carried: look at each value.
        encoder = _Encoder()
        tree = encoder.pack(encoder.rewritten(value, "value", _MAX_DEPTH))
    return _framed(tree, encoder.buffers)


def decode(frame: Buffer) -> Any:
    """The value of a frame. Arrays are views of `frame`, writable when it is a `bytearray`; `bytearray`s arrive as `bytes`.

    Raises:
        BadInput: `frame` is not one well-formed frame.
    """
    tree, buffers = _parts(memoryview(frame))
    try:
        return _Decoder(buffers).unpack(tree)
    except BadInput:
        raise
    except (ValueError, TypeError, ArithmeticError, RecursionError, OverflowError) as error:
        raise BadInput(f"frame: {error}") from None


def _framed(tree: bytes, buffers: list[memoryview]) -> list[Buffer]:
    lengths = struct.pack(f"<{len(buffers)}Q", *(buffer.nbytes for buffer in buffers))
    head = _HEADER.pack(_MAGIC, len(tree), len(buffers)) + lengths
    parts: list[Buffer] = [head + tree + _padding(len(head) + len(tree))]
    for buffer in buffers:
        parts += [buffer, _padding(buffer.nbytes)]
    return parts


def _padding(length: int) -> bytes:
    return bytes(-length % _ALIGNMENT)


def _parts(frame: memoryview) -> tuple[memoryview, list[memoryview]]:
    if len(frame) < _HEADER.size:
        raise BadInput(f"frame: {len(frame)} bytes are less than a header")
    magic, tree_length, count = _HEADER.unpack_from(frame)
    if magic != _MAGIC:
        raise BadInput("frame: unknown magic or version")
    if count > _MAX_BUFFERS:
        raise BadInput(f"frame: {count} buffers, at most {_MAX_BUFFERS} are allowed")
    start = _HEADER.size + 8 * count
    if len(frame) < start:
        raise BadInput("frame: ends within its header")
    lengths = struct.unpack_from(f"<{count}Q", frame, _HEADER.size)
    # Compared before anything is sliced, so that lengths that lie cost nothing.
    size = start + tree_length
    size += -size % _ALIGNMENT + sum(length + -length % _ALIGNMENT for length in lengths)
    if size != len(frame):
        raise BadInput(f"frame: its header speaks of {size} bytes, it has {len(frame)}")
    tree = frame[start : start + tree_length]
    at = start + tree_length
    buffers = []
    for length in lengths:
        at += -at % _ALIGNMENT
        buffers.append(frame[at : at + length])
        at += length
    return tree, buffers


class _Encoder:
    """Packs a tree and gathers the buffers that stand behind it."""

    def __init__(self) -> None:
        self.buffers: list[memoryview] = []

    def pack(self, value: object) -> bytes:
        return ormsgpack.packb(value, self.extension, _PACK)

    def extension(self, value: Any) -> object:
        """What MessagePack has no type for, as an extension or as something it has a type for."""
        kind = type(value)
        if kind is tuple:
            return ormsgpack.Ext(_Code.TUPLE, self.pack(list(value)))
        if kind in _PLAIN_ENCODERS:
            code, payload = _PLAIN_ENCODERS[kind]
            return ormsgpack.Ext(code, self.pack_payload(payload(value)))
        if _is_instance(value, "numpy", "ndarray"):
            return self._array(value)
        if _is_instance(value, "numpy", "generic"):
            return ormsgpack.Ext(_Code.SCALAR, self.pack([_plain_dtype(value), value.tobytes()]))
        if _is_instance(value, "PIL.Image", "Image"):
            return self._image(value)
        if _is_instance(value, "pydantic", "BaseModel"):
            return {name: getattr(value, name) for name in kind.model_fields}
        if dataclasses.is_dataclass(value):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        if isinstance(value, enum.Enum):
            return value.value
        for base, plain in _BASES:
            if isinstance(value, base):
                return plain(value)
        raise EncodeError(kind.__name__)

    def pack_payload(self, payload: object) -> bytes:
        return payload if isinstance(payload, bytes) else self.pack(payload)

    def rewritten(self, value: object, path: str, depth: int) -> object:
        """`value` with mappings of any keys replaced; raises for what cannot be carried, naming its path."""
        if depth == 0:
            raise EncodeError(f"`{path}` is nested more than {_MAX_DEPTH} levels deep")
        if isinstance(value, Mapping):
            items = [
                (key, self.rewritten(item, f"{path}[{key!r}]", depth - 1)) for key, item in value.items()
            ]
            if all(type(key) is str for key, _ in items):
                return dict(items)
            pairs = [[self.rewritten(key, f"key of {path}", depth - 1), item] for key, item in items]
            return ormsgpack.Ext(_Code.MAPPING, self.pack(pairs))
        if isinstance(value, list | tuple):
            parts = [self.rewritten(part, f"{path}[{i}]", depth - 1) for i, part in enumerate(value)]
            return parts if isinstance(value, list) else ormsgpack.Ext(_Code.TUPLE, self.pack(parts))
        try:
            self.pack(value)
            return value
        except (TypeError, RecursionError) as error:
            reason = error.__cause__ if isinstance(error.__cause__, EncodeError) else error
            name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            detail = "" if isinstance(reason, EncodeError) else f": {reason}"
            raise EncodeError(f"`{path}` is a {name}, which cannot travel between services{detail}") from None

    def _array(self, array: Any) -> ormsgpack.Ext:
        numpy = sys.modules["numpy"]
        dtype = _plain_dtype(array)
        contiguous = numpy.ascontiguousarray(array)
        data = contiguous.reshape(-1).view("u1").data if contiguous.nbytes else b""
        return ormsgpack.Ext(_Code.ARRAY, ormsgpack.packb([dtype, list(array.shape), self._buffer(data)]))

    def _image(self, image: Any) -> ormsgpack.Ext:
        palette = (image.palette.mode, bytes(image.palette.palette)) if image.palette else (None, None)
        index = self._buffer(image.tobytes())
        return ormsgpack.Ext(_Code.IMAGE, ormsgpack.packb([image.mode, *image.size, *palette, index]))

    def _buffer(self, data: Buffer) -> int:
        self.buffers.append(memoryview(data))
        return len(self.buffers) - 1


class _Decoder:
    """Unpacks a tree over its buffers. Every number of it is taken for a lie until checked."""

    def __init__(self, buffers: Sequence[memoryview]) -> None:
        self._buffers = buffers
        self._depth = 0

    def unpack(self, data: Buffer) -> Any:
        return ormsgpack.unpackb(data, ext_hook=self._extension)

    def _extension(self, code: int, data: bytes) -> object:
        decode = _DECODERS.get(code)
        if decode is None:
            raise BadInput(f"frame: unknown extension type {code}")
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise BadInput(f"frame: nested more than {_MAX_DEPTH} levels deep")
        try:
            return decode(self, data)
        finally:
            self._depth -= 1

    def array(self, data: bytes) -> object:
        import numpy  # only where an array really arrives

        dtype_text, shape, index = self.fields(data, str, list, int)
        dtype = numpy.dtype(_checked_dtype(dtype_text))
        if len(shape) > 32 or not all(type(side) is int and side >= 0 for side in shape):
            raise BadInput(f"frame: {shape!r} is no shape")
        buffer = self._buffer(index)
        if math.prod(shape) * dtype.itemsize != buffer.nbytes:
            raise BadInput(f"frame: an array of {dtype} and shape {shape} does not fit {buffer.nbytes} bytes")
        return numpy.frombuffer(buffer, dtype).reshape(shape) if buffer.nbytes else numpy.empty(shape, dtype)

    def scalar(self, data: bytes) -> object:
        import numpy

        dtype_text, raw = self.fields(data, str, bytes)
        dtype = numpy.dtype(_checked_dtype(dtype_text))
        if len(raw) != dtype.itemsize:
            raise BadInput(f"frame: a {dtype} of {len(raw)} bytes")
        return numpy.frombuffer(raw, dtype)[0] if raw else dtype.type()

    def image(self, data: bytes) -> object:
        from PIL import Image, ImagePalette  # only where an image really arrives

        mode, width, height, palette_mode, palette, index = self.fields(
            data, str, int, int, str | None, bytes | None, int
        )
        if mode not in Image.MODES or width < 0 or height < 0:
            raise BadInput(f"frame: an image of mode {mode!r} and size {width}x{height}")
        buffer = self._buffer(index)
        # Every mode has a bit a pixel or more: what claims more pixels is refused before memory is taken.
        if width * height > 8 * buffer.nbytes:
            raise BadInput(f"frame: {width}x{height} pixels do not fit {buffer.nbytes} bytes")
        image = (
            Image.frombytes(mode, (width, height), bytes(buffer))
            if width * height
            else Image.new(mode, (width, height))
        )
        if palette_mode is not None:
            image.palette = ImagePalette.ImagePalette(palette_mode, palette)
        return image

    def fields(self, data: bytes, *kinds: Any) -> list[Any]:
        """The packed list of an extension, each item of the kind it must have."""
        values = self.unpack(data)
        if type(values) is not list or len(values) != len(kinds):
            raise BadInput("frame: an extension with the wrong number of fields")
        for value, kind in zip(values, kinds, strict=True):
            if not isinstance(value, kind) or isinstance(value, bool):
                raise BadInput(f"frame: an extension holds a {type(value).__name__} where it must not")
        return values

    def items(self, data: bytes) -> list[Any]:
        values = self.unpack(data)
        if type(values) is not list:
            raise BadInput("frame: an extension that is no list")
        return values

    def mapping(self, data: bytes) -> dict[Any, Any]:
        pairs = self.items(data)
        if not all(type(pair) is list and len(pair) == 2 for pair in pairs):
            raise BadInput("frame: a mapping that is no list of pairs")
        return dict(pairs)

    def _buffer(self, index: int) -> memoryview:
        if not 0 <= index < len(self._buffers):
            raise BadInput(f"frame: buffer {index} of {len(self._buffers)}")
        return self._buffers[index]


def _is_instance(value: object, module: str, name: str) -> bool:
    """`isinstance` for a type of an optional package, which is not imported when it is not loaded."""
    loaded = sys.modules.get(module)
    kind = getattr(loaded, name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _plain_dtype(array: Any) -> str:
    text: str = array.dtype.str
    if _PLAIN_DTYPE.fullmatch(text) is None:
        raise EncodeError(f"an array of dtype {array.dtype}")
    return text


def _checked_dtype(text: str) -> str:
    if _PLAIN_DTYPE.fullmatch(text) is None:
        raise BadInput(f"frame: {text!r} is no dtype that a frame carries")
    return text


# Base classes whose instances travel as the plain type; tried in this order.
_BASES: Final[tuple[tuple[type, Callable[[Any], object]], ...]] = (
    (Mapping, dict),
    (tuple, tuple),
    (list, list),
    (str, str.__str__),
    (int, int),
    (float, float),
)

# Types of the standard library: their code, and what is packed for a value.
_PLAIN_ENCODERS: Final[dict[type, tuple[_Code, Callable[[Any], object]]]] = {
    set: (_Code.SET, list),
    frozenset: (_Code.FROZENSET, list),
    int: (_Code.INTEGER, str),
    complex: (_Code.COMPLEX, lambda value: [value.real, value.imag]),
    datetime.datetime: (_Code.DATETIME, datetime.datetime.isoformat),
    datetime.date: (_Code.DATE, datetime.date.isoformat),
    datetime.time: (_Code.TIME, datetime.time.isoformat),
    datetime.timedelta: (_Code.TIMEDELTA, lambda value: [value.days, value.seconds, value.microseconds]),
    uuid.UUID: (_Code.UUID, lambda value: value.bytes),
    decimal.Decimal: (_Code.DECIMAL, str),
}


def _integer(decoder: _Decoder, data: bytes) -> int:
    text = decoder.unpack(data)
    if not isinstance(text, str) or len(text) > 4300 or re.fullmatch(r"-?\d+", text, re.ASCII) is None:
        raise BadInput("frame: an integer that is no decimal text of at most 4300 digits")
    return int(text)


def _text(parse: Callable[[str], object]) -> Callable[[_Decoder, bytes], object]:
    def decode_text(decoder: _Decoder, data: bytes) -> object:
        text = decoder.unpack(data)
        if not isinstance(text, str) or len(text) > 4300:
            raise BadInput("frame: an extension that is no short text")
        return parse(text)

    return decode_text


_DECODERS: Final[dict[int, Callable[[_Decoder, bytes], object]]] = {
    _Code.TUPLE: lambda decoder, data: tuple(decoder.items(data)),
    _Code.SET: lambda decoder, data: set(decoder.items(data)),
    _Code.FROZENSET: lambda decoder, data: frozenset(decoder.items(data)),
    _Code.INTEGER: _integer,
    _Code.COMPLEX: lambda decoder, data: complex(*decoder.fields(data, float, float)),
    _Code.DATETIME: _text(datetime.datetime.fromisoformat),
    _Code.DATE: _text(datetime.date.fromisoformat),
    _Code.TIME: _text(datetime.time.fromisoformat),
    _Code.TIMEDELTA: lambda decoder, data: datetime.timedelta(*decoder.fields(data, int, int, int)),
    _Code.UUID: lambda decoder, data: uuid.UUID(bytes=data),
    _Code.DECIMAL: _text(decimal.Decimal),
    _Code.ARRAY: _Decoder.array,
    _Code.SCALAR: _Decoder.scalar,
    _Code.IMAGE: _Decoder.image,
    _Code.MAPPING: _Decoder.mapping,
}
