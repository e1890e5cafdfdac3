"""The body of a call, made of its arguments as the endpoint's schema says."""

from __future__ import annotations

import io
import mimetypes
import re
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO, TypeGuard

from pydantic_core import to_json

from bentoml._client.schema import NOTHING, EndpointSchema, Schema, as_schema, is_file, plain

if TYPE_CHECKING:
    from pandas import DataFrame
    from PIL.Image import Image

# A name, its content and its media type, as an HTTP library takes it.
FilePart = tuple[str, BinaryIO, str]

_BINARY = "application/octet-stream"
_URL = re.compile(r"https?://", re.IGNORECASE)
# Those that PNG holds exactly; TIFF holds the others.
_PNG_MODES = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})


@dataclass(frozen=True, kw_only=True)
class Body:
    """A request's body: either `content`, or parts of a form."""

    content: bytes | None = None
    content_type: str | None = None
    texts: Mapping[str, list[str]] = field(default_factory=dict)
    files: list[tuple[str, FilePart]] = field(default_factory=list)


def body_of(
    endpoint: EndpointSchema, args: tuple[object, ...], kwargs: Mapping[str, object], opened: ExitStack
) -> Body:
    """The body that carries these arguments; it reads from files that `opened` closes.

    Raises:
        TypeError: the arguments are not those that the endpoint takes, or are of no type that can be sent.
        OSError: a file cannot be opened.
    """
    if endpoint.root is not None:
        value = endpoint.root_value(args, kwargs)
        return Body() if value is NOTHING else _root_body(endpoint, endpoint.root, value, opened)
    arguments = endpoint.arguments(args, kwargs)
    if any(map(is_file, endpoint.properties.values())):
        return _form(endpoint, arguments, opened)
    fields = {name: _sendable(value, _property(endpoint, name)) for name, value in arguments.items()}
    return Body(content=_json(fields, endpoint.name), content_type="application/json")


def _root_body(endpoint: EndpointSchema, schema: Schema, value: object, opened: ExitStack) -> Body:
    if is_file(schema):
        part = _file(value, plain(schema), endpoint.name, opened)
        if isinstance(part, str):
            return Body(content=part.encode(), content_type="text/plain")
        _, file, content_type = part
        return Body(content=file.read(), content_type=content_type)
    if isinstance(value, str):
        return Body(content=value.encode(), content_type="text/plain")
    if isinstance(value, bytes | bytearray | memoryview):
        return Body(content=bytes(value), content_type="text/plain")
    content = _json(_sendable(value, schema), endpoint.name)
    return Body(content=content, content_type="application/json")


def _form(endpoint: EndpointSchema, arguments: Mapping[str, object], opened: ExitStack) -> Body:
    texts: dict[str, list[str]] = {}
    files: list[tuple[str, FilePart]] = []
    for name, value in arguments.items():
        schema = _property(endpoint, name)
        where = f"`{name}` of {endpoint.name}"
        if not is_file(schema):
            texts[name] = [_json(_sendable(value, schema), where).decode()]
            continue
        if value is None:
            continue  # a form says so by leaving it out
        for item in value if isinstance(value, list | tuple) else [value]:
            part = _file(item, _file_schema(schema), where, opened)
            if isinstance(part, str):
                texts.setdefault(name, []).append(part)
            else:
                files.append((name, part))
    return Body(texts=texts, files=files)


def _file_schema(schema: Schema) -> Schema:
    schema = plain(schema)
    return plain(as_schema(schema.get("items"))) if schema.get("type") == "array" else schema


def _file(value: object, schema: Schema, where: str, opened: ExitStack) -> str | FilePart:
    """The value as a part of a form; a URL stays text, for the server to fetch."""
    if isinstance(value, str) and _URL.match(value):
        return value
    if isinstance(value, str | PurePath):
        path = Path(value)
        return path.name, opened.enter_context(path.open("rb")), _media_type(path.name, schema)
    if isinstance(value, bytes | bytearray | memoryview):
        return "file", io.BytesIO(value), _declared(schema) or _BINARY
    if _is_image(value):
        return _image_file(value, _declared(schema))
    if callable(getattr(value, "read", None)):
        name = PurePath(str(getattr(value, "name", "file"))).name
        return name, value, _media_type(name, schema)  # type: ignore[return-value]  # what it reads is its user's promise
    found = type(value).__name__
    raise TypeError(f"{where} takes a path, a URL, bytes, an open binary file or a PIL image, found {found}")


def _media_type(name: str, schema: Schema) -> str:
    return mimetypes.guess_type(name)[0] or _declared(schema) or _BINARY


def _declared(schema: Schema) -> str | None:
    """The media type that the endpoint asks for, unless that is a pattern such as `image/*`."""
    declared = schema.get("content_type")
    return declared if isinstance(declared, str) and "*" not in declared else None


def _is_image(value: object) -> TypeGuard[Image]:
    return _is_a(value, "PIL.Image", "Image")


def _is_frame(value: object) -> TypeGuard[DataFrame]:
    return _is_a(value, "pandas", "DataFrame")


def _is_a(value: object, module: str, name: str) -> bool:
    # Whoever holds such an object has loaded its module.
    return isinstance(value, getattr(sys.modules.get(module), name, ()))


def _image_file(image: Image, declared: str | None) -> FilePart:
    from PIL import Image

    Image.init()
    formats = {media_type: name for name, media_type in Image.MIME.items() if name in Image.SAVE}
    # Without a wish of the endpoint's, what arrives is what was sent, pixel for pixel.
    exact = "PNG" if image.mode in _PNG_MODES else "TIFF"
    name = formats.get(declared or "", exact)
    file = io.BytesIO()
    image.save(file, name, **({"compress_level": 1} if name == "PNG" else {}))
    file.seek(0)
    return f"image.{name.lower()}", file, Image.MIME[name]


def _property(endpoint: EndpointSchema, name: str) -> Schema:
    return endpoint.properties.get(name, {})


def _sendable(value: object, schema: Schema) -> object:
    """The value, with frames laid out as the schema asks for."""
    schema = plain(schema)
    if _is_frame(value):
        return value.to_dict(orient="list" if schema.get("orient") == "columns" else "records")
    items = as_schema(schema.get("items"))
    if plain(items).get("type") in {"array", "dataframe"} and isinstance(value, list | tuple):
        return [_sendable(item, items) for item in value]
    return value


def _json(value: object, where: str) -> bytes:
    try:
        return to_json(value, fallback=_plain_data, inf_nan_mode="constants")
    except (ValueError, TypeError) as error:
        raise TypeError(f"{where}: cannot be sent as JSON: {error}") from None


def _plain_data(value: object) -> object:
    """What JSON is to hold for what pydantic does not know: frames, and arrays, tensors and their scalars."""
    if _is_frame(value):
        return _sendable(value, {})
    if callable(tolist := getattr(value, "tolist", None)):
        return tolist()
    hint = ", where the endpoint takes no file" if _is_image(value) else ""
    raise TypeError(f"found {type(value).__module__}.{type(value).__qualname__}{hint}")
