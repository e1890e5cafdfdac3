"""Encoding: a value as trees, and the buffers behind them."""

from __future__ import annotations

import dataclasses
import enum
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

import ormsgpack

from bentoml.codec import _registry, _scalars, _tables
from bentoml.codec._arrays import encode_array, encode_scalar
from bentoml.codec._extensions import SMALLEST_BUFFER, Buffer, Code, EncodeError, extension
from bentoml.codec._failures import exception_as_data
from bentoml.codec._files import encode_file
from bentoml.codec._images import encode_image
from bentoml.codec._layout import MAX_DEPTH, framed
from bentoml.codec._tensors import encode_tensor

_PACK: Final = (
    ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
    | ormsgpack.OPT_PASSTHROUGH_BIG_INT
)
# Where bytes of that size are looked for before anything is packed: among a call's arguments and their items.
_LARGE: Final = 2**16
_LEVELS: Final = 3
_FEW: Final = 32
_MOST_KINDS: Final = 1024


def encode(value: object) -> list[Buffer]:
    encoder = _Encoder()
    try:
        if _has_large_bytes((value,), _LEVELS):
            value = _with_large_bytes_behind(value, _LEVELS)
        return encoder.frame(value)
    except TypeError:
        # Something in it must be looked at: a key that is no text, a bytearray, or what cannot be carried.
        encoder = _Encoder()
        return encoder.frame(encoder.rewritten(value, MAX_DEPTH))


class _Composite:
    """Something whose items stand in the next tree.

    Args:
        step: how the path to an item reads, made of the path so far and the item's number.
    """

    __slots__ = ("code", "items", "step")

    def __init__(self, code: Code, items: list[Any], step: str = "list({})[{}]") -> None:
        self.code = code
        self.items = items
        self.step = step


class _Behind:
    """Bytes that are to be a buffer."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data


class _Encoder:
    """Packs trees and gathers the buffers that stand behind them.

    MessagePack's own types are packed in one go. For anything else `ormsgpack` asks, in the order in which
    things stand. A composite becomes an empty extension then, and its items the next item of the tree after
    this one: each tree holds the items of one level, and nothing recurses.
    """

    __slots__ = ("_next", "_seen", "buffers")

    def __init__(self) -> None:
        self.buffers: list[memoryview] = []
        self._next: list[list[Any]] = []
        # Plain lists and mappings that stand for something else, in which nobody has looked for a bytearray.
        self._seen: list[Iterable[object]] = []

    def frame(self, value: object) -> list[Buffer]:
        """Raises TypeError for what the value holds and only `rewritten` can bring into a frame."""
        trees = [self._packed(value, ((value,),))]
        while self._next:
            if len(trees) > MAX_DEPTH:
                raise EncodeError("nested too deep")
            items = self._next
            self._next = []
            trees.append(self._packed(items, items))
        return framed(trees, self.buffers)

    def _packed(self, value: object, containers: Iterable[Any]) -> bytes:
        tree = ormsgpack.packb(value, self._extension, _PACK)
        # `ormsgpack` packs a bytearray by itself, as bytes, which begin with one of these.
        if (0xC4 in tree or 0xC5 in tree or 0xC6 in tree) and _holds_bytearray([*containers, *self._seen]):
            raise EncodeError("a bytearray")
        self._seen.clear()
        return tree

    def _extension(self, value: Any) -> object:
        """What MessagePack has no type for, as an extension or as something it has a type for."""
        kind = type(value)
        if kind is tuple:
            self._next.append(list(value))
            return _TUPLE
        if kind is _Composite:
            self._next.append(value.items)
            return ormsgpack.Ext(value.code, b"")
        plain = _ways[kind](self, value)
        if type(plain) is dict:
            self._seen.append(plain.values())
        elif type(plain) is list:
            self._seen.append(plain)
        return plain

    def put(self, data: Buffer) -> int | bytes:
        view = memoryview(data)
        if view.nbytes < SMALLEST_BUFFER:
            return view.tobytes()
        self.buffers.append(view)
        return len(self.buffers) - 1

    def rewritten(self, value: Any, depth: int) -> object:
        """The value with all in it replaced that only looking at each item finds.

        Raises:
            EncodeError: it holds what cannot be carried; names the path to that.
        """
        try:
            return self._rewritten(value, depth)
        except _Refusal as refusal:
            raise refusal.error() from refusal.__cause__

    def _rewritten(self, value: Any, depth: int) -> object:
        if depth == 0:
            raise _Refusal(f"the value is nested more than {MAX_DEPTH} levels deep")
        kind = type(value)
        if kind in _NATIVE:
            return self._native(value)
        if kind is list:
            return self._items(value, "{}[{}]", depth)
        if kind is dict:
            return self._mapping(value, "{}[{!r}]", depth)
        if kind is tuple:
            return _Composite(Code.TUPLE, self._items(value, "{}[{}]", depth))
        try:
            plain = _ways[kind](self, value)
        except Exception as error:  # a file that broke off, a project's own `encode`: anything may be raised
            raise _Refusal(_cannot_travel(value, str(error))) from error
        if plain is value or type(plain) is ormsgpack.Ext:
            return plain
        if type(plain) is dict:
            return self._mapping(plain, "{}[{!r}]" if isinstance(value, Mapping) else "{}.{}", depth)
        if type(plain) is _Composite:
            return _Composite(plain.code, self._items(plain.items, plain.step, depth))
        return self._rewritten(plain, depth - 1)

    def _native(self, value: Any) -> object:
        kind = type(value)
        if kind is bytearray:
            return _Behind(value)
        if kind is memoryview:
            return bytes(value)
        if kind is str:
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise _Refusal(_cannot_travel(value, error.reason)) from None
        return value

    def _items(self, items: Iterable[object], step: str, depth: int) -> list[object]:
        rewritten = []
        for number, item in enumerate(items):
            try:
                rewritten.append(self._rewritten(item, depth - 1))
            except _Refusal as refusal:
                refusal.steps.append((step, number))
                raise
        return rewritten

    def _mapping(self, mapping: dict[Any, Any], step: str, depth: int) -> object:
        keys = self._items(mapping, "list({})[{}]", depth)
        values = []
        for key, item in mapping.items():
            try:
                values.append(self._rewritten(item, depth - 1))
            except _Refusal as refusal:
                refusal.steps.append((step, key))
                raise
        if all(type(key) is str for key in keys):
            return dict(zip(keys, values, strict=True))
        return _Composite(Code.MAPPING, [*chain.from_iterable(zip(keys, values, strict=True))])


class _Refusal(Exception):
    """Why a value cannot be carried, and, from the inside to the outside, the steps to what is to blame."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.steps: list[tuple[str, object]] = []

    def error(self) -> EncodeError:
        path = "value"
        for step, key in reversed(self.steps):
            path = step.format(path, key)
        return EncodeError(str(self).replace("{path}", path, 1))


def _cannot_travel(value: object, reason: str) -> str:
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    article = "an" if name[0] in "aeiou" else "a"
    detail = f": {reason}" if reason else ""
    return f"`{{path}}` is {article} {name}, which cannot travel between services{detail}"


def _has_large_bytes(items: Iterable[Any], levels: int) -> bool:
    """Whether large bytes are near the top of a value; where they are not, they are packed like all others.

    To look further would cost each call more than it saves the few of them that bring large bytes there.
    """
    for item in items:
        kind = type(item)
        if kind is bytes:
            is_large = len(item) >= _LARGE
        elif kind is list or kind is tuple or kind is dict:
            inner = item.values() if kind is dict else item
            is_large = 0 < len(item) <= _FEW and levels > 0 and _has_large_bytes(inner, levels - 1)
        else:
            is_large = kind is bytearray
        if is_large:
            return True
    return False


def _with_large_bytes_behind(value: Any, levels: int) -> object:
    """The value with the bytes marked that were found so."""
    kind = type(value)
    if kind is bytearray or (kind is bytes and len(value) >= _LARGE):
        return _Behind(value)
    if levels and kind in (list, tuple) and len(value) <= _FEW:
        return kind([_with_large_bytes_behind(item, levels - 1) for item in value])
    if levels and kind is dict and len(value) <= _FEW:
        return {key: _with_large_bytes_behind(item, levels - 1) for key, item in value.items()}
    return value


def _holds_bytearray(containers: list[Any]) -> bool:
    """Whether a bytearray is in plain lists and mappings. Level by level, since that is quick."""
    while containers:
        items = tuple(chain.from_iterable(containers) if len(containers) > 1 else containers[0])
        try:
            # A bytearray has no hash, numbers and text have: there is no quicker way to tell them apart.
            hash(items)
            return False
        except Exception:  # noqa: BLE001  # a project's `__hash__` may raise anything
            kinds = set(map(type, items))
        if bytearray in kinds:
            return True
        containers = [item for item in items if type(item) is list] if list in kinds else []
        if dict in kinds:
            containers += [item.values() for item in items if type(item) is dict]
    return False


_TUPLE: Final = ormsgpack.Ext(Code.TUPLE, b"")
_NATIVE: Final = frozenset({type(None), bool, float, str, bytes, bytearray, memoryview})

_Way = Callable[[_Encoder, Any], object]


class _Ways(dict[type, _Way]):
    """How values of a type travel, found when the first one does."""

    def __missing__(self, kind: type) -> _Way:
        if len(self) >= _MOST_KINDS:
            self.clear()  # a project may make classes without end
        way = self[kind] = _way_of(kind)
        return way


_ways: Final = _Ways()
forget_kinds = _ways.clear


def _way_of(kind: type) -> _Way:
    registration = _registry.of_kind(kind)
    if registration is not None:
        return _named(registration.name, registration.encode)
    if kind in _WAYS:
        return _WAYS[kind]
    for (module, name), way in _OPTIONAL.items():
        known = getattr(sys.modules.get(module), name, None)
        if isinstance(known, type) and issubclass(kind, known):
            return way
    table = _tables.name_of(kind)
    if table is not None:
        return _named(table, _tables.ENCODERS[table])
    for base, way in _BASES:
        if issubclass(kind, base):
            return way
    # After the bases: a library's output may be a mapping and a dataclass, and is meant as the mapping.
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
        return lambda _, record: {name: getattr(record, name) for name in names}
    return _refused


def _named(name: str, as_plain: Callable[[Any], object]) -> _Way:
    return lambda _, value: _Composite(Code.NAMED, [name, as_plain(value)], "{}")


def _scalar(as_extension: Callable[[Any], ormsgpack.Ext]) -> _Way:
    return lambda _, value: as_extension(value)


def _behind(encoder: _Encoder, value: _Behind) -> object:
    code = Code.BYTES if type(value.data) is bytes else Code.BYTEARRAY
    return extension(code, encoder.put(value.data))


def _integer(encoder: _Encoder, value: int) -> object:
    return value if -(2**63) <= value < 2**64 else _scalars.ENCODERS[int](value)


def _model(_: _Encoder, model: Any) -> dict[str, object]:
    """A pydantic model's values under the names by which its class takes them."""
    fields: dict[str, object] = {}
    for name, info in type(model).model_fields.items():
        alias = info.validation_alias
        fields[alias if isinstance(alias, str) else name] = getattr(model, name)
    return fields | (model.model_extra or {})


def _refused(_: _Encoder, value: object) -> object:
    kind = type(value)
    if kind.__module__ in sys.stdlib_module_names:
        raise EncodeError("")
    raise EncodeError(
        "make it a dataclass or a pydantic model and annotate the endpoint with that, or register it with "
        "`bentoml.codec.register`"
    )


_WAYS: Final[dict[type, _Way]] = {
    **{kind: _scalar(as_extension) for kind, as_extension in _scalars.ENCODERS.items()},
    int: _integer,
    set: lambda _, value: _Composite(Code.SET, list(value)),
    frozenset: lambda _, value: _Composite(Code.FROZENSET, list(value)),
    _Behind: _behind,
    _Composite: lambda _, value: value,
    ormsgpack.Ext: lambda _, value: value,
}

# Types of packages that are not imported to ask for them.
_OPTIONAL: Final[dict[tuple[str, str], _Way]] = {
    ("numpy", "ndarray"): encode_array,
    ("numpy", "generic"): encode_scalar,
    ("torch", "Tensor"): encode_tensor,
    ("PIL.Image", "Image"): encode_image,
    ("pydantic", "RootModel"): lambda _, model: model.root,
    ("pydantic", "BaseModel"): _model,
}

# Base classes whose instances travel as something plainer; the first that fits.
_BASES: Final[tuple[tuple[type, _Way], ...]] = (
    (enum.Enum, lambda _, member: member.value),
    (BaseException, _named("exception", exception_as_data)),
    (Path, encode_file),
    (Mapping, lambda _, mapping: dict(mapping)),
    (tuple, lambda _, items: tuple(items)),
    (list, lambda _, items: list(items)),
    (str, lambda _, text: str.__str__(text)),
    (int, lambda _, number: int(number)),
    (float, lambda _, number: float(number)),
)
