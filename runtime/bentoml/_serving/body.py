"""Public requests and responses: JSON, forms and files ↔ the values of an endpoint."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from bentoml._signature import EndpointSignature
from bentoml.exceptions import BadInput

_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


async def read_body(chunks: AsyncIterator[bytes]) -> bytearray:
    """All of a request's body, in memory that belongs to the reader and may be written to."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
    return body


async def read_fields(request: Request, takes_lists: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The fields of a public request, by name.

    Args:
        takes_lists: the parameters for which a single part is a list of one.

    Raises:
        BadInput: the body is not what its content type says.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in _FORMS:
        return await _form_fields(request, takes_lists)
    body = await read_body(request.stream())
    if not body:
        return {}
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise BadInput(f"expected a JSON object with the parameters' names, found {type(fields).__name__}")
    return fields


async def _form_fields(request: Request, takes_lists: frozenset[str]) -> dict[str, Any]:
    fields: dict[str, list[Any]] = {}
    try:
        async with request.form() as form:
            for name, part in form.multi_items():
                value = await part.read() if isinstance(part, UploadFile) else _text_field(part)
                fields.setdefault(name, []).append(value)
    except (HTTPException, ValueError) as error:
        raise BadInput(f"the form cannot be read: {getattr(error, 'detail', error)}") from None
    return {
        name: values
        if len(values) > 1 or (name in takes_lists and not isinstance(values[0], list))
        else values[0]
        for name, values in fields.items()
    }


def _text_field(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def as_response(result: Any, signature: EndpointSignature) -> Response:
    """What a public caller gets for an endpoint's result."""
    if isinstance(result, Response):
        return result
    if isinstance(result, str):
        return PlainTextResponse(result)
    if isinstance(result, bytes):
        return Response(result, media_type="text/plain")
    image = getattr(sys.modules.get("PIL.Image"), "Image", None)
    if image is not None and isinstance(result, image):
        return _image_response(result)
    body = signature.output.serializer.to_json(result, fallback=_json_value, warnings=False)
    return Response(body, media_type="application/json")


def _image_response(image: Any) -> Response:
    file_format = image.format or "PNG"
    buffer = io.BytesIO()
    image.save(buffer, format=file_format)
    extension = file_format.lower()
    disposition = f'inline; filename="image.{extension}"'
    return Response(
        buffer.getvalue(), media_type=f"image/{extension}", headers={"content-disposition": disposition}
    )


def _json_value(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot stand in a JSON response")
