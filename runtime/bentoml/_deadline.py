"""When the caller of the current request gives up: what is left of that goes with every call to a peer."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Final

TIMEOUT_HEADER: Final = "x-bento-timeout-ms"
"""Milliseconds that the caller still waits, counted from when the request is sent."""

QUEUED_HEADER: Final = "x-request-start"
"""When a proxy took the request, before it let it wait: `t=` and a time since 1970 in any usual unit."""

_TIMEOUT: Final = TIMEOUT_HEADER.encode()
_QUEUED: Final = QUEUED_HEADER.encode()
_MILLISECONDS = re.compile(rb"[0-9]{1,12}")
_SINCE_1970 = re.compile(rb"t=([0-9]{10})([0-9]{0,6})(?:\.([0-9]{1,6}))?")


class Deadline:
    """A moment that may be moved while a request is answered, as with each item of a stream.

    Attributes:
        at: on the clock of `time.monotonic`.
    """

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        self.at = at


current: ContextVar[Deadline | None] = ContextVar("bentoml_deadline", default=None)
"""Set by the server; None outside of requests, and where nobody waits."""


def remaining_s(otherwise: float) -> float:
    """Seconds that the caller of the current request still waits, but never more than `otherwise`.

    Not positive once nobody does.
    """
    deadline = current.get()
    return otherwise if deadline is None else min(otherwise, deadline.at - time.monotonic())


def allowed_s(headers: Mapping[bytes, bytes], limit_s: float) -> float:
    """Seconds that a request may take from now on: a limit, and what its headers say.

    They can only make it shorter; one that cannot be read says nothing.

    Args:
        headers: by name in lower case.
    """
    budget = headers.get(_TIMEOUT)
    if budget is not None and _MILLISECONDS.fullmatch(budget):
        limit_s = min(limit_s, int(budget) / 1000)
    queued = headers.get(_QUEUED)
    return limit_s if queued is None else limit_s - _queued_s(queued)


def _queued_s(value: bytes) -> float:
    match = _SINCE_1970.fullmatch(value)
    if match is None:
        return 0.0
    fraction: bytes = match[2] or match[3] or b"0"
    begun = int(match[1]) + int(fraction) / float(10 ** len(fraction))
    return max(0.0, time.time() - begun)
