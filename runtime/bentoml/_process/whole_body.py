"""Large frames from peers, received into the very buffer in which their arrays will lie."""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from bentoml import codec
from bentoml._trace import Headers

SMALL: Final = 64 * 1024
"""Bytes of a body that is not worth it."""

AT_ONCE: Final = 16 * 2**20
"""Bytes of memory that are taken for what a head announces; more is taken as it comes."""

_FRAME: Final = codec.MEDIA_TYPE.encode()
_MOST_DIGITS: Final = 15


class WholeBody:
    """The body of one request.

    A frame is of no use before all of it is there, so nobody is woken for its pieces, and they are neither
    gathered nor copied again, but where memory for more than `AT_ONCE` bytes has to be taken.
    """

    def __init__(self, cycle: RequestResponseCycle, length: int) -> None:
        self._cycle = cycle
        self._length = length
        self._buffer = bytearray(min(length, AT_ONCE))
        self._filled = 0

    @property
    def is_complete(self) -> bool:
        return self._filled == self._length

    def receive(self, data: bytes) -> bytes:
        """Take what belongs to the body; return what stands behind it."""
        taken = min(len(data), self._length - self._filled)
        end = self._filled + taken
        if not self._cycle.response_complete:  # one that was refused is received, and not kept
            if end > len(self._buffer):
                self._buffer.extend(bytes(min(self._length, 2 * end) - len(self._buffer)))
            self._buffer[self._filled : end] = data if taken == len(data) else data[:taken]
        self._filled = end
        if self.is_complete:
            self._cycle.body = self._buffer
            self._cycle.more_body = False
            self._cycle.message_event.set()
        return data[taken:]

    async def read(self) -> bytearray | None:
        """All of it, once it is there; None when the connection ended before."""
        cycle = self._cycle
        while not self.is_complete and not cycle.disconnected:
            await cycle.message_event.wait()
            cycle.message_event.clear()
        if not self.is_complete:
            return None
        cycle.message_event.clear()  # what comes next can only be the end of the connection
        whole, cycle.body = self._buffer, bytearray()
        if cycle.disconnected:
            cycle.message_event.set()
        return whole


def whole_body(cycle: RequestResponseCycle, headers: Headers, largest: int) -> WholeBody | None:
    """What receives the body of a request, where it is a frame that is large, and not larger than may be."""
    if cycle.waiting_for_100_continue:
        return None  # who reads it in pieces tells the client to go on
    length = 0
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and len(value) <= _MOST_DIGITS:
            length = int(value)
    if not SMALL < length <= largest:
        return None
    return WholeBody(cycle, length) if dict(headers).get(b"content-type") == _FRAME else None
