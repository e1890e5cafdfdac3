"""The place of the current request in its trace, as W3C Trace Context carries it between services."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, TypeAlias

REQUEST_ID_HEADER: Final = "X-BentoML-Request-ID"
"""Carries the span id of a request to whoever sent it."""

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]
"""The headers of a request as ASGI has them: names in lower case."""

_SAMPLED: Final = 0x01
_KNOWN_FLAGS: Final = 0x03  # sampled, and the trace id is random; a service must not pass on others

_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)
_LONGEST_STATE = 512


@dataclass(slots=True)
class TraceContext:
    """One request's place in a trace.

    Args:
        trace_id: 32 hexadecimal digits, the same for all requests that one request leads to.
        span_id: 16 hexadecimal digits, this request's own: the id that its caller is told.
        state: what tracing systems add for themselves, passed on as it came.
    """

    trace_id: str
    span_id: str
    flags: int = 0
    state: str = ""

    @property
    def is_sampled(self) -> bool:
        return bool(self.flags & _SAMPLED)

    def outgoing_headers(self) -> dict[str, str]:
        """What a request to a peer carries, so that it becomes a part of this trace."""
        headers = {"traceparent": f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"}
        if self.state:
            headers["tracestate"] = self.state
        return headers

    def outgoing_lines(self) -> bytes:
        """The same as lines of an HTTP head."""
        line = f"traceparent: 00-{self.trace_id}-{self.span_id}-{self.flags:02x}\r\n"
        return (f"{line}tracestate: {self.state}\r\n" if self.state else line).encode("ascii")


current: ContextVar[TraceContext | None] = ContextVar("bentoml_trace", default=None)
"""The request that this code runs for, set by the server; None outside of requests."""


def request_id() -> str:
    """The id of the current request; empty outside of requests."""
    context = current.get()
    return "" if context is None else context.span_id


def outgoing_headers() -> dict[str, str]:
    """The trace headers for a request to a peer; none outside of requests."""
    context = current.get()
    return {} if context is None else context.outgoing_headers()


# Not the module's functions: a project that calls `random.seed(0)` must not get the same ids in every worker.
_random = random.Random()  # noqa: S311  # ids need to differ, not to be secret
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def received(headers: Headers) -> TraceContext:
    """The place of a request that came with `headers`: in its caller's trace, or the first in a new one."""
    parent: bytes | None = None
    states: list[bytes] = []
    for name, value in headers:
        if name == b"traceparent":
            parent = value if parent is None else b""  # of two, neither can be trusted
        elif name == b"tracestate":
            states.append(value)
    span_id = f"{_random.getrandbits(64):016x}"
    match = _TRACEPARENT.fullmatch(parent) if parent else None
    if parent is None or match is None or (match[4] and parent.startswith(b"00")):
        return TraceContext(f"{_random.getrandbits(128):032x}", span_id)
    trace_id, flags = match[1].decode(), int(match[3], 16) & _KNOWN_FLAGS
    return TraceContext(trace_id, span_id, flags, _state(states) if states else "")


def _state(values: list[bytes]) -> str:
    state = ",".join(value.decode("latin-1") for value in values)
    return state if len(state) <= _LONGEST_STATE and state.isascii() and state.isprintable() else ""
