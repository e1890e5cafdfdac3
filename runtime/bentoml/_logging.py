"""Log lines of a service's processes: one line a record, as text or JSON, to stderr."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import select
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TextIO

from bentoml import _trace
from bentoml._environment import LOG_FORMAT

_FLUSH_AFTER_S = 0.1
_MOST_PENDING = 1000
_WRITTEN_WHOLE: Final = getattr(
    select, "PIPE_BUF", 512
)  # bytes that a pipe takes together, whoever else writes

# What every record has; anything else was given with `extra=`.
_USUAL: Final = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName"}


def configure_logging(process: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send every record to stderr, with the time, the level and the process it comes from."""
    layout = environ.get(LOG_FORMAT, "text")
    handler = LogLines(sys.stderr, process, is_json=layout == "json")
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(handler.is_json)  # Python writes them as text
    for name in ("httpx", "httpcore", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if layout not in ("text", "json"):
        logging.getLogger("bentoml").warning(
            "%s: %r is no format of log lines, expected `text` or `json`; they are text", LOG_FORMAT, layout
        )


def log_lines() -> LogLines | None:
    """What `configure_logging` set up; None where the application's host has logging of its own."""
    handlers = logging.getLogger().handlers
    return next((handler for handler in handlers if isinstance(handler, LogLines)), None)


class LogLines(logging.Handler):
    """Writes records, and the lines of the access log, in the order in which they came.

    A record is written at once. A line waits a moment for others, since a server that answers thousands of
    requests a second cannot afford a system call for each.
    """

    def __init__(self, stream: TextIO, process: str, *, is_json: bool) -> None:
        super().__init__()
        self.process = process
        self.is_json = is_json
        self.clock = Clock()
        self.setFormatter(_JsonFormatter(process, self.clock) if is_json else _TextFormatter(process))
        self._stream = stream
        self._pending: list[str] = []
        self._flushed_by: asyncio.AbstractEventLoop | None = None

    def write_soon(self, line: str) -> None:
        """Write a line of ASCII, which ends with a line break, within about a tenth of a second."""
        self._pending.append(line)
        flushed_by = self._flushed_by
        if flushed_by is None or flushed_by.is_closed() or len(self._pending) >= _MOST_PENDING:
            self._flush_later()

    def _flush_later(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        if len(self._pending) >= _MOST_PENDING:
            self.flush()
        if self._flushed_by is not loop:
            self._flushed_by = loop
            loop.call_later(_FLUSH_AFTER_S, self._flush_by_loop)

    def _flush_by_loop(self) -> None:
        self._flushed_by = None
        self.flush()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            self.flush()
            self._stream.write(f"{text}\n")
            self._stream.flush()
        except Exception:  # noqa: BLE001  # as with every handler, what cannot be logged ends no request
            self.handleError(record)

    def flush(self) -> None:
        """Write the lines that wait."""
        self.acquire()
        try:
            lines = self._pending[:]
            del self._pending[: len(lines)]  # the loop's thread may have added one more, for the next time
            for piece in _pieces(lines):
                self._stream.write(piece)
                self._stream.flush()
        finally:
            self.release()


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    """The lines in as few pieces as the workers' shared pipe takes without mixing them."""
    piece: list[str] = []
    size = 0
    for line in lines:
        if size + len(line) > _WRITTEN_WHOLE and piece:
            yield "".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield "".join(piece)


class Clock:
    """Times as they stand in log lines; only the last part differs from one line to the next."""

    def __init__(self) -> None:
        self._known = (0, "", "")

    def text(self, now: float) -> str:
        """`2026-11-24T07:07:21+0000`."""
        _, time_of_day, zone = self._at(int(now))
        return time_of_day + zone

    def exact(self, now: float) -> str:
        """`2026-11-24T07:07:21.307+00:00`."""
        _, time_of_day, zone = self._at(int(now))
        return f"{time_of_day}.{int(now * 1000) % 1000:03d}{zone[:3]}:{zone[3:]}"

    def _at(self, second: int) -> tuple[int, str, str]:
        known = self._known
        if known[0] != second:
            local = time.localtime(second)
            known = second, time.strftime("%Y-%m-%dT%H:%M:%S", local), time.strftime("%z", local)
            self._known = known
        return known


class _TextFormatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__(
            f"%(asctime)s %(levelname)s [{process}] %(message)s%(bentoml_request)s",
            datefmt="%Y-%m-%dT%H:%M:%S%z",
        )

    def format(self, record: logging.LogRecord) -> str:
        context = _trace.current.get()
        place = "" if context is None else f" (trace={context.trace_id},span={context.span_id})"
        record.bentoml_request = place
        return super().format(record)


class _JsonFormatter(logging.Formatter):
    def __init__(self, process: str, clock: Clock) -> None:
        super().__init__()
        self._process = process
        self._clock = clock

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": self._clock.exact(record.created),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        context = _trace.current.get()
        if context is not None:
            fields |= {"trace_id": context.trace_id, "span_id": context.span_id}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        extra = {name: value for name, value in vars(record).items() if name not in _USUAL}
        return json.dumps({**extra, **fields}, separators=(",", ":"), default=str)
