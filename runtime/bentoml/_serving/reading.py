"""Requests of one endpoint, read: frames from peers, JSON, forms and raw bodies from everyone else."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, Final

from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message, Scope

from bentoml import codec
from bentoml._config import ServiceConfig
from bentoml._context import Context, RequestFolder
from bentoml._environment import DEPENDENTS
from bentoml._serving.body import MULTIPART, URLENCODED, Body, Form, fields_of, read_multipart, urlencoded
from bentoml._serving.exchange import Exchange
from bentoml._serving.fetch import fetch_file
from bentoml._serving.reply import InvalidFields, new_response_context
from bentoml._signature import Arguments, EndpointSignature
from bentoml._types.upload import Upload
from bentoml.exceptions import BadInput, BentoMLException, InvalidArgument

_FRAME: Final = codec.MEDIA_TYPE.encode()
# How peers of the existing implementation call: whoever reads it runs what the sender wants.
_REFUSED: Final = frozenset({"application/vnd.bentoml+pickle"})
_LONGEST_URL: Final = 8192


class _EndpointRequest(Request):
    @property
    def metadata(self) -> Headers:
        """The headers, by the name that this interface has for them."""
        return self.headers


class Call:
    """One call of an endpoint: its arguments, and what is to be let go when it has been answered.

    Attributes:
        is_frame: whether a peer calls, who is answered with a frame.
        context: there where the endpoint takes one, or its files need a folder.
        folder: for the request's files.
    """

    __slots__ = ("_check", "arguments", "context", "folder", "form", "is_frame")

    def __init__(self) -> None:
        self.arguments: Arguments
        self._check: asyncio.Future[Arguments] | None = None
        self.is_frame = False
        self.context: Context | None = None
        self.form: Form | None = None
        self.folder = RequestFolder()

    async def check_aside(self, check: Callable[[], Arguments]) -> Arguments:
        """What `check` returns, from a thread, which goes on to its end when nobody waits for it any more."""
        self._check = asyncio.ensure_future(asyncio.to_thread(check))
        return await asyncio.shield(self._check)

    def close(self) -> None:
        """Remove what the request left on the disk, once nothing reads it or writes to it any more."""
        if self._check is None or self._check.done():
            self._remove()
        else:
            self._check.add_done_callback(self._after_check)

    def _after_check(self, check: asyncio.Future[Arguments]) -> None:
        if not check.cancelled():
            check.exception()  # seen, since there is nobody left to tell
        self._remove()

    def _remove(self) -> None:
        if self.form is not None:
            self.form.close()
        self.folder.close()


class Reader:
    """Makes calls of the requests of one endpoint.

    Args:
        accepts_frames: whether other services of the graph depend on this one.
        state: what the contexts of a worker share.
    """

    def __init__(
        self,
        signature: EndpointSignature,
        config: ServiceConfig,
        *,
        accepts_frames: bool,
        state: dict[str, Any],
    ) -> None:
        self._signature = signature
        self._fetches_urls = config.http.fetch_urls
        self._timeout_s = config.traffic.timeout
        self.largest_body = config.traffic.max_request_size
        self._accepts_frames = accepts_frames
        self._state = state
        self._takes_file = signature.root is not None and signature.root_kind == "file"
        self._needs_context = bool(signature.context or signature.file_fields or self._takes_file)

    def context_of_nobody(self) -> Context:
        """The context of a call that is made for several requests at once: a folder, and the shared state."""
        scope: Scope = {"type": "http", "method": "POST", "path": "", "headers": [], "query_string": b""}
        return self._context(scope, RequestFolder())

    def _context(self, scope: Scope, folder: RequestFolder) -> Context:
        return Context(_EndpointRequest(scope, silence), new_response_context(), self._state, folder)

    async def read(self, call: Call, exchange: Exchange, body: Body) -> None:
        """Fill in the call; it is to be closed whatever happens here.

        Raises:
            BentoMLException: the request cannot be read, or does not fit the parameters; its status says how.
        """
        try:
            await self._read(call, exchange, body)
        except ValidationError as error:
            raise InvalidFields(error) from None

    async def _read(self, call: Call, exchange: Exchange, body: Body) -> None:
        content_type = exchange.request_type
        if self._needs_context:
            call.context = self._context(exchange.scope, call.folder)
        if content_type == _FRAME:
            call.arguments = self._from_frame(await self._framed(body), call)
            call.is_frame = True
            return
        media_type = content_type.partition(b";")[0].strip().lower().decode("latin-1")
        if media_type in _REFUSED:
            raise BentoMLException(f"{media_type} is taken from nobody", error_code=415)
        if media_type == MULTIPART:
            call.form = await read_multipart(body, content_type.decode("latin-1"), self.largest_body)
            call.arguments = await self._from_form(call.form, call)
            return
        raw = await body.read()
        # `curl -d` says that of everything, JSON too.
        if media_type == URLENCODED and self._signature.root is None and not raw.lstrip().startswith(b"{"):
            call.arguments = await self._from_form(urlencoded(raw), call)
            return
        if call.context is not None:
            call.context.request._body = bytes(raw)  # where its own `body()` looks first
        if not raw and (default := self._signature.without_body()) is not None:
            call.arguments = default
            return
        if self._signature.root is not None and self._signature.root_kind != "json":
            value = await self._raw(raw, media_type)
            call.arguments = await self._checked(self._signature.from_root, value, call)
        else:
            call.arguments = self._signature.from_json(raw, call.context)

    async def _framed(self, body: Body) -> bytes | bytearray:
        if not self._accepts_frames:
            raise BentoMLException(
                f"{codec.MEDIA_TYPE} is for peers only, and no service is named in {DEPENDENTS}",
                error_code=415,
            )
        raw = await body.read()
        # Arrays are views of it, which the endpoint may write to.
        return raw if isinstance(raw, bytearray) else bytearray(raw)

    def _from_frame(self, frame: bytes | bytearray, call: Call) -> Arguments:
        match codec.decode(frame, directory=call.folder.path):
            case [list() as args, dict() as kwargs] if all(isinstance(key, str) for key in kwargs):
                return self._signature.from_call(args, kwargs, call.context)
        raise BadInput("frame: expected a call, a list of the positional and the named arguments")

    async def _from_form(self, form: Form, call: Call) -> Arguments:
        signature = self._signature
        fields = fields_of(form, signature.list_fields)
        for name in signature.file_fields.intersection(fields):
            fields[name] = await self._with_files(fields[name])
        if signature.root is not None:
            # A form for a body that is one value has one part, whatever it is called.
            default = None if fields else signature.without_body()
            if default is not None:
                return default
            value = next(iter(fields.values()), None)
            return await self._checked(signature.from_root, value, call)
        return await self._checked(signature.from_fields, fields, call)

    async def _checked(
        self, check: Callable[[Any, Context | None], Arguments], value: Any, call: Call
    ) -> Arguments:
        if self._takes_file or self._signature.file_fields:
            # It may take long: images are decoded for it, and files written.
            return await call.check_aside(functools.partial(check, value, call.context))
        return check(value, call.context)

    async def _with_files(self, value: Any) -> Any:
        if isinstance(value, list):
            return [await self._with_files(item) for item in value]
        return await self._fetched(value) if isinstance(value, str) and _is_url(value) else value

    async def _raw(self, raw: bytes | bytearray, media_type: str) -> Any:
        if self._signature.root_kind == "text":
            return _text(raw)
        if len(raw) < _LONGEST_URL and raw.startswith((b"http://", b"https://")) and _is_url(_text(raw)):
            return await self._fetched(_text(raw))
        return Upload.of(raw, content_type=media_type or None)

    async def _fetched(self, url: str) -> Upload:
        if not self._fetches_urls:
            raise InvalidArgument("expected a file, found a URL, and `http.fetch_urls` is off")
        file = await fetch_file(url, max_bytes=self.largest_body, timeout_s=self._timeout_s)
        return Upload.of(file.content, name=file.name, content_type=file.content_type)


async def silence() -> Message:
    """The `receive` of a request whose body was read, and whose client is watched already."""
    await asyncio.Event().wait()
    return {"type": "http.disconnect"}


def _is_url(text: str) -> bool:
    return len(text) < _LONGEST_URL and text.lower().startswith(("http://", "https://"))


def _text(raw: bytes | bytearray) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"the body is not UTF-8: {error}") from None
