"""Decoding: trees and buffers as a value. Every number in them is taken for a lie until checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import ormsgpack

from bentoml.codec import _registry, _scalars, _tables
from bentoml.codec._arrays import decode_array, decode_scalar
from bentoml.codec._extensions import Buffer, Code, fields_of
from bentoml.codec._failures import exception_from_data
from bentoml.codec._files import Arrivals, Directory
from bentoml.codec._images import decode_image
from bentoml.codec._layout import only_tree, parts
from bentoml.codec._tensors import decode_tensor
from bentoml.exceptions import BadInput

# Members of a set, or keys, that share their hash with another: by chance there are none or few, and each
# costs as long as there are others.
_MOST_COLLISIONS: Final = 64
_LONGEST_PROBLEM: Final = 400  # it may quote what arrived
_TUPLE: Final = int(Code.TUPLE)


def decode(frame: Buffer, directory: Directory | None) -> Any:
    view = memoryview(frame)
    tree = only_tree(view)
    if tree is not None:
        try:
            return ormsgpack.unpackb(tree, ext_hook=_alone)
        except ValueError:
            pass  # what is wrong with it, or a file in it, is for the decoder that keeps count
    decoder = _Decoder(directory)
    try:
        value = decoder.value(*parts(view))
        decoder.arrivals.write()
    except BadInput:
        raise
    except (ValueError, TypeError) as error:
        # What goes wrong inside an extension loses its words on its way through ormsgpack.
        problem = str(decoder.problem or error)[:_LONGEST_PROBLEM]
        raise BadInput(problem if problem.startswith("frame: ") else f"frame: {problem}") from None
    return value


class _Decoder:
    """Unpacks trees over their buffers.

    Attributes:
        problem: what went wrong in an extension.
        arrivals: the files of the frame, which are not written yet.
    """

    def __init__(self, directory: Directory | None) -> None:
        self.problem: Exception | None = None
        self.arrivals = Arrivals(directory)
        self._buffers: dict[int, memoryview] = {}
        self._items: Iterator[object] = iter(())

    def value(self, trees: list[memoryview], buffers: list[memoryview]) -> object:
        """The value of the first tree. The last is unpacked first: each holds the items of the one before."""
        self._buffers = dict(enumerate(buffers))
        value: object = []
        for tree in reversed(trees):
            if type(value) is not list:
                raise BadInput("frame: a tree of items that is no list")
            self._items = iter(value)
            value = ormsgpack.unpackb(tree, ext_hook=self._extension)
            if next(self._items, _END) is not _END:
                raise BadInput("frame: items that nothing holds")
        if self._buffers:
            raise BadInput("frame: a buffer that nothing refers to")
        return value

    def _extension(self, code: int, payload: bytes) -> object:
        try:
            if code == _TUPLE:
                return tuple(self.items())
            return _decoder_of(code)(self, payload)
        except Exception as error:
            self.problem = error
            raise

    def items(self) -> list[Any]:
        """The items of the next composite, which are the next item of the next tree."""
        items = next(self._items, None)
        if type(items) is not list:
            raise BadInput("frame: a composite whose items are not there")
        return items

    def data(self, reference: object) -> memoryview:
        if type(reference) is bytes:
            # A copy that may be written to, as the frame may.
            return memoryview(bytearray(reference))
        if type(reference) is not int or reference not in self._buffers:
            raise BadInput(f"frame: buffer {reference!r} is not there, or is referred to a second time")
        return self._buffers.pop(reference)


_END: Final = object()


def _decoder_of(code: int) -> Callable[[_Decoder, bytes], object]:
    try:
        return _DECODERS[code]
    except KeyError:
        raise BadInput(f"frame: unknown extension type {code}") from None


def _hashed(items: list[Any]) -> list[Any]:
    """Items that are to be members of a set, or keys; it takes no long time to make them such."""
    if len(items) > _MOST_COLLISIONS and len(items) - len(set(map(hash, items))) > _MOST_COLLISIONS:
        raise BadInput("frame: very many keys of one hash")
    return items


def _set(decoder: _Decoder, _: bytes) -> set[Any]:
    items = _hashed(decoder.items())
    members = set(items)
    if len(members) != len(items):
        raise BadInput("frame: a set that holds something twice")
    return members


def _mapping(decoder: _Decoder, _: bytes) -> dict[Any, Any]:
    items = decoder.items()
    keys = _hashed(items[::2])
    mapping = dict(zip(keys, items[1::2], strict=True))
    if len(mapping) != len(keys):
        raise BadInput("frame: a mapping that has a key twice")
    return mapping


def _named(decoder: _Decoder, _: bytes) -> object:
    match decoder.items():
        case ["exception", value]:
            return exception_from_data(value)
        case [str(name), value]:
            if name in _tables.ENCODERS:
                return _tables.decode(name, value)
            registration = _registry.named(name)
            if registration is not None:
                return registration.decode(value)
            known = ", ".join(_registry.names()) or "none"
            raise BadInput(f"frame: no codec is registered here as {name!r}; registered: {known}")
    raise BadInput("frame: expected a name and a value")


def _bytes(decoder: _Decoder, payload: bytes) -> bytes:
    return bytes(decoder.data(ormsgpack.unpackb(payload)))


def _bytearray(decoder: _Decoder, payload: bytes) -> bytearray:
    return bytearray(decoder.data(ormsgpack.unpackb(payload)))


def _file(decoder: _Decoder, payload: bytes) -> object:
    name, reference = fields_of(payload, str, object)
    return decoder.arrivals.path_for(name, decoder.data(reference))


_DECODERS: Final[dict[int, Callable[[_Decoder, bytes], object]]] = {
    **{
        code: (lambda _, payload, decode=decode: decode(payload))  # type: ignore[misc]
        for code, decode in _scalars.DECODERS.items()
    },
    Code.TUPLE: lambda decoder, _: tuple(decoder.items()),
    Code.SET: _set,
    Code.FROZENSET: lambda decoder, payload: frozenset(_set(decoder, payload)),
    Code.MAPPING: _mapping,
    Code.NAMED: _named,
    Code.BYTES: _bytes,
    Code.BYTEARRAY: _bytearray,
    Code.FILE: _file,
    Code.ARRAY: decode_array,
    Code.SCALAR: decode_scalar,
    Code.TENSOR: decode_tensor,
    Code.IMAGE: decode_image,
}

_nothing_behind: Final = _Decoder(None)


def _alone(code: int, payload: bytes) -> object:
    """An extension of a frame that is one tree: it has no items and no buffers, and nothing is kept."""
    return _DECODERS[code](_nothing_behind, payload)
