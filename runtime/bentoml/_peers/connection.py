"""One connection to a peer: HTTP/1.1, kept alive, one exchange at a time.

What calls between services need and no more: `Content-Length` and chunked bodies, whole answers and
streams. No redirects, proxies or cookies. RFC 9112 is the format; `httptools` reads it.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Sequence
from typing import Final, TypeAlias, cast

import httptools

Buffer: TypeAlias = "bytes | bytearray | memoryview"

LONGEST_IDLE_S: Final = 4.0
"""A connection that was idle for longer is not used again; servers of this project close it after 15."""

LARGEST_ANSWER: Final = 4 * 1024**3
"""Bytes of an answer, or of one item of a stream."""

AT_ONCE: Final = 16 * 2**20
"""Bytes of memory that are taken for what a head announces; more is taken as it comes."""

_SURELY_HEARD_S: Final = 0.005  # a loop that was blocked for less is asked no more than one that was not
_LARGEST_HEAD: Final = 64 * 1024
_READ_SIZE: Final = 64 * 1024
_JOINED: Final = 64 * 1024  # bytes that are copied together for the sake of one system call
_READ_AHEAD: Final = 256 * 1024  # of a stream whose reader is slower than the network


class NotSent(ConnectionError):
    """The connection was closed before anything of the request was written."""


class Broken(ConnectionError):
    """The connection ended before the answer did: the request may have had its effect, or may not."""


class Late(TimeoutError):
    """The time for an answer, or for the next piece of one, is over."""


class Answer:
    """An answer while it comes: what the parser calls, and what a caller reads in the end.

    Attributes:
        status: of HTTP; 0 until the head is there.
        headers: by name in lower case; of several of one name, the last.
        body: what has come of it; for a stream, what nobody has taken yet.
        is_complete: whether that is all.
        keeps_alive: whether the other side takes another request on this connection.
    """

    __slots__ = (
        "_filled", "_head_size", "_parser", "body", "headers", "is_complete", "is_stream", "keeps_alive",
        "length", "status",
    )  # fmt: skip

    def __init__(self, *, is_stream: bool) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = bytearray()
        self.length: int | None = None
        self.is_stream = is_stream
        self.is_complete = False
        self.keeps_alive = False
        self._filled = 0
        self._head_size = 0
        self._parser = httptools.HttpResponseParser(self)

    # What the connection does with what it receives

    def feed(self, data: memoryview) -> bool:
        """Take bytes as they come, and say whether they were the last.

        Raises:
            Broken: they are no HTTP, or too many.
        """
        if not self.status:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            # What is raised in a callback comes back as the context of the parser's own error.
            refusal = error.__context__
            raise Broken(str(refusal) if isinstance(refusal, Broken) else f"it is no HTTP: {error}") from None
        if not self.status and self._head_size > _LARGEST_HEAD:
            raise Broken(f"the head of its answer is larger than {_LARGEST_HEAD} bytes")
        return self.is_complete

    @property
    def is_filled_directly(self) -> bool:
        """Whether what comes is the rest of a large body, which needs no parser."""
        return self.length is not None and 0 < self._filled < self.length

    def free_space(self) -> memoryview:
        """Where that may be written to; nobody may hold what was given before."""
        if self._filled == len(self.body) and self.length is not None:
            self.body.extend(bytes(min(self.length, 2 * self._filled) - self._filled))
        return memoryview(self.body)[self._filled :]

    def fill(self, count: int) -> bool:
        """Count bytes that were written to the free space, and say whether they were the last."""
        self._filled += count
        self.is_complete = self._filled == self.length
        return self.is_complete

    def end(self) -> None:
        """The other side has closed the connection: the end of a body that announced no length.

        Raises:
            Broken: of any other.
        """
        is_open_ended = self.status and not {b"content-length", b"transfer-encoding"} & self.headers.keys()
        if not is_open_ended:
            raise Broken("it closed the connection")
        self.is_complete = True

    def take(self) -> bytes:
        """What has come of a stream since the last time."""
        piece = bytes(self.body)
        self.body.clear()
        return piece

    def release(self) -> None:
        """Part from the parser: the two hold each other, and would wait for the garbage collector."""
        del self._parser

    # What the parser calls

    def on_message_begin(self) -> None:
        if self.is_complete:
            raise Broken("it answered twice")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # trailers of a chunked body are not looked at
            self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status == 101:
            raise Broken("it is no HTTP any more")
        if status < 200:
            self.headers.clear()  # of an interim answer, behind which the head of the real one comes
            return
        self.status = status
        self.keeps_alive = self._parser.should_keep_alive()
        length = self.headers.get(b"content-length", b"")
        if self.is_stream or not length.isdigit():
            return
        if int(length) > LARGEST_ANSWER:
            raise Broken(f"its answer is larger than {LARGEST_ANSWER} bytes")
        if int(length) > _READ_SIZE:
            self.length = int(length)
            self.body = bytearray(min(self.length, AT_ONCE))

    def on_body(self, data: bytes) -> None:
        if self.length is not None:
            self.body[self._filled : self._filled + len(data)] = data
            self._filled += len(data)
        else:
            self.body += data
            if len(self.body) > LARGEST_ANSWER:
                raise Broken(f"its answer is larger than {LARGEST_ANSWER} bytes")

    def on_message_complete(self) -> None:
        if not self.status:
            return
        self.is_complete = True
        if self.length is not None and self._filled < self.length:
            self.body.clear()  # an answer to HEAD, a 304: the length of what was not sent


class Connection(asyncio.BufferedProtocol):
    """A connection that carries one request after the other, each after the answer to the one before.

    Once anything went wrong it is closed and never used again; so it is when an exchange is cancelled,
    which is how the other side learns that nobody waits any more.

    Attributes:
        is_ended_by_peer: whether the other side has announced that it takes no more requests on it.
    """

    def __init__(self, sock: socket.socket, *, is_encrypted: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._is_encrypted = is_encrypted
        self._transport: asyncio.Transport
        self._scratch = memoryview(bytearray(_READ_SIZE))
        self._answer: Answer | None = None  # of the exchange that runs
        self._error: ConnectionError | TimeoutError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = self._late_at = math.inf  # when it is looked at, and when the time is over
        self._is_paused = False
        self._idle_since = time.monotonic()
        self.is_closed = False
        self.is_ended_by_peer = False

    @property
    def is_free(self) -> bool:
        """Whether no exchange runs on it, and none has ended it."""
        return not self.is_closed and self._answer is None

    def is_usable(self) -> bool:
        """Whether a request may be sent on it.

        A loop that was blocked may not have heard yet that the other side has closed, so the socket itself
        is asked: this, and the limit of its idle time, is why no request meets a connection that just ends.
        """
        if self.is_closed or self._answer is not None:
            return False
        idle_s = time.monotonic() - self._idle_since
        if idle_s > LONGEST_IDLE_S:
            return False
        if idle_s < _SURELY_HEARD_S or self._is_encrypted:
            return True  # what the socket of an encrypted one holds may be a message of TLS's own
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False  # its end, or bytes that nobody asked for

    async def exchange(self, head: bytes, body: Sequence[Buffer], timeout_s: float) -> Answer:
        """Send a request, and wait for all of its answer.

        Args:
            head: its head, with the empty line at the end.
            timeout_s: seconds until the answer must be complete.

        Raises:
            NotSent: nothing was written.
            Broken: the connection ended before the answer did.
            Late: the time is over.
        """
        answer = self._send(head, body, timeout_s, is_stream=False)
        try:
            while not answer.is_complete:
                await self._wait()
        except BaseException:
            self.close()
            raise
        self._finish(answer)
        return answer

    async def open_stream(self, head: bytes, body: Sequence[Buffer], timeout_s: float) -> Answer:
        """Send a request, and wait for the head of its answer; `read` gives the body.

        Raises:
            NotSent, Broken, Late: as `exchange` does.
        """
        answer = self._send(head, body, timeout_s, is_stream=True)
        try:
            while not answer.status:
                await self._wait()
        except BaseException:
            self.close()
            raise
        self._late_at = math.inf
        return answer

    async def read(self, timeout_s: float) -> bytes:
        """What comes next of a stream; empty at its end, when the connection is free again.

        Raises:
            Broken, Late: as `exchange` does.
        """
        answer = self._answer
        if answer is None:
            if self._error is not None:
                raise self._error  # it came while the reader did something else
            return b""
        if not answer.body and not answer.is_complete:
            self._limit(timeout_s)
            self._resume()
            try:
                while not answer.body and not answer.is_complete:
                    await self._wait()
            except BaseException:
                self.close()
                raise
            self._late_at = math.inf
        piece = answer.take()
        if not piece:
            self._resume()
            self._finish(answer)
        return piece

    def close(self) -> None:
        """End it, whatever runs on it; the other side is told at once."""
        self.is_closed = True
        self._stop_timer()
        if self._answer is not None:
            self._answer.release()
            self._answer = None
        self._transport.abort()

    def _send(self, head: bytes, body: Sequence[Buffer], timeout_s: float, *, is_stream: bool) -> Answer:
        if not self.is_free:
            raise NotSent("the connection is closed")
        self._answer = answer = Answer(is_stream=is_stream)
        self._limit(timeout_s)
        size = len(head)
        for part in body:
            size += len(part)
        if size > _JOINED:
            # Nothing is copied: the parts are kept until they are out, however long that takes.
            self._transport.writelines([head, *body])
        else:
            self._transport.write(b"".join((head, *body)))
        return answer

    async def _wait(self) -> None:
        """Return when something has come; raise if it was the end."""
        if self._error is None:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._error is not None:
            raise self._error

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _finish(self, answer: Answer) -> None:
        self._late_at = math.inf
        if self._answer is None:
            return  # closed since, for bytes that came behind the answer
        answer.release()
        self._answer = None
        self._idle_since = time.monotonic()
        if not answer.keeps_alive:
            self.is_ended_by_peer = True
            self.close()
        elif self._transport.get_write_buffer_size():
            self.close()  # an answer before the request was out: nobody may read the rest

    def _fail(self, error: ConnectionError | TimeoutError) -> None:
        self._error = self._error or error
        self.close()
        self._wake()

    def _limit(self, timeout_s: float) -> None:
        """Give what is waited for this long. The timer of an earlier exchange is used again where it may."""
        self._late_at = time.monotonic() + timeout_s
        if self._timer is not None and self._timer_at > self._late_at:
            self._stop_timer()
        if self._timer is None:
            self._start_timer(timeout_s)

    def _start_timer(self, seconds: float) -> None:
        self._timer_at = time.monotonic() + seconds
        self._timer = self._loop.call_later(seconds, self._look_at_time)

    def _look_at_time(self) -> None:
        self._timer = None
        left_s = self._late_at - time.monotonic()
        if left_s <= 0:
            self._fail(Late())
        elif left_s < math.inf:
            self._start_timer(left_s)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        answer = self._answer
        if answer is None or answer.is_complete:
            return
        if exc is not None:
            self._fail(Broken(str(exc)))
            return
        try:
            answer.end()
        except Broken as broken:
            self._fail(broken)
        else:
            self._wake()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._answer is not None and self._answer.is_filled_directly:
            return self._answer.free_space()
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        answer = self._answer
        if answer is None or answer.is_complete:
            self.close()  # nobody asked for anything
            return
        if answer.is_filled_directly:
            if answer.fill(nbytes):
                self._wake()
            return
        try:
            is_complete = answer.feed(self._scratch[:nbytes])
        except Broken as error:
            self._fail(error)
            return
        if answer.is_stream and len(answer.body) > _READ_AHEAD and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        if is_complete or answer.is_stream:
            self._wake()
