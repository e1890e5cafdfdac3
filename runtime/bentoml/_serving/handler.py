"""One endpoint as an ASGI application: admitted, read, run, answered, and cut off when its time is over."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from bentoml import _deadline as deadline
from bentoml._config import ServiceConfig
from bentoml._context import request_folder, set_current_service
from bentoml._deadline import allowed_s
from bentoml._endpoint import Endpoint
from bentoml._serving.admission import UNCOUNTED, Admission, Place, too_many_requests
from bentoml._serving.batching import Batcher
from bentoml._serving.body import WHOLE_BODY, Body, Disconnected
from bentoml._serving.exchange import Exchange, Observer
from bentoml._serving.peer_calls import FRAME, PeerCalls
from bentoml._serving.reading import Call, Reader, silence
from bentoml._serving.reply import (
    RawHeaders,
    Reply,
    as_json,
    content_type,
    ends_response,
    is_slow,
    refusal,
    reply_for,
    reply_to,
    with_context,
)
from bentoml._serving.running import Runner
from bentoml._serving.schema import STREAM_TYPE
from bentoml._serving.watch import Watch, cut_off, too_late
from bentoml._signature import Arguments, EndpointSignature
from bentoml.exceptions import BentoMLException, DeadlineExceeded

_END: Final = object()
_TURN_S: Final = 0.005  # of a generator that never waits, before others of this worker have theirs
_WITHOUT_BODY: Final = frozenset({204, 205, 304})


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What the endpoints of one application share.

    Args:
        runner: gives the runner, once the service's instance is there.
        accepts_frames: whether other services of the graph depend on this one.
        token: what peers of this deployment show.
        server: the value of the `Server` header.
        state: what contexts share.
    """

    config: ServiceConfig
    runner: Callable[[], Runner]
    admission: Admission
    observer: Observer
    accepts_frames: bool
    token: str | None
    server: bytes
    state: dict[str, Any]


class Handler:
    """Answers the requests of one endpoint."""

    def __init__(
        self, endpoint: Endpoint, signature: EndpointSignature, serving: Serving, *, path: str
    ) -> None:
        self.path = path
        self._endpoint = endpoint
        self._signature = signature
        self._serving = serving
        self._traffic = serving.config.traffic
        self._reader = Reader(
            signature, serving.config, accepts_frames=serving.accepts_frames, state=serving.state
        )
        self.largest_body = self._reader.largest_body
        self._peers = PeerCalls(endpoint, serving.token)
        self._batcher = self._make_batcher() if endpoint.batchable else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = self._serving.observer.begin(scope, send, self.path)
        timeout_s = allowed_s(exchange.headers, self._traffic.timeout)
        refused = self._refused(exchange, timeout_s)
        if refused is None:
            place = Place(self._serving.admission)
            await self._answer_in_time(exchange, receive, timeout_s, place)
            return
        try:
            # Before its body is read, and before a client that asks first has sent it.
            await self._send(exchange, refused)
        finally:
            self._serving.observer.end(exchange)

    def _refused(self, exchange: Exchange, timeout_s: float) -> Reply | None:
        """Why a request is not begun at all, if it is not."""
        if timeout_s <= 0:
            return refusal(DeadlineExceeded("its caller had stopped waiting before this request was begun"))
        if self._serving.admission.is_full:
            return refusal(too_many_requests())
        return self.refused_call(exchange.headers)

    def refused_call(self, headers: Mapping[bytes, bytes]) -> Reply | None:
        """Why a peer's call is not begun, if it is not, and if it is one."""
        is_call = headers.get(b"content-type") == FRAME and self._serving.accepts_frames
        return self._peers.refusal(headers) if is_call else None

    def is_trusted(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether these are headers of a peer of the deployment."""
        return self._peers.is_trusted(headers, {})

    async def answer_detached(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that nobody waits for: a task, which takes as long as it takes."""
        exchange = self._serving.observer.begin(scope, send, self.path)
        place, is_free = Place(UNCOUNTED), asyncio.Event()
        try:
            await self._answer_in_time(exchange, receive, None, place)
        finally:
            # A task that was cancelled is over when its thread is.
            place.when_free(is_free.set)
            await is_free.wait()

    async def take_body(self, receive: Receive) -> bytes | bytearray:
        """The body of a request that is to be answered later, within the time that an answer may take.

        Raises:
            BentoMLException: it has not come by then.
            PayloadTooLarge: it is longer than allowed.
            Disconnected: the client has gone in the middle of it.
        """
        body = Body(receive, limit=self.largest_body)
        try:
            return await asyncio.wait_for(body.read(), self._traffic.timeout)
        except asyncio.TimeoutError:
            raise _late(True, self._traffic.timeout) from None

    async def check(self, scope: Scope, receive: Receive) -> None:
        """Read a request as if it were to be answered.

        Raises:
            BentoMLException: what it would be refused for.
        """
        exchange = self._serving.observer.begin(scope, _send_nothing, self.path)
        call = Call()
        try:
            await self._reader.read(call, exchange, self._body(exchange, receive))
        finally:
            call.close()
            self._serving.observer.forget(exchange)

    async def _answer_in_time(
        self, exchange: Exchange, receive: Receive, timeout_s: float | None, place: Place
    ) -> None:
        watch = Watch(receive, timeout_s)
        if timeout_s is not None:
            deadline.current.set(watch.deadline)
        call = Call()
        request_folder.set(call.folder)
        try:
            await self._answer(exchange, call, self._body(exchange, watch.receive), watch, place)
        except asyncio.CancelledError as error:
            exchange.error = error
            if watch.takes():
                await self._cut_off(exchange, watch)
            elif watch.is_nobodys():
                await self._fail(exchange, error)
            else:
                raise
        finally:
            watch.close()
            place.give_back()
            self._serving.observer.end(exchange)
            # A method that runs on in its thread may still use the request's folder.
            place.when_free(call.close)

    def _body(self, exchange: Exchange, receive: Receive) -> Body:
        whole = exchange.scope.get(WHOLE_BODY)
        return Body(receive, limit=self.largest_body, announced=exchange.request_length, whole=whole)

    async def _answer(self, exchange: Exchange, call: Call, body: Body, watch: Watch, place: Place) -> None:
        try:
            await self._reader.read(call, exchange, body)
            # Not earlier: a body that stalls is to keep nobody from running.
            if not place.take():
                raise too_many_requests()
            if self._endpoint.is_stream:
                await self._stream(exchange, call, watch, place)
            else:
                reply = await self._reply(call, place)
                # Before the response is out: who waits for this place must find it free by then.
                place.give_back()
                await self._send_in_time(exchange, reply, watch)
        except Disconnected as error:
            exchange.error = error
            return
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a method raises becomes a response
            place.give_back()
            await self._fail(exchange, error)
        background = call.context.response.background if call.context is not None else None
        if background is not None:
            # The response is out, and counted: nobody waits for this, and nothing cuts it off.
            self._finish(exchange, watch)
            await _run(background)

    async def _fail(self, exchange: Exchange, error: BaseException) -> None:
        """Answer with an error, or where the response has begun already, end it without its end."""
        exchange.error = error
        reply = reply_for(error, f"POST {self.path}")
        is_frame = exchange.request_type == FRAME
        if not exchange.status:
            await self._send(exchange, self._peers.failure(exchange, error, reply) if is_frame else reply)
        elif is_frame and self._endpoint.is_stream:
            item = self._peers.failed_item(exchange, error, reply)
            await exchange.send({"type": "http.response.body", "body": item})

    def _finish(self, exchange: Exchange, watch: Watch) -> None:
        watch.close()
        watch.deadline.at = math.inf  # what is done from here on is done for nobody who waits
        self._serving.observer.end(exchange)

    async def _reply(self, call: Call, place: Place) -> Reply | Response:
        make = functools.partial(self._made, call)
        if self._batcher is None:
            arguments = self._signature.with_context(call.arguments, call.context)
            runner = self._serving.runner()
            if not self._endpoint.is_async:
                return await runner.run(self._endpoint, arguments, place, make)
            result = await runner.run(self._endpoint, arguments, place, _itself)
        else:
            [batch] = call.arguments.positional or call.arguments.keywords.values()
            result = await self._batcher.submit(batch)
        return await asyncio.to_thread(make, result) if is_slow(result) else make(result)

    def _made(self, call: Call, result: Any) -> Reply | Response:
        if call.is_frame:
            return self._peers.reply(result)
        reply = reply_to(result, self._signature)
        if call.context is not None and self._signature.context is not None:
            return with_context(reply, call.context.response, is_own=reply is result)
        return reply

    def _make_batcher(self) -> Batcher:
        async def run(batch: Any) -> Any:
            runner = self._serving.runner()
            set_current_service(runner.instance)  # the context of a batch is that of no request
            context = self._reader.context_of_nobody()
            try:
                arguments = self._signature.with_context(Arguments((batch,), {}), context)
                # The callers hold places of their own.
                return await runner.run(self._endpoint, arguments, Place(UNCOUNTED), _itself)
            finally:
                context.close()

        return Batcher(
            call=run,
            batch_dim=self._endpoint.batch_dim,
            max_batch_size=self._endpoint.max_batch_size,
            max_latency_ms=self._endpoint.max_latency_ms,
            can_cancel=self._endpoint.is_async,
            observe=lambda size: self._serving.observer.batch(self._endpoint.name, size),
        )

    async def _stream(self, exchange: Exchange, call: Call, watch: Watch, place: Place) -> None:
        arguments = self._signature.with_context(call.arguments, call.context)
        items = self._serving.runner().stream(self._endpoint, arguments, place)
        try:
            # The first item comes before the headers, so that an error until then has a status of its own.
            first = await anext(items, _END)
            await self._send_stream(exchange, call, first, items, watch)
        finally:
            await items.aclose()

    async def _send_stream(
        self,
        exchange: Exchange,
        call: Call,
        item: Any,
        items: AsyncGenerator[Any, None],
        watch: Watch,
    ) -> None:
        chunk_of: Callable[[Any], bytes]
        if call.is_frame:
            reply, chunk_of, end = self._peers.stream(), self._peers.item, self._peers.end()
        else:
            media_type = content_type(self._signature.media_type or STREAM_TYPE)
            reply, chunk_of, end = Reply(200, media_type, b""), self._chunk, b""
            if call.context is not None:
                with_context(reply, call.context.response, is_own=False)
        await self._start(exchange, reply)
        loop = asyncio.get_running_loop()
        gives_way_at = loop.time() + _TURN_S
        while item is not _END:
            watch.allow_another_piece(self._traffic)
            await exchange.send({"type": "http.response.body", "body": chunk_of(item), "more_body": True})
            if (now := loop.time()) > gives_way_at:
                await asyncio.sleep(0)
                gives_way_at = now + _TURN_S
            item = await anext(items, _END)
        await exchange.send({"type": "http.response.body", "body": end})

    def _chunk(self, item: Any) -> bytes:
        if isinstance(item, str):
            return item.encode()
        if isinstance(item, bytes | bytearray | memoryview):
            return bytes(item)
        return as_json(item, self._signature) + b"\n"

    async def _send_in_time(self, exchange: Exchange, reply: Reply | Response, watch: Watch) -> None:
        """Send a response, each piece of which has the time of an item of a stream."""
        watch.allow_another_piece(self._traffic)
        if not isinstance(reply, Response):
            await self._send(exchange, reply)
            return

        async def send(message: Message) -> None:
            watch.allow_another_piece(self._traffic)
            await exchange.watched_send(message)
            if ends_response(message):
                self._finish(exchange, watch)  # what it does after that is done in the background

        reply.raw_headers.extend(self._own_headers(exchange))
        await reply(exchange.scope, silence, send)

    async def _send(self, exchange: Exchange, reply: Reply) -> None:
        has_body = reply.status >= 200 and reply.status not in _WITHOUT_BODY
        length = [(b"content-length", b"%d" % len(reply.body))] if has_body else []
        await self._start(exchange, reply, length, has_body=has_body)
        await exchange.send({"type": "http.response.body", "body": reply.body if has_body else b""})

    async def _start(
        self, exchange: Exchange, reply: Reply, more: RawHeaders | None = None, *, has_body: bool = True
    ) -> None:
        headers = [*self._own_headers(exchange), *reply.headers]
        if has_body:
            headers.append((b"content-type", reply.content_type))
        if more is not None:
            headers += more
        exchange.status, exchange.response_headers = reply.status, headers
        await exchange.send({"type": "http.response.start", "status": reply.status, "headers": headers})

    def _own_headers(self, exchange: Exchange) -> RawHeaders:
        if exchange.request_type == FRAME:
            return []  # a peer has the request's trace, and each header costs it and this worker time
        trace = exchange.span.context
        headers = [(b"server", self._serving.server), (b"x-bentoml-request-id", trace.span_id.encode())]
        if self._serving.config.http.response.trace_id:
            headers.append((b"x-bentoml-trace-id", trace.trace_id.encode()))
        return headers

    async def _cut_off(self, exchange: Exchange, watch: Watch) -> None:
        """Answer a request whose time is over, if that is still possible; without a client, nothing is."""
        if watch.reason == "gone":
            exchange.error = Disconnected()
            return
        limit, seconds = watch.limit
        if exchange.status:
            exchange.error = error = cut_off(f"POST {self.path}", limit)
            if exchange.request_type == FRAME and self._endpoint.is_stream:
                item = self._peers.failed_item(exchange, error, refusal(error))
                await exchange.send({"type": "http.response.body", "body": item})
        else:
            await self._fail(exchange, _late(watch.waits_for_body, seconds))


def _late(waits_for_body: bool, seconds: float) -> BentoMLException:
    if waits_for_body:
        return BentoMLException(f"the body did not come within {seconds} seconds", error_code=408)
    return too_late(seconds)


def _itself(result: Any) -> Any:
    return result


async def _send_nothing(message: Message) -> None:
    """The `send` of a request that is only checked."""


async def _run(background: Callable[[], Any]) -> None:
    result = background()
    if asyncio.iscoroutine(result):
        await result
