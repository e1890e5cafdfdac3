"""The result of a call, made of its response as the endpoint's schema says."""

from __future__ import annotations

import io
import json
import mimetypes
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import AbstractContextManager
from email.message import Message
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Protocol

from bentoml._client.schema import Schema, Unreadable, as_schema, plain
from bentoml.exceptions import BentoMLException, MissingDependencyException, exception_for

Headers = Mapping[str, str]

_MESSAGE_LENGTH = 2000
_NAME_LENGTH = 100
# Pillow reads more kinds; for some it starts programs, and who asked for an image named none of them.
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "MPO", "PPM", "ICO", "TGA")


class Downloads:
    """The files that a client has received: they are there for as long as the client is."""

    @cached_property
    def folder(self) -> Path:
        """Where they lie, and nothing else does."""
        folder = tempfile.mkdtemp(prefix="bentoml-client-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)


class Sink(AbstractContextManager["Sink"], Protocol):
    """Takes a response's body as it comes, and gives the result."""

    def write(self, chunk: bytes, /) -> None:
        """Take the next piece of the body."""
        ...

    def value(self) -> object:
        """The result, once the body has ended.

        Raises:
            Unreadable: the body is not what the schema says.
        """
        ...


def sink_for(output: Schema, headers: Headers, downloads: Downloads) -> Sink:
    """Where the body of a response with these headers goes; a file goes to the others."""
    output = plain(output)
    if output.get("type") == "file" and not output.get("pil") and not _is_json_instead(headers, output):
        return _FileSink(downloads.folder, _file_name(headers))
    return _MemorySink(output, headers)


class _MemorySink(AbstractContextManager[Sink]):
    """Keeps the body, for all that is no file."""

    def __init__(self, output: Schema, headers: Headers) -> None:
        self._output = output
        self._headers = headers
        self._body = bytearray()

    def __exit__(self, *error: object) -> None: ...

    def write(self, chunk: bytes, /) -> None:
        self._body += chunk

    def value(self) -> object:
        return value_of(bytes(self._body), self._headers, self._output)


class _FileSink(AbstractContextManager[Sink]):
    """Writes the body to a file, whose path is the result; a file that breaks off is removed."""

    def __init__(self, folder: Path, name: str) -> None:
        descriptor, path = tempfile.mkstemp(suffix=name, dir=folder)
        self._file = os.fdopen(descriptor, "wb")
        self._path = Path(path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if error is not None:
            self._path.unlink()

    def write(self, chunk: bytes, /) -> None:
        self._file.write(chunk)

    def value(self) -> object:
        return self._path


def _file_name(headers: Headers) -> str:
    """What the end of a file's name is to be: the name that the server gives, without any folder."""
    message = Message()
    message["content-disposition"] = headers.get("content-disposition", "")
    name = re.split(r"[/\\]", message.get_filename("") or "")[-1]
    name = "".join(character for character in name if character.isprintable()).strip()
    return f"-{name}"[-_NAME_LENGTH:] if name else mimetypes.guess_extension(_media_type(headers)) or ""


def value_of(body: bytes, headers: Headers, output: Schema) -> object:
    """What a whole body stands for.

    A schema may name only one of the types that a method returns, so that the response has a say: a service
    sends `null` for an optional file, and what it likes where a method makes its own response.

    Raises:
        Unreadable: it is not what the schema says.
        MissingDependencyException: it is of a package that is not installed here.
    """
    output = plain(output)
    kind = output.get("type")
    if kind == "file":
        return parse_json(body) if _is_json_instead(headers, output) else _image(body)
    if kind == "string":
        if body == b"null" and _is_json_instead(headers, output):
            return None
        return body if output.get("format") == "binary" else _text(body)
    if not _is_json(headers) and _media_type(headers) != output.get("media_type"):
        return _text(body) if _media_type(headers).startswith("text/") else body
    if not body:
        return None
    try:
        return convert(parse_json(body), output)
    except Unreadable:
        if kind is None:
            # Existing servers call a text JSON where no single type is declared.
            return _text(body)
        raise


def _is_json_instead(headers: Headers, output: Schema) -> bool:
    return _is_json(headers) and "json" not in str(output.get("media_type", ""))


def _is_json(headers: Headers) -> bool:
    media_type = _media_type(headers)
    return media_type == "application/json" or media_type.endswith("+json")


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "application/json").partition(";")[0].strip().lower()


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"expected text in UTF-8: {error}") from None


def parse_json(text: bytes | str) -> object:
    """The value that a JSON document stands for.

    Raises:
        Unreadable: it is none.
    """
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"expected JSON: {error}") from None
    return value


def convert(value: object, schema: Schema) -> object:
    """Arrays and frames made of a JSON value, wherever its schema says that they are.

    Raises:
        Unreadable: the value is not what the schema says.
        MissingDependencyException: the package that they are of is not installed here.
    """
    try:
        return _converted(value, schema, as_schema(schema.get("$defs")))
    except ImportError as error:
        raise MissingDependencyException(
            f"the result needs a package that is not installed: {error}"
        ) from error
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise Unreadable(f"the result is not what the schema says: {error}") from error


def _converted(value: object, schema: Schema, models: Schema) -> object:
    schema = plain(schema)
    if value is None:
        return None
    match schema, value:
        case {"$ref": str(reference)}, _:
            return _converted(value, as_schema(models.get(reference.removeprefix("#/$defs/"))), models)
        case {"type": "tensor", "format": "numpy-array"}, _:
            return _numpy_array(value, schema)
        case {"type": "tensor", "format": "torch-tensor"}, _:
            return _torch_tensor(value, schema)
        case {"type": "dataframe"}, _:
            return _frame(value, schema)
        case {"type": "array", "items": dict(items)}, list() if _matters(items):
            return [_converted(item, items, models) for item in value]
        case {"type": "array", "prefixItems": [*items]}, list() if len(items) == len(value):
            return [_converted(*pair, models) for pair in zip(value, map(as_schema, items), strict=True)]
        case {"type": "object", "properties": dict(properties)}, dict():
            known = {key: as_schema(properties.get(key)) for key in value}
            return {key: _converted(item, known[key], models) for key, item in value.items()}
    return value


def _matters(schema: Schema) -> bool:
    """Whether values of this schema may hold anything to convert: not worth a walk over a million numbers."""
    return plain(schema).get("type") not in {"string", "integer", "number", "boolean", "null"}


def _numpy_array(value: object, schema: Schema) -> object:
    import numpy

    name = schema.get("dtype")
    dtype = numpy.dtype(name) if isinstance(name, str) else None
    # Others say themselves how large an item is, or hold objects.
    if dtype is not None and dtype.kind not in "biufcmM":
        raise ValueError(f"expected an array of numbers, found one of {dtype}")
    array = numpy.array(value, dtype)
    if array.dtype.hasobject:
        raise ValueError("expected an array of numbers, found one of objects")
    return array.reshape(_shape(schema, array.shape))


def _torch_tensor(value: object, schema: Schema) -> object:
    import torch

    dtype = getattr(torch, str(schema.get("dtype", "")), None)
    tensor = torch.tensor(value, dtype=dtype if isinstance(dtype, torch.dtype) else None)
    return tensor.reshape(_shape(schema, tuple(tensor.shape)))


def _shape(schema: Schema, found: tuple[int, ...]) -> tuple[int, ...]:
    sizes = schema.get("shape")
    if not isinstance(sizes, list) or not all(isinstance(size, int) for size in sizes):
        return found
    return tuple(sizes)


def _frame(value: object, schema: Schema) -> object:
    import pandas

    if not isinstance(value, list | dict):
        raise TypeError(f"expected the rows or columns of a frame, found {type(value).__name__}")
    columns = schema.get("columns")
    return pandas.DataFrame(value, columns=columns if isinstance(columns, list) else None)


def _image(body: bytes) -> object:
    from PIL import Image

    Image.init()
    try:
        image = Image.open(io.BytesIO(body), formats=[name for name in _IMAGE_FORMATS if name in Image.OPEN])
        image.load()
    except Exception as error:  # Pillow's readers raise nearly anything for a broken file
        raise Unreadable(f"expected an image: {error}") from error
    return image


def error_of(status: int, body: bytes) -> BentoMLException:
    """The exception that a response which is no success stands for, with the server's own words."""
    return exception_for(status, error_words(body) or f"status {status}")


def error_words(body: bytes) -> str:
    """What a server says went wrong: its message with the problems that it lists, or all that it says."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    return (_message(document) or body.decode(errors="replace").strip())[:_MESSAGE_LENGTH]


def _message(document: object) -> str | None:
    match document:
        case [dict(only)]:
            return _message(only)
        case {"error": str(error), "detail": [*problems]}:
            told = [_problem(problem) for problem in problems]
            # Servers of this implementation name them in `error` already.
            return error if told and told[0] in error else "; ".join([error, *told])
        case {"error": str(text)} | {"detail": str(text)}:
            return text
    return None


def _problem(problem: object) -> str:
    match problem:
        case {"loc": [*path], "msg": str(message)}:
            return f"{'.'.join(map(str, path))}: {message}" if path else message
    return str(problem)
