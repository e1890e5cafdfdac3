"""Frames: how values travel between services.

A frame is a value's MessagePack tree and, behind it, the raw buffers of arrays and images, so that those
are neither encoded nor copied on the way out:

    offset  size  what
    0       4     magic, `BENF`
    4       1     version, 1
    5       3     zero
    8       4     number of trees, t, one or more
    12      4     number of buffers, n
    16      8t    length of each tree in bytes
    16+8t   8n    length of each buffer in bytes
    ...           the trees, one after the other, padded with zeros to a multiple of 16
    ...           each buffer, padded likewise

All numbers are little-endian and unsigned. What MessagePack has no type for stands in a tree as an
extension; `_Code` lists them. The set is closed: what is not in it is an error at the sender, and
nothing that arrives can name a class, load a module or run code.

The value is tree 0. A tuple, set or mapping with keys other than text has its items in a tree of its own,
further on, which the extension names by number: however deep a frame is nested, neither side recurses.
Each tree and each buffer is named once, so that a frame is never much smaller than what it becomes.
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
_NUMBER: Final = struct.Struct("<I")
_ALIGNMENT: Final = 16
_MAX_DEPTH: Final = 200
# Array dtypes that are plain numbers, times or fixed-size text: no objects, no records.
_PLAIN_DTYPE: Final = re.compile(r"[<>|=][biufcSU][0-9]{1,6}|[<>=][mM]8(\[[0-9]{0,6}[A-Za-zμ]{1,7}\])?")

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
    """MessagePack extension types of a frame's trees. Numbers are never used again for something else."""

    TUPLE = 1  # these four: the number of the tree that holds the items
    SET = 2
    FROZENSET = 3
    MAPPING = 15  # its tree is a list of [key, value], for keys other than text
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
    IMAGE = 14  # packed [mode, width, height, palette mode, palette, transparency, buffer]


class EncodeError(TypeError):
    """A value, or something inside it, is of no type that a frame can carry."""


def encode(value: object) -> list[Buffer]:
    """The frame of a value, in parts that are to be sent one after the other.

    Arrays are not copied: the parts are views of them.

    Raises:
        EncodeError: names the path to what cannot be carried, and its type.
    """
    encoder = _Encoder()
    try:
        trees = encoder.trees(value)
    except TypeError:
        # A key is not text where MessagePack wants text, or something cannot be carried: look at each value.
        encoder = _Encoder()
        trees = encoder.trees(encoder.rewritten(value, "value", _MAX_DEPTH))
    return _framed(trees, encoder.buffers)


def decode(frame: Buffer) -> Any:
    """The value of a frame; a `bytearray` in it arrives as `bytes`.

    Arrays are views of `frame`, and may be written to where it may.

    Raises:
        BadInput: `frame` is not one well-formed frame.
    """
    decoder = _Decoder(*_parts(memoryview(frame)))
    try:
        return decoder.value()
    except BadInput:
        raise
    except (ValueError, TypeError) as error:
        # What goes wrong inside an extension loses its words on its way through ormsgpack.
        problem = decoder.problem or error
        raise (problem if isinstance(problem, BadInput) else BadInput(f"frame: {problem}")) from None


def _framed(trees: list[bytes], buffers: list[memoryview]) -> list[Buffer]:
    lengths = [len(tree) for tree in trees] + [buffer.nbytes for buffer in buffers]
    head = _HEADER.pack(_MAGIC, len(trees), len(buffers)) + struct.pack(f"<{len(lengths)}Q", *lengths)
    start = b"".join((head, *trees))
    parts: list[Buffer] = [start + _padding(len(start))]
    for buffer in buffers:
        parts += [buffer, _padding(buffer.nbytes)]
    return parts


def _padding(length: int) -> bytes:
    return bytes(-length % _ALIGNMENT)


def _parts(frame: memoryview) -> tuple[list[memoryview], list[memoryview]]:
    if len(frame) < _HEADER.size:
        raise BadInput(f"frame: {len(frame)} bytes are less than a header")
    magic, tree_count, buffer_count = _HEADER.unpack_from(frame)
    if magic != _MAGIC:
        raise BadInput("frame: unknown magic or version")
    at = _HEADER.size + 8 * (tree_count + buffer_count)
    if len(frame) < at:
        raise BadInput("frame: ends within its header")
    lengths = struct.unpack_from(f"<{tree_count + buffer_count}Q", frame, _HEADER.size)
    # Compared before anything is sliced, so that lengths that lie cost nothing.
    size = at + sum(lengths[:tree_count])
    size += -size % _ALIGNMENT + sum(length + -length % _ALIGNMENT for length in lengths[tree_count:])
    if size != len(frame):
        raise BadInput(f"frame: its header speaks of {size} bytes, it has {len(frame)}")
    parts = []
    for number, length in enumerate(lengths):
        if number >= tree_count:
            at += -at % _ALIGNMENT
        parts.append(frame[at : at + length])
        at += length
    return parts[:tree_count], parts[tree_count:]


@dataclasses.dataclass(frozen=True)
class _Tree:
    """Something whose items stand in a tree of their own."""

    code: _Code
    items: list[Any]


class _Encoder:
    """Packs trees and gathers the buffers that stand behind them."""

    def __init__(self) -> None:
        self.buffers: list[memoryview] = []
        self._waiting: list[tuple[object, int]] = []
        self._depth = 0

    def trees(self, value: object) -> list[bytes]:
        """The tree of `value`, and after it those that it names."""
        self._waiting = [(value, 0)]
        trees = []
        for items, depth in self._waiting:  # `_later` makes it longer
            self._depth = depth
            trees.append(ormsgpack.packb(items, self._extension, _PACK))
        return trees

    def _extension(self, value: Any) -> object:
        """What MessagePack has no type for, as an extension or as something it has a type for."""
        kind = type(value)
        if kind in _COMPOSITES:
            return self._later(_COMPOSITES[kind], list(value))
        if kind is _Tree:
            return self._later(value.code, value.items)
        leaf = self._leaf(value)
        if leaf is not None:
            return leaf
        plain = _plain(value)
        if plain is value:
            raise EncodeError(kind.__name__)
        return plain

    def _later(self, code: _Code, items: list[Any]) -> ormsgpack.Ext:
        if self._depth == _MAX_DEPTH:
            raise EncodeError("nested too deep")
        self._waiting.append((items, self._depth + 1))
        return ormsgpack.Ext(code, _NUMBER.pack(len(self._waiting) - 1))

    def _leaf(self, value: Any) -> ormsgpack.Ext | None:
        """The extension of a value that holds no others; None for any other value."""
        kind = type(value)
        if kind in _PLAIN_ENCODERS:
            code, payload = _PLAIN_ENCODERS[kind]
            packed = payload(value)
            return ormsgpack.Ext(code, packed if isinstance(packed, bytes) else ormsgpack.packb(packed))
        if _is_instance(value, "numpy", "ndarray"):
            return self._array(value)
        if _is_instance(value, "numpy", "generic"):
            raw = value.tobytes()[: value.dtype.itemsize]  # an empty text has bytes all the same
            return ormsgpack.Ext(_Code.SCALAR, ormsgpack.packb([_plain_dtype(value), raw]))
        if _is_instance(value, "PIL.Image", "Image"):
            return self._image(value)
        return None

    def rewritten(self, value: object, path: str, depth: int) -> object:
        """`value` with mappings of any keys replaced; raises for what cannot be carried, naming its path."""
        if depth == 0:
            raise EncodeError(f"the value is nested more than {_MAX_DEPTH} levels deep")
        if type(value) in _NATIVE:
            _check_native(value, path)
            return value
        try:
            leaf = self._leaf(value)
        except (EncodeError, ValueError, OSError) as error:
            raise _cannot_travel(value, path, str(error)) from None
        if leaf is not None:
            return leaf
        plain = _plain(value)
        if type(plain) is dict:
            step = "{}[{!r}]" if isinstance(value, Mapping) else "{}.{}"
            pairs = [
                [
                    self.rewritten(key, f"list({path})[{i}]", depth - 1),
                    self.rewritten(item, step.format(path, key), depth - 1),
                ]
                for i, (key, item) in enumerate(plain.items())
            ]
            if all(type(key) is str for key, _ in pairs):
                return {key: item for key, item in pairs}  # noqa: C416  # `dict` wants pairs, not lists
            return _Tree(_Code.MAPPING, pairs)
        if type(plain) is list:
            return [self.rewritten(item, f"{path}[{i}]", depth - 1) for i, item in enumerate(plain)]
        if type(plain) in _COMPOSITES:
            step = "{}[{}]" if type(plain) is tuple else "list({})[{}]"
            items = [self.rewritten(item, step.format(path, i), depth - 1) for i, item in enumerate(plain)]
            return _Tree(_COMPOSITES[type(plain)], items)
        if plain is value:
            raise _cannot_travel(value, path)
        return self.rewritten(plain, path, depth - 1)

    def _array(self, array: Any) -> ormsgpack.Ext:
        numpy = sys.modules["numpy"]
        dtype = _plain_dtype(array)
        contiguous = numpy.ascontiguousarray(array)
        data = contiguous.reshape(-1).view("u1").data if contiguous.nbytes else b""
        return ormsgpack.Ext(_Code.ARRAY, ormsgpack.packb([dtype, list(array.shape), self._buffer(data)]))

    def _image(self, image: Any) -> ormsgpack.Ext:
        data = image.tobytes()  # first: a palette is read from the file together with the pixels
        palette_mode = image.palette.mode if image.palette else None
        palette = bytes(image.getpalette(palette_mode)) if image.palette else None
        transparency = image.info.get("transparency")
        if not isinstance(transparency, int | bytes | tuple | None):
            transparency = None
        fields = (image.mode, *image.size, palette_mode, palette, transparency, self._buffer(data))
        return ormsgpack.Ext(_Code.IMAGE, ormsgpack.packb(fields))

    def _buffer(self, data: Buffer) -> int:
        self.buffers.append(memoryview(data))
        return len(self.buffers) - 1


def _plain(value: Any) -> Any:
    """The plain value as which a model, a record, a member or a subclass travels; anything else as it is."""
    if _is_instance(value, "pydantic", "RootModel"):
        return value.root
    if _is_instance(value, "pydantic", "BaseModel"):
        return _model_fields(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    for base, plain in _BASES:
        if isinstance(value, base):
            return plain(value)
    return value


def _model_fields(model: Any) -> dict[str, object]:
    """A pydantic model's values under the names by which its class takes them."""
    fields: dict[str, object] = {}
    for name, info in type(model).model_fields.items():
        alias = info.validation_alias
        fields[alias if isinstance(alias, str) else name] = getattr(model, name)
    return fields | (model.model_extra or {})


def _check_native(value: object, path: str) -> None:
    try:
        if isinstance(value, str):
            value.encode()
        elif isinstance(value, int):
            str(value)
    except UnicodeEncodeError as error:
        raise _cannot_travel(value, path, error.reason) from None
    except ValueError:
        raise _cannot_travel(value, path, "it has too many digits") from None


def _cannot_travel(value: object, path: str, reason: str = "") -> EncodeError:
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    article = "an" if name[0] in "aeiou" else "a"
    detail = f": {reason}" if reason else ""
    return EncodeError(f"`{path}` is {article} {name}, which cannot travel between services{detail}")


class _Decoder:
    """Unpacks trees over their buffers. Every number in them is taken for a lie until checked.

    Attributes:
        problem: what went wrong in an extension.
    """

    def __init__(self, trees: Sequence[memoryview], buffers: Sequence[memoryview]) -> None:
        self.problem: Exception | None = None
        self._trees = trees
        self._buffers = dict(enumerate(buffers))
        self._values: dict[int, tuple[object, int]] = {}
        self._depth = 0

    def value(self) -> object:
        """The value of tree 0. Trees are unpacked last first: each names only such as stand behind it."""
        for number in reversed(range(len(self._trees))):
            self._depth = 0
            value = ormsgpack.unpackb(self._trees[number], ext_hook=self._extension)
            self._values[number] = value, self._depth
        if 0 not in self._values:
            raise BadInput("frame: no tree")
        value, _ = self._values.pop(0)
        if self._values or self._buffers:
            raise BadInput("frame: a tree or buffer that nothing names")
        return value

    def _extension(self, code: int, data: bytes) -> object:
        try:
            if code not in _DECODERS:
                raise BadInput(f"frame: unknown extension type {code}")
            return _DECODERS[code](self, data)
        except Exception as error:
            self.problem = error
            raise

    def items(self, data: bytes) -> list[Any]:
        """The items of the tree that an extension names, which no other may name again."""
        (number,) = _NUMBER.unpack(data)
        if number not in self._values:
            raise BadInput(f"frame: tree {number} is not there, or is named a second time")
        items, depth = self._values.pop(number)
        self._depth = max(self._depth, depth + 1)
        if self._depth > _MAX_DEPTH:
            raise BadInput(f"frame: nested more than {_MAX_DEPTH} levels deep")
        if type(items) is not list:
            raise BadInput("frame: a tree of items that is no list")
        return items

    def mapping(self, data: bytes) -> dict[Any, Any]:
        pairs = self.items(data)
        if not all(type(pair) is list and len(pair) == 2 for pair in pairs):
            raise BadInput("frame: a mapping that is no list of pairs")
        return dict(pairs)

    def array(self, data: bytes) -> object:
        import numpy  # only where an array really arrives

        dtype_text, shape, index = self.fields(data, str, list, int)
        dtype = numpy.dtype(_checked_dtype(dtype_text))
        if not dtype.itemsize or not all(type(side) is int and side >= 0 for side in shape):
            raise BadInput(f"frame: no array is of {dtype_text!r} and shape {shape!r}")
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
        from PIL import Image  # only where an image really arrives

        mode, width, height, palette_mode, palette, transparency, index = self.fields(
            data, str, int, int, str | None, bytes | None, int | bytes | list | None, int
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
        if palette is not None:
            image.putpalette(palette, palette_mode)
        if transparency is not None:
            image.info["transparency"] = tuple(transparency) if type(transparency) is list else transparency
        return image

    def fields(self, data: bytes, *kinds: Any) -> list[Any]:
        """The packed list of an extension, each item of the kind it must have."""
        values = ormsgpack.unpackb(data)
        if type(values) is not list or len(values) != len(kinds):
            raise BadInput("frame: an extension with the wrong number of fields")
        for value, kind in zip(values, kinds, strict=True):
            if not isinstance(value, kind) or isinstance(value, bool):
                raise BadInput(f"frame: an extension holds a {type(value).__name__} where it must not")
        return values

    def _buffer(self, index: int) -> memoryview:
        if index not in self._buffers:
            raise BadInput(f"frame: buffer {index} is not there, or is named a second time")
        return self._buffers.pop(index)


def _is_instance(value: object, module: str, name: str) -> bool:
    """`isinstance` for a type of an optional package, which is not imported when it is not loaded."""
    loaded = sys.modules.get(module)
    kind = getattr(loaded, name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _plain_dtype(array: Any) -> str:
    text: str = array.dtype.str
    if _PLAIN_DTYPE.fullmatch(text) is None:
        raise EncodeError(f"its dtype is {array.dtype}")
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

_COMPOSITES: Final[dict[type, _Code]] = {
    tuple: _Code.TUPLE,
    set: _Code.SET,
    frozenset: _Code.FROZENSET,
}

_NATIVE: Final = (type(None), bool, int, float, str, bytes, bytearray, memoryview)

# Types of the standard library that hold no others: their code, and what is packed for a value.
_PLAIN_ENCODERS: Final[dict[type, tuple[_Code, Callable[[Any], object]]]] = {
    int: (_Code.INTEGER, str),
    complex: (_Code.COMPLEX, lambda value: [value.real, value.imag]),
    datetime.datetime: (_Code.DATETIME, datetime.datetime.isoformat),
    datetime.date: (_Code.DATE, datetime.date.isoformat),
    datetime.time: (_Code.TIME, datetime.time.isoformat),
    datetime.timedelta: (_Code.TIMEDELTA, lambda value: [value.days, value.seconds, value.microseconds]),
    uuid.UUID: (_Code.UUID, lambda value: value.bytes),
    decimal.Decimal: (_Code.DECIMAL, str),
}


def _integer(_: _Decoder, data: bytes) -> int:
    text = ormsgpack.unpackb(data)
    if not isinstance(text, str) or len(text) > 4300 or re.fullmatch(r"-?\d+", text, re.ASCII) is None:
        raise BadInput("frame: an integer that is no decimal text of at most 4300 digits")
    return int(text)


def _text(parse: Callable[[str], object]) -> Callable[[_Decoder, bytes], object]:
    def decode_text(_: _Decoder, data: bytes) -> object:
        text = ormsgpack.unpackb(data)
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
