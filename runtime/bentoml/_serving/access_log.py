"""The access log: one line for each request that was answered."""

from __future__ import annotations

import functools
import json
import logging
import re
import time
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from bentoml._logging import LogLines, log_lines
from bentoml._trace import Headers, TraceContext

log = logging.getLogger("bentoml.access")

SKIPPED_PATHS: Final = ("/metrics", "/healthz", "/livez", "/readyz")

# Nothing that a caller sends may look like a field of the line, let alone like another line.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._~:@-]*")
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9/._~:@;=+*\" -]*")

_LONGEST_VALUE = 200

_as_json = json.JSONEncoder(separators=(",", ":")).encode


class AccessLog:
    """Writes a line for each request, through the process's log, without its query and bodies.

    Where the process has no log of ours, lines are records of the logger `bentoml.access`.

    Args:
        skip_paths: paths that are not logged.
        trace_id_format: how the number is written, in Python's format language.
    """

    def __init__(
        self,
        service: str,
        *,
        skip_paths: Collection[str] = SKIPPED_PATHS,
        request_content_type: bool = True,
        request_content_length: bool = True,
        response_content_type: bool = True,
        response_content_length: bool = True,
        trace_id_format: str = "032x",
        span_id_format: str = "016x",
        lines: LogLines | None = None,
    ) -> None:
        self._service = service
        self._skip_paths = frozenset(skip_paths)
        self._request_fields = _header_names(request_content_type, request_content_length)
        self._response_fields = _header_names(response_content_type, response_content_length)
        self._trace_id_format = "" if trace_id_format == "032x" else trace_id_format
        self._span_id_format = "" if span_id_format == "016x" else span_id_format
        self._lines = lines or log_lines()

    def write(
        self,
        scope: Mapping[str, Any],
        status: int,
        response_headers: Headers,
        seconds: float,
        context: TraceContext,
    ) -> None:
        """The request of an ASGI `scope` was answered."""
        if scope["path"] in self._skip_paths:
            return
        request = _fields(scope["headers"], self._request_fields)
        response = _fields(response_headers, self._response_fields)
        answered = _Answered(
            scope, request, status, response, seconds, *self._ids(context), context.is_sampled
        )
        lines = self._lines
        if lines is None:
            log.info("%s", self._text(answered))
        elif lines.is_json:
            lines.write_soon(self._json(answered, lines))
        else:
            lines.write_soon(
                f"{lines.clock.text(time.time())} INFO [{lines.process}] {self._text(answered)}\n"
            )

    def _ids(self, context: TraceContext) -> tuple[str, str]:
        trace_id, span_id = context.trace_id, context.span_id
        if self._trace_id_format:
            trace_id = format(int(trace_id, 16), self._trace_id_format)
        if self._span_id_format:
            span_id = format(int(span_id, 16), self._span_id_format)
        return trace_id, span_id

    def _text(self, answered: _Answered) -> str:
        scope, request, status, response, seconds, trace_id, span_id, is_sampled = answered
        path = scope["path"]
        if _PLAIN_PATH.fullmatch(path) is None:
            path = quote(path, safe="/:@~")
        return (
            f"{_client(scope) or '_'} "
            f"(scheme={scope['scheme']},method={scope['method']},path={path}{_listed(request)}) "
            f"(status={status}{_listed(response)}) {seconds * 1000:.3f}ms "
            f"(trace={trace_id},span={span_id},sampled={int(is_sampled)},service.name={self._service})"
        )

    def _json(self, answered: _Answered, lines: LogLines) -> str:
        scope, request, status, response, seconds, trace_id, span_id, is_sampled = answered
        fields = {
            "time": lines.clock.exact(time.time()),
            "level": "INFO",
            "process": lines.process,
            "logger": log.name,
            "message": f"{scope['method']} {scope['path']} {status}",
            "service": self._service,
            "client": _client(scope),
            "scheme": scope["scheme"],
            "method": scope["method"],
            "path": scope["path"],
            **{f"request_{name}": _number(value) for name, value in request.items()},
            "status": status,
            **{f"response_{name}": _number(value) for name, value in response.items()},
            "duration_ms": round(seconds * 1000, 3),
            "trace_id": trace_id,
            "span_id": span_id,
            "sampled": is_sampled,
        }
        return _as_json(fields) + "\n"


class _Answered(NamedTuple):
    scope: Mapping[str, Any]
    request: Mapping[str, str]
    status: int
    response: Mapping[str, str]
    seconds: float
    trace_id: str
    span_id: str
    is_sampled: bool


def _header_names(content_type: bool, content_length: bool) -> dict[bytes, str]:
    """The fields to write, by the header that holds them."""
    names = {}
    if content_type:
        names[b"content-type"] = "type"
    if content_length:
        names[b"content-length"] = "length"
    return names


def _fields(headers: Headers, names: Mapping[bytes, str]) -> dict[str, str]:
    return {names[name]: _value(value[:_LONGEST_VALUE]) for name, value in headers if name in names}


@functools.lru_cache(maxsize=512)  # few differ, and this runs four times a request
def _value(header: bytes) -> str:
    text = header.decode("latin-1")
    return text if _PLAIN_VALUE.fullmatch(text) else quote(text, safe='/:@;=+*" ')


def _client(scope: Mapping[str, Any]) -> str | None:
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else None


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() and len(text) < 20 else text


def _listed(fields: Mapping[str, str]) -> str:
    return "".join([f",{name}={fields[name]}" for name in ("type", "length") if name in fields])
