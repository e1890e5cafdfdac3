"""Responses written at once: their head together with the first of their body."""

from __future__ import annotations

import asyncio
from typing import Any, Final

_HEAD: Final = b"HTTP/1.1 "
_SMALL: Final = 64 * 1024


class JoiningTransport:
    """A connection's transport that keeps the head of a response until its body follows.

    uvicorn writes the two apart, and each write is a system call, which costs as much as all the rest of a
    small response. A head that is followed by nothing in this turn of the loop is written by the next.
    """

    __slots__ = ("_head", "_loop", "_timer", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self._timer: asyncio.Handle | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._timer is None:
            if data[: len(_HEAD)] == _HEAD:
                self._head = bytes(data)
                self._timer = self._loop.call_soon(self.flush)
            else:
                self._transport.write(data)
        elif len(data) < _SMALL:
            self._transport.write(self._take() + data)
        else:
            self._transport.writelines([self._take(), data])

    def flush(self) -> None:
        """Write the head that is kept, if there is one."""
        if self._timer is not None:
            self._transport.write(self._take())

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def _take(self) -> bytes:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return self._head

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
