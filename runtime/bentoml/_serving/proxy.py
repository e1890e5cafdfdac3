"""Requests passed on to an external HTTP server on this machine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

import httpx
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from bentoml._serving.reply import send_to

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

log = logging.getLogger("bentoml")

# Of one connection and not of a message, or written anew by whoever sends the message on.
_HOP_BY_HOP = frozenset(
    {
        b"connection", b"expect", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
_OF_WEBSOCKET_HANDSHAKES = frozenset(
    {
        b"host", b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions",
        b"sec-websocket-protocol",
    }
)  # fmt: skip

_READ_AHEAD = 16  # messages, of 64 KiB mostly

_Headers: TypeAlias = Iterable[tuple[bytes, bytes]]


class ProxyApp:
    """An ASGI application that passes requests of all methods and paths on to a server on this machine.

    Bodies stream in both directions: first the request's, then the response's. A client that is gone ends the
    request to the server. The server gets the host that the client asked for, and `X-Forwarded-For`.

    Args:
        timeout_s: how long the server may take nothing of a request, and be silent before its response and
            within it.
    """

    def __init__(self, port: int, *, timeout_s: float) -> None:
        self._port = port
        self._timeout_s = timeout_s
        # An idle connection is closed before the server would: many do so after five seconds.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=4.0)
        # A client would follow redirects, keep cookies and add headers: all that is for the one who asked.
        self._transport = httpx.AsyncHTTPTransport(trust_env=False, limits=limits)
        self._timeout = httpx.Timeout(None, connect=5.0, read=timeout_s, write=timeout_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._pass_on_websocket(scope, receive, send)
        else:
            await self._pass_on_request(scope, receive, send)

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._transport.aclose()

    async def _pass_on_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _RequestBody(receive, scope["headers"])
        exchange = asyncio.ensure_future(self._exchange(scope, body, receive, send))
        client_is_gone = asyncio.ensure_future(body.read_until_client_is_gone())
        try:
            await asyncio.wait({exchange, client_is_gone}, return_when=asyncio.FIRST_COMPLETED)
            if client_is_gone.done():
                client_is_gone.result()
        finally:
            client_is_gone.cancel()
            if not exchange.done():
                exchange.cancel()
                await asyncio.wait({exchange})
        if not exchange.cancelled():
            exchange.result()

    async def _exchange(self, scope: Scope, body: _RequestBody, receive: Receive, send: Send) -> None:
        request = httpx.Request(
            scope["method"],
            f"http://localhost:{self._port}/",
            headers=[*_passed_on(scope["headers"]), *_forwarded(scope)],
            content=body if body.is_announced else None,
            extensions={"target": _target(scope), "timeout": self._timeout.as_dict()},
        )
        try:
            response = await self._transport.handle_async_request(request)
        except httpx.HTTPError as error:
            await _failure(error, self._timeout_s)(scope, receive, send)
            return
        async with aclosing(response):
            # The date is written by the server in front, as the transfer encoding is.
            headers = [pair for pair in _passed_on(response.headers.raw) if pair[0].lower() != b"date"]
            await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
            # What fails from here on is raised, so that the client sees no end of the response.
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _pass_on_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def refuse(status: int, reason: str) -> None:
            await send_to(JSONResponse({"error": reason}, status), reason, scope, receive, send)

        try:
            from websockets.asyncio.client import connect
            from websockets.exceptions import InvalidHandshake, InvalidStatus
        except ImportError:
            await refuse(501, "WebSockets need the package `websockets`, 15 or newer")
            return
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in [*_passed_on(scope["headers"]), *_forwarded(scope)]
            if name.lower() not in _OF_WEBSOCKET_HANDSHAKES
        ]
        connecting = connect(
            f"ws://localhost:{self._port}{_target(scope).decode('ascii')}",
            additional_headers=headers,
            user_agent_header=None,
            subprotocols=scope.get("subprotocols"),
            compression=None,
            max_size=None,
            ping_interval=None,
            proxy=None,
        )
        await receive()  # that the client wants to connect
        try:
            connection = await connecting
        except InvalidStatus as error:
            status = error.response.status_code
            reason = "the command's server takes no WebSocket here"
            await refuse(status if status >= 400 else 502, reason)
        except (OSError, asyncio.TimeoutError, InvalidHandshake) as error:
            log.warning("the command's server takes no WebSocket: %s", error)
            await refuse(503, "the command's server takes no WebSocket")
        else:
            async with connection:
                await send({"type": "websocket.accept", "subprotocol": connection.subprotocol})
                await _converse(connection, receive, send)


class _RequestBody:
    """The body of a request as it comes, and after it the end of the client's connection."""

    def __init__(self, receive: Receive, headers: _Headers) -> None:
        self._receive = receive
        # From a client that announces no body, nothing is expected.
        self.is_announced = any(
            name.lower() in (b"content-length", b"transfer-encoding") for name, _ in headers
        )
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(_READ_AHEAD)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._chunks.get()) is not None:
            yield chunk

    async def read_until_client_is_gone(self) -> None:
        """Read ahead of the server, as far as there is room, to hear of the client while it is slow."""
        is_complete = False
        while (message := await self._receive())["type"] != "http.disconnect":
            if is_complete:
                # A middleware that has read the body gives it again and again, and never says any more.
                await asyncio.Event().wait()
            is_complete = not message.get("more_body", False)
            if self.is_announced:
                await self._chunks.put(message.get("body", b""))
                if is_complete:
                    await self._chunks.put(None)


def _passed_on(headers: _Headers) -> list[tuple[bytes, bytes]]:
    headers = list(headers)
    named = {
        name.strip().lower()
        for header, value in headers
        if header.lower() == b"connection"
        for name in value.split(b",")
    }
    return [pair for pair in headers if pair[0].lower() not in _HOP_BY_HOP | named]


def _forwarded(scope: Scope) -> list[tuple[bytes, bytes]]:
    # A field of its own: its values add up to a list with those that proxies before this one wrote.
    return [(b"x-forwarded-for", scope["client"][0].encode())] if scope.get("client") else []


def _target(scope: Scope) -> bytes:
    """Path and query as the client wrote them, without the prefix under which this application stands."""
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    path = path.removeprefix(quote(scope.get("root_path", "")).encode()) or b"/"
    query: bytes = scope.get("query_string", b"")
    return path + b"?" + query if query else path


def _failure(error: httpx.HTTPError, timeout_s: float) -> JSONResponse:
    log.warning("the command's server does not answer: %r", error)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return JSONResponse({"error": "the command's server cannot be reached"}, 503)
    if isinstance(error, httpx.TimeoutException):
        return JSONResponse({"error": f"Not able to process the request in {timeout_s} seconds"}, 504)
    return JSONResponse({"error": "the command's server did not answer"}, 502)


async def _converse(connection: ClientConnection, receive: Receive, send: Send) -> None:
    """Pass messages on in both directions until either side ends the conversation."""
    directions = {
        asyncio.ensure_future(_from_client(connection, receive)),
        asyncio.ensure_future(_to_client(connection, send)),
    }
    try:
        done, _ = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for direction in directions:
            direction.cancel()
    for direction in done:
        direction.result()


async def _from_client(connection: ClientConnection, receive: Receive) -> None:
    from websockets.exceptions import ConnectionClosed

    while (message := await receive())["type"] != "websocket.disconnect":
        text = message.get("text")
        with suppress(ConnectionClosed):  # `_to_client` hears of it too, and tells the client
            await connection.send(message["bytes"] if text is None else text)
    await connection.close(_sendable(message.get("code")), message.get("reason") or "")


async def _to_client(connection: ClientConnection, send: Send) -> None:
    from websockets.exceptions import ConnectionClosed

    with suppress(ConnectionClosed):
        async for message in connection:
            kind = "text" if isinstance(message, str) else "bytes"
            await send({"type": "websocket.send", kind: message})
    reason = connection.close_reason or ""
    await send({"type": "websocket.close", "code": _sendable(connection.close_code), "reason": reason})


def _sendable(code: int | None) -> int:
    """A code for closing that may be sent: those that say that none came are for the receiver only."""
    if code is None or code == 1005:
        return 1000
    return 1011 if code in (1006, 1015) else code
