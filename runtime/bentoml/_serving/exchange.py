"""One request and its response, as those who count and log them see it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

from starlette.types import Message, Scope, Send

from bentoml._serving.tracing import Span
from bentoml._trace import Headers


class Exchange:
    """What is known of a request while it is answered.

    Attributes:
        route: the pattern that was matched; empty where none was.
        headers: of the request, by name in lower case; of several of one name, the last.
        request_type, request_length: its `Content-Type` and `Content-Length`; empty and None without.
        status: of the response; 0 until it begins.
        error: why the response is none, or was cut off.
        is_over: whether it has been counted and logged.
    """

    __slots__ = (
        "begun", "error", "headers", "is_over", "request_length", "request_type", "response_headers", "route",
        "scope", "send", "span", "status",
    )  # fmt: skip

    def __init__(self, scope: Scope, send: Send, route: str, span: Span) -> None:
        self.begun = time.perf_counter()
        self.scope = scope
        self.send = send
        self.route = route
        self.span = span
        self.headers: Mapping[bytes, bytes] = dict(scope["headers"])
        self.request_type = self.headers.get(b"content-type", b"")
        length = self.headers.get(b"content-length", b"")
        self.request_length = int(length) if length.isdigit() else None
        self.status = 0
        self.response_headers: Headers = ()
        self.error: BaseException | None = None
        self.is_over = False

    async def watched_send(self, message: Message) -> None:
        """Send a message that others made, and note what it says of the response."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.response_headers = message.get("headers", ())
        await self.send(message)


class Observer(Protocol):
    """Sees every request of an application."""

    def begin(self, scope: Scope, send: Send, route: str) -> Exchange:
        """A request has come; what it matched is `route`."""
        ...

    def end(self, exchange: Exchange) -> None:
        """Its response is complete, or was cut off: `exchange.error` says why. A second time is no matter."""
        ...

    def forget(self, exchange: Exchange) -> None:
        """It was no request: neither counted nor logged."""
        ...

    def batch(self, endpoint: str, size: int) -> None:
        """A merged call of so many items is made."""
        ...
