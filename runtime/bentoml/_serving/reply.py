"""Responses of endpoints: what a public caller gets for a result, or for an error."""

from __future__ import annotations

import inspect
import io
import json
import logging
import mimetypes
import re
import sys
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError
from starlette.datastructures import MutableHeaders
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from bentoml._context import ResponseContext
from bentoml._signature import EndpointSignature
from bentoml._trace import request_id
from bentoml.exceptions import (
    BentoMLException,
    DeadlineExceeded,
    InvalidArgument,
    Overloaded,
    UnservableException,
)

log = logging.getLogger("bentoml")

RawHeaders = list[tuple[bytes, bytes]]

UNEXPECTED: Final = "An unexpected error has occurred, please check the server log."

_NAMED_PROBLEMS: Final = 3
_TRY_AGAIN_LATER: Final = 1013  # why a WebSocket is closed
_ENDS_A_HEADER: Final = re.compile(rb"[\r\n\0]")
_JSON_TYPES: Final = frozenset({dict, list, tuple, int, float, bool, type(None)})


class InvalidFields(InvalidArgument):
    """Values of a request do not fit: `detail` has one entry for each, as pydantic writes them.

    The message begins as clients know it, and names the first of them.
    """

    def __init__(self, error: ValidationError) -> None:
        self.detail = error.errors(include_context=False, include_input=False)
        count = len(self.detail)
        named = [_problem(problem) for problem in self.detail[:_NAMED_PROBLEMS]]
        more = [f"and {count - len(named)} more"] if count > len(named) else []
        words = f"{count} validation error{'s' if count > 1 else ''} for Input"
        super().__init__("; ".join([words, *named, *more]))


@dataclass(slots=True)
class Reply:
    """A response that is there as a whole."""

    status: int
    content_type: bytes
    body: bytes | bytearray
    headers: RawHeaders = field(default_factory=list)


def reply_to(result: Any, signature: EndpointSignature) -> Reply | Response:
    """What a public caller gets for an endpoint's result.

    Raises:
        TypeError: something in it is of a type that JSON cannot carry.
    """
    if type(result) is str:
        return Reply(200, _media_type(signature, b"text/plain; charset=utf-8"), result.encode())
    if type(result) in _JSON_TYPES:
        return Reply(200, _media_type(signature, b"application/json"), as_json(result, signature))
    if isinstance(result, Response):
        return result
    if isinstance(result, bytes | bytearray | memoryview):
        return Reply(200, _media_type(signature, b"text/plain; charset=utf-8"), bytes(result))
    if isinstance(result, Path):
        return _file(result, signature)
    if signature.returns_files_inside:
        raise UnservableException("a result with a file in one of its fields cannot be sent; return the file")
    image = getattr(sys.modules.get("PIL.Image"), "Image", None)
    if image is not None and isinstance(result, image):
        return _image(result, signature)
    return Reply(200, _media_type(signature, b"application/json"), as_json(result, signature))


def as_json(result: Any, signature: EndpointSignature) -> bytes:
    """A result, or an item of a stream, as one JSON document.

    Raises:
        TypeError: something in it is of a type that JSON cannot carry; names the method.
    """
    if type(result) in _JSON_TYPES:
        try:
            return json.dumps(result).encode()
        except (TypeError, ValueError, RecursionError):
            pass  # something in it is not JSON by itself
    if inspect.isawaitable(result):
        raise TypeError(f"{signature.where} returned {_given_up(result)}: an `await` is missing")
    try:
        return signature.output.serializer.to_json(result, fallback=_plain, warnings=False)
    except (PydanticSerializationError, TypeError) as error:
        raise TypeError(f"{signature.where} returned what JSON cannot carry: {error}") from error


def reply_for(error: BaseException, where: str) -> Reply:
    """The response for what an endpoint raised; what is none of the caller's business goes to the log.

    Args:
        where: the request, for the log.
    """
    if isinstance(error, BentoMLException) and error.status < 500:
        return refusal(error)
    if isinstance(error, DeadlineExceeded | Overloaded):
        log.warning("%s: %s", where, error)
        return refusal(error)
    log.error("%s failed", where, exc_info=error)
    return failure(error)


def refusal(error: BentoMLException) -> Reply:
    """The response for an error that a caller may be told about."""
    status = error.status
    if status in (401, 403):
        return error_reply(status, "Authorization error", None)
    if isinstance(error, InvalidFields):
        return error_reply(status, error.message, InvalidArgument.__name__, detail=error.detail)
    reply = error_reply(status, error.message, type(error).__name__)
    if status in (429, 503):
        reply.headers.append((b"retry-after", b"1"))
    return reply


async def refuse(error: BentoMLException, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request or a WebSocket's handshake, outside of endpoints, with a refusal."""
    await send_to(response_of(refusal(error)), error.message, scope, receive, send)


async def send_to(response: Response, reason: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a response, if need be in place of a WebSocket.

    Args:
        reason: is told instead where the server cannot send a response to a handshake.
    """
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": reason})
    else:
        await response(scope, receive, send)


def response_of(reply: Reply) -> Response:
    """A reply to a request that no endpoint answers."""
    response = Response(bytes(reply.body), reply.status, media_type=reply.content_type.decode())
    response.raw_headers += [*reply.headers, (b"x-bentoml-request-id", request_id().encode())]
    return response


def ends_response(message: Message) -> bool:
    """Whether the response is complete with this message."""
    return message["type"] == "http.response.body" and not message.get("more_body", False)


def failure(error: BaseException) -> Reply:
    """The response for an error that is none of the caller's business."""
    status = error.status if isinstance(error, BentoMLException) else 500
    return error_reply(
        status, UNEXPECTED, type(error).__name__ if isinstance(error, BentoMLException) else None
    )


def error_reply(status: int, message: str, kind: str | None, **more: Any) -> Reply:
    """An error as this interface writes it: an object with `error`, and the type where that may be told."""
    document: dict[str, Any] = {"error": message}
    if kind is not None:
        document["type"] = kind
    return Reply(
        status,
        b"application/json",
        json.dumps({**document, **more}, default=str, separators=(",", ":")).encode(),
    )


def with_context(reply: Reply | Response, response: ResponseContext, *, is_own: bool) -> Reply | Response:
    """The response with what the endpoint said of it through its context.

    Args:
        is_own: whether the endpoint made the response itself, and with it its status.

    Raises:
        ValueError: a header holds what would end it.
    """
    cookies = [(b"set-cookie", cookie.header().encode("latin-1")) for cookie in response.cookies]
    headers = [item for item in response.headers.raw if item[0] != b"content-length"]
    for name, value in (*headers, *cookies):
        if _ENDS_A_HEADER.search(name + value):
            raise ValueError(f"the header {name.decode('latin-1')!r} holds a line break: {value!r}")
    if isinstance(reply, Response):
        named = {name for name, _ in headers}
        kept = [item for item in reply.raw_headers if item[0] not in named]
        reply.raw_headers[:] = kept + headers + cookies  # the same list: a file adds its length to it later
    else:
        for name, value in headers:
            if name == b"content-type":
                reply.content_type = value
        reply.headers += [item for item in headers if item[0] != b"content-type"] + cookies
    if response.status_code != 200 and not is_own:
        if isinstance(reply, Response):
            reply.status_code = response.status_code
        else:
            reply.status = response.status_code
    return reply


def is_slow(result: Any) -> bool:
    """Whether making a response of it takes long enough to be done beside the loop."""
    image = getattr(sys.modules.get("PIL.Image"), "Image", None)
    return image is not None and isinstance(result, image)


def new_response_context() -> ResponseContext:
    """A response that nothing was said of yet."""
    return ResponseContext(MutableHeaders())


def _problem(problem: ErrorDetails) -> str:
    path = ".".join(map(str, problem["loc"]))
    return f"{path}: {problem['msg']}" if path else problem["msg"]


def _media_type(signature: EndpointSignature, otherwise: bytes) -> bytes:
    return content_type(signature.media_type) if signature.media_type else otherwise


def content_type(media_type: str) -> bytes:
    """The header for a media type: all text is UTF-8."""
    is_bare_text = media_type.startswith("text/") and ";" not in media_type
    return (media_type + "; charset=utf-8" if is_bare_text else media_type).encode("latin-1", "replace")


def _file(path: Path, signature: EndpointSignature) -> Response:
    declared = signature.media_type
    if declared is None or "*" in declared:
        declared = mimetypes.guess_type(path.name)[0]
    media_type = declared or "application/octet-stream"
    disposition = "inline" if media_type.startswith("image/") else "attachment"
    response = FileResponse(path, media_type=media_type)
    response.headers["content-disposition"] = f"{disposition}; {_file_name(path.name)}"
    return response


def _file_name(name: str) -> str:
    plain = name.encode("ascii", "ignore").decode().replace("\\", "").replace('"', "")
    if plain == name:
        return f'filename="{name}"'
    return f"filename*=utf-8''{quote(name)}"


def _image(image: Any, signature: EndpointSignature) -> Reply:
    file_format = _image_format(signature.media_type) or image.format or "PNG"
    buffer = io.BytesIO()
    image.save(buffer, format=file_format)
    extension = file_format.lower()
    disposition = f'inline; filename="image.{extension}"'.encode()
    return Reply(
        200, f"image/{extension}".encode(), buffer.getvalue(), [(b"content-disposition", disposition)]
    )


def _image_format(media_type: str | None) -> str | None:
    """Pillow's name for a media type; None where it has none, as for `image/*`."""
    from PIL import Image

    ending = (media_type or "").partition("/")[2].lower()
    return Image.registered_extensions().get(f".{ending}") if ending else None


def _plain(value: Any) -> Any:
    """What stands in JSON for a value that pydantic has no words for."""
    name = type(value).__name__
    if name in ("DataFrame", "Series") and hasattr(value, "to_dict"):
        return value.to_dict(orient="records") if name == "DataFrame" else value.tolist()
    if hasattr(value, "tolist"):
        return value.tolist()
    if inspect.isawaitable(value):
        raise TypeError(f"{_given_up(value)}: an `await` is missing")
    raise TypeError(f"a {type(value).__name__} cannot stand in a JSON response")


def _given_up(awaitable: Awaitable[Any]) -> str:
    """What is never awaited, as text; Python would warn of a coroutine that is let go like that."""
    text = repr(awaitable)
    if inspect.iscoroutine(awaitable):
        awaitable.close()
    return text
