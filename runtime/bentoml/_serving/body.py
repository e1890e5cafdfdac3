"""Bodies of public requests: read within their limit, and taken apart."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Message, Receive

from bentoml._types.upload import Upload
from bentoml.exceptions import BadInput, PayloadTooLarge

WHOLE_BODY: Final = "bento.whole_body"
"""The key of a scope under which a server may offer the body as a whole."""

_MAX_PARTS: Final = 1000
_LONGEST_END: Final = 4096  # a boundary, and what may stand behind it


class Disconnected(Exception):
    """Nobody is left to answer."""


class WholeBody(Protocol):
    """A body that its server receives as a whole."""

    async def read(self) -> bytearray | None:
        """All of it; None when the client has gone in the middle of it."""
        ...


class Body:
    """The body of one request, read once; a later reader gets what was read.

    Args:
        limit: bytes at most, checked while reading.
        announced: what `Content-Length` says, None without one.
        whole: where the server has it as a whole.
    """

    def __init__(
        self,
        receive: Receive,
        *,
        limit: int,
        announced: int | None = None,
        whole: WholeBody | None = None,
    ) -> None:
        self._receive = receive
        self._whole = whole
        self._limit = limit
        self._announced = announced

    async def read(self) -> bytes | bytearray:
        """All of it.

        Raises:
            PayloadTooLarge: it is longer than allowed.
            Disconnected: the client has gone in the middle of it.
        """
        if self._announced is not None and self._announced > self._limit:
            raise self._too_large()
        if self._whole is not None:
            whole = await self._whole.read()
            if whole is None:
                raise Disconnected
            return whole
        message = await self._receive()
        first: bytes = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body", False):
            if len(first) > self._limit:
                raise self._too_large()
            return first
        body = bytearray()
        async for chunk in self._chunks(message):
            body += chunk
        return body

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Its pieces as they come; raises as `read` does."""
        if self._announced is not None and self._announced > self._limit:
            raise self._too_large()
        async for chunk in self._chunks(await self._receive()):
            yield chunk

    async def _chunks(self, message: Message) -> AsyncGenerator[bytes, None]:
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                raise Disconnected
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > self._limit:
                raise self._too_large()
            if chunk:
                yield chunk
            if not message.get("more_body", False):
                return
            message = await self._receive()

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"the body is larger than {self._limit} bytes (`traffic.max_request_size`)")


MULTIPART: Final = "multipart/form-data"
URLENCODED: Final = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Form:
    """The parts of a form, in order; `close` drops the files among them."""

    parts: list[tuple[str, Any]]

    def close(self) -> None:
        for _, part in self.parts:
            if isinstance(part, Upload):
                part.file.close()


async def read_multipart(body: Body, content_type: str, limit: int) -> Form:
    """The parts of a form with files: those as uploads, all else as JSON or, failing that, as text.

    Args:
        content_type: the whole header, which names the boundary.
        limit: bytes of a part at most.

    Raises:
        BadInput: the body is not what its content type says.
        PayloadTooLarge: it is longer than allowed.
    """
    try:
        form = await _multipart(body, content_type, limit)
    except (MultiPartException, FormParserError, ValueError, KeyError) as error:
        raise BadInput(f"the form cannot be read: {getattr(error, 'message', error)}") from None
    return Form([(name, _part(part)) for name, part in form.multi_items()])


def urlencoded(raw: bytes | bytearray) -> Form:
    """The fields of a form without files, each as JSON or, failing that, as text.

    Raises:
        BadInput: the body is not what its content type says.
    """
    try:
        fields = parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARTS)
    except ValueError as error:
        raise BadInput(f"the form cannot be read: {error}") from None
    return Form([(name, text_field(value)) for name, value in fields])


async def _multipart(body: Body, content_type: str, limit: int) -> FormData:
    headers = Headers({"content-type": content_type})
    end = b""

    async def chunks() -> AsyncGenerator[bytes, None]:
        nonlocal end
        async for chunk in body.chunks():
            end = (end + chunk)[-_LONGEST_END:]
            yield chunk

    # The limit of the whole body is checked while it is read; a part may take all of it.
    parser = MultiPartParser(
        headers, chunks(), max_files=_MAX_PARTS, max_fields=_MAX_PARTS, max_part_size=limit
    )
    kept: list[object] = []
    try:
        form = await parser.parse()
        # The parser takes a part that breaks off for none at all.
        _, options = parse_options_header(content_type)
        if b"--" + options.get(b"boundary", b"") + b"--" not in end:
            raise BadInput("the form cannot be read: it breaks off before its last boundary")
        kept = [part.file for _, part in form.multi_items() if isinstance(part, UploadFile)]
        return form
    finally:
        # The parser closes them for errors of its own only: not for those of what it reads from, and not
        # those of a part that has no end.
        for file in parser._files_to_close_on_error:
            if not any(file is one for one in kept):
                file.close()


def _part(part: UploadFile | str) -> Any:
    if isinstance(part, str):
        return text_field(part)
    kind = (part.content_type or "").partition(";")[0].strip().lower() or None
    return Upload(file=part.file, name=part.filename, content_type=kind)


def fields_of(form: Form, list_fields: frozenset[str]) -> dict[str, Any]:
    """A form's parts by name; those of one name, and those that are for a list, as a list."""
    named: dict[str, list[Any]] = {}
    for name, part in form.parts:
        named.setdefault(name, []).append(part)
    return {
        name: parts
        if len(parts) > 1 or (name in list_fields and not isinstance(parts[0], list))
        else parts[0]
        for name, parts in named.items()
    }


def text_field(text: str) -> Any:
    """The value of a form's field: JSON where it is that, else the text itself."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
