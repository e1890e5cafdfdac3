"""Frames: how values travel between services, and how a type of a project's own becomes one of them.

The set of types is closed: what is not in it is an error at the sender, and nothing that arrives can name a
class, load a project's module or run code. In it are

- None, booleans, numbers, text, bytes and bytearrays (a memoryview arrives as bytes);
- lists, tuples, sets, frozensets and mappings, in one another, with keys of any type that can be one;
- what the standard library has for dates, times, time zones of the database, UUIDs and decimal numbers;
- arrays and scalars of NumPy, with the numbers of ml_dtypes too, but without objects and records;
- tensors of torch, which arrive on the CPU and without a gradient; images of PIL, of every mode;
- frames, series, indexes and times of pandas;
- exceptions; files, as a `Path` to what they hold; and what `register` adds.

Other types arrive as the plain one that they are made of: a dataclass, a pydantic model and a subclass of
`dict` as a mapping, a named tuple as a tuple, a member of an enumeration as its value. The annotation of the
endpoint makes the class of it again.

runtime/WIRE.md describes the bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from bentoml.codec import _decoder, _encoder, _registry
from bentoml.codec._extensions import Buffer, EncodeError
from bentoml.codec._failures import exception_as_data, exception_from_data
from bentoml.codec._files import Directory

__all__ = [
    "MEDIA_TYPE",
    "Buffer",
    "Directory",
    "EncodeError",
    "decode",
    "encode",
    "exception_as_data",
    "exception_from_data",
    "register",
]

MEDIA_TYPE: Final = "application/vnd.bento.frame"

T = TypeVar("T")


def encode(value: object) -> list[Buffer]:
    """The frame of a value, in parts that are to be sent one after the other.

    Arrays, tensors and large bytes are not copied: the parts are views of them.

    Raises:
        EncodeError: names the path to what cannot be carried, and its type.
    """
    return _encoder.encode(value)


def decode(frame: Buffer, *, directory: Directory | None = None) -> Any:
    """The value of a frame.

    Arrays and tensors are views of `frame`; arrays may be written to where it may.

    Args:
        directory: where files of the frame are put, or a function that says so when one arrives; whoever
            gives it removes them. Without one, a file is refused.

    Raises:
        BadInput: `frame` is not one well-formed frame.
    """
    return _decoder.decode(frame, directory)


def register(kind: type[T], *, name: str, encode: Callable[[T], object], decode: Callable[[Any], T]) -> None:
    """Let instances of a class, and of those derived from it, travel between services.

    To be called in a module that both services load. What arrives comes from another process: `decode` should
    check it, and raise ValueError for what is not right.

    Args:
        name: what stands for the class in a frame; no other may have it.
        encode: makes a value that can travel of an instance.
        decode: makes an instance of such a value.

    Raises:
        ValueError: the name is that of another class, or none.
    """
    _registry.add(_registry.Registration(kind, name, encode, decode))
    _encoder.forget_kinds()
