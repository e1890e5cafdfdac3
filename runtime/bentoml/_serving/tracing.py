"""Spans of requests: where they belong in a trace, and, where OpenTelemetry is asked for, their export."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextvars import Token
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from bentoml import _trace
from bentoml._trace import Headers, TraceContext

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.util.types import AttributeValue

log = logging.getLogger("bentoml")

_EXTRA = "bento-toolchain[tracing]"
_EXPORTERS: Final = "opentelemetry_traces_exporter"  # the group of entry points that exporters register in
_LONGEST_FLUSH_MS = 5000

_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY"}
)


class Span:
    """One request, from `Tracer.begin` to `Tracer.end`."""

    __slots__ = ("_token", "context")

    def __init__(self, context: TraceContext) -> None:
        self.context = context
        self._token: Token[TraceContext | None] = _trace.current.set(context)

    def end(self, status: int, error: BaseException | None) -> None:
        self.leave()

    def leave(self) -> None:
        """Make what was current before the request current again."""
        _trace.current.reset(self._token)


class Tracer:
    """Gives each request its place in a trace; this one records nothing."""

    def begin(
        self, method: str, route: str, headers: Headers, *, scheme: str = "http", path: str = ""
    ) -> Span:
        """Make the request the current one of this task, until `end`.

        Args:
            route: the pattern that was matched, empty where none was; never a path that a caller chose.
            path: what the caller asked for; the route where not given.
        """
        return Span(_trace.received(headers))

    def end(self, span: Span, status: int, error: BaseException | None = None) -> None:
        """The request was answered with `status`, where there is one because of `error`."""
        span.end(status, error)

    def abandon(self, span: Span) -> None:
        """What began was no request after all: it is not recorded."""
        span.leave()

    def close(self) -> None:
        """Export what was recorded; waits for it, so that a loop calls it in a thread."""


def make_tracer(
    service: str, defaults: Mapping[str, str] = MappingProxyType({}), *, excluded: Iterable[str] = ()
) -> Tracer:
    """The tracer of a worker: one that exports, where the standard `OTEL_*` variables ask for it.

    To be called in the process that serves, since the exporter runs a thread.

    Args:
        defaults: `OTEL_*` variables that hold where the environment has none.
        excluded: regular expressions; a path in which one is found is not recorded.
    """
    for name, value in defaults.items():
        os.environ.setdefault(name, value)  # OpenTelemetry reads nothing else
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Tracer()
    names = _exporter_names()
    if not names and "opentelemetry.sdk.trace" not in sys.modules:
        return Tracer()
    try:
        provider = _provider(service, names)
    except ImportError as error:
        log.warning("traces are not exported: %s; install `%s`", error, _EXTRA)
        return Tracer()
    return Tracer() if provider is None else _RecordingTracer(provider, excluded)


def standard_variables(
    *,
    exporter_type: str | None = None,
    sample_rate: float | None = None,
    otlp_protocol: str | None = None,
    otlp_endpoint: str | None = None,
    otlp_compression: str | None = None,
    zipkin_endpoint: str | None = None,
) -> dict[str, str]:
    """The `OTEL_*` variables that say what a service's `tracing` does."""
    protocol = {"http": "http/protobuf", None: None}.get(otlp_protocol, otlp_protocol)
    variables = {
        "OTEL_TRACES_EXPORTER": exporter_type,
        "OTEL_TRACES_SAMPLER": None if sample_rate is None else "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": None if sample_rate is None else str(sample_rate),
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": otlp_endpoint,
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": otlp_compression,
        "OTEL_EXPORTER_ZIPKIN_ENDPOINT": zipkin_endpoint,
    }
    return {name: value for name, value in variables.items() if value is not None}


def _exporter_names() -> list[str]:
    """The exporters that the environment asks for; an OTLP endpoint alone asks for that one."""
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    default = "otlp" if any(os.environ.get(name) for name in endpoints) else "none"
    names = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or default
    return [name.strip() for name in names.split(",") if name.strip().lower() not in ("", "none")]


def _provider(service: str, names: list[str]) -> TracerProvider | None:
    """The process's provider of tracers, made unless the project or an agent has set one already."""
    from opentelemetry import trace
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    existing = trace.get_tracer_provider()
    if isinstance(existing, TracerProvider):
        return existing
    exporters = list(_exporters(names))
    if not exporters:
        return None
    # Detected last, so that `OTEL_SERVICE_NAME` wins over the service's name.
    resource = Resource.create({SERVICE_NAME: service}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider


def _exporters(names: list[str]) -> Iterator[SpanExporter]:
    for name in names:
        found = list(entry_points(group=_EXPORTERS, name=_entry_point(name)))
        if found:
            yield found[0].load()()
        else:
            installed = ", ".join(sorted(point.name for point in entry_points(group=_EXPORTERS))) or "none"
            log.warning(
                "OTEL_TRACES_EXPORTER: no exporter `%s` is installed (there is: %s); install `%s`",
                name, installed, _EXTRA,
            )  # fmt: skip


def _entry_point(exporter: str) -> str:
    if exporter != "otlp":
        return exporter
    variables = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next((os.environ[name] for name in variables if os.environ.get(name)), "http/protobuf")
    return {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}.get(protocol.strip(), protocol)


class _RecordingTracer(Tracer):
    """Records each request as a span of the kind "server", under which the project's own spans stand."""

    def __init__(self, provider: TracerProvider, excluded: Iterable[str]) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("bentoml")
        self._excluded = [re.compile(pattern) for pattern in excluded]

    def begin(
        self, method: str, route: str, headers: Headers, *, scheme: str = "http", path: str = ""
    ) -> Span:
        from opentelemetry import propagate, trace

        path = path or route
        if any(pattern.search(path) for pattern in self._excluded):
            return super().begin(method, route, headers)
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        parent = propagate.extract(carrier)
        known = method if method in _METHODS else "_OTHER"
        attributes = _request_attributes(carrier)
        attributes |= {"http.request.method": known, "url.scheme": scheme, "url.path": path}
        if route:
            attributes["http.route"] = route
        span = self._tracer.start_span(
            f"{known.replace('_OTHER', 'HTTP')} {route}".rstrip(),
            context=parent,
            kind=trace.SpanKind.SERVER,
            attributes=attributes,
        )
        return _RecordedSpan(span, trace.set_span_in_context(span, parent))

    def close(self) -> None:
        self._provider.force_flush(_LONGEST_FLUSH_MS)


def _request_attributes(headers: Mapping[str, str]) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {}
    host, _, port = headers.get("host", "").rpartition(":")
    if host and port.isdecimal():
        attributes |= {"server.address": host, "server.port": int(port)}
    elif "host" in headers:
        attributes["server.address"] = headers["host"]
    if "user-agent" in headers:
        attributes["user_agent.original"] = headers["user-agent"]
    return attributes


class _RecordedContext(TraceContext):
    """Sends to peers what OpenTelemetry does: the innermost span as parent, baggage, other formats."""

    def outgoing_headers(self) -> dict[str, str]:
        from opentelemetry import propagate

        headers: dict[str, str] = {}
        propagate.inject(headers)
        return headers


class _RecordedSpan(Span):
    __slots__ = ("_attached", "_span")

    def __init__(self, span: OtelSpan, context: Context) -> None:
        from opentelemetry.context import attach

        own = span.get_span_context()
        super().__init__(
            _RecordedContext(f"{own.trace_id:032x}", f"{own.span_id:016x}", int(own.trace_flags))
        )
        self._span = span
        self._attached = attach(context)

    def end(self, status: int, error: BaseException | None) -> None:
        from opentelemetry.trace import StatusCode

        self.leave()
        self._span.set_attribute("http.response.status_code", status)
        is_cut_off = status < 400 and isinstance(error, Exception)  # a client that went is none
        if status >= 500 or is_cut_off:
            self._span.set_attribute("error.type", str(status) if error is None else _type_name(error))
            self._span.set_status(StatusCode.ERROR)
            if error is not None:
                self._span.record_exception(error)
        self._span.end()

    def leave(self) -> None:
        from opentelemetry.context import detach

        detach(self._attached)
        super().leave()


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
