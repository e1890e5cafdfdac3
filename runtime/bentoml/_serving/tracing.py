"""Spans of requests: where they belong in a trace, and, where OpenTelemetry is asked for, their export."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from bentoml import _trace
from bentoml._config import OtlpTracing, Tracing
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

_PACKAGES: Final = {
    "otlp_proto_http": _EXTRA,
    "otlp_proto_grpc": "opentelemetry-exporter-otlp-proto-grpc",
    "zipkin_json": "opentelemetry-exporter-zipkin-json",
}

_DEFAULTS: Final = Tracing()

_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY"}
)


class Span:
    """One request, from `Tracer.begin` to `Tracer.end`."""

    __slots__ = ("_outer", "context")

    def __init__(self, context: TraceContext) -> None:
        self.context = context
        # No token: a response may end in a task of its own, which has a context of its own.
        self._outer = _trace.current.get()
        _trace.current.set(context)

    def end(self, status: int, error: BaseException | None) -> None:
        self.leave()

    def leave(self) -> None:
        """Make what was current before the request current again, in the task that calls this."""
        _trace.current.set(self._outer)


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


def make_tracer(service: str, config: Tracing = _DEFAULTS) -> Tracer:
    """The tracer of a worker: one that exports, where its configuration or an `OTEL_*` variable asks for it.

    To be called in the process that serves, since the exporter runs a thread.
    """
    for name, value in standard_variables(config).items():
        if name not in os.environ and _for_all_signals(name) not in os.environ:
            os.environ[name] = value  # OpenTelemetry reads nothing else
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Tracer()
    names = _exporter_names()
    if not names and "opentelemetry.sdk.trace" not in sys.modules:
        return Tracer()
    try:
        provider = _provider(service, names, config)
    except ImportError as error:
        log.warning("traces are not exported: %s; install `%s`", error, _EXTRA)
        return Tracer()
    return Tracer() if provider is None else _RecordingTracer(provider, config.excluded_urls or ())


def standard_variables(config: Tracing) -> dict[str, str]:
    """The `OTEL_*` variables that say what a service's `tracing` does."""
    has_exporter = config.exporter_type in ("otlp", "zipkin")
    timeout = None if config.timeout is None else str(config.timeout)
    variables = {
        "OTEL_TRACES_EXPORTER": config.exporter_type if has_exporter else None,
        "OTEL_TRACES_SAMPLER": None if config.sample_rate is None else "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": None if config.sample_rate is None else str(config.sample_rate),
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": (
            None if config.max_tag_value_length is None else str(config.max_tag_value_length)
        ),
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": timeout,
        "OTEL_EXPORTER_ZIPKIN_TIMEOUT": timeout,
        "OTEL_EXPORTER_ZIPKIN_ENDPOINT": config.zipkin.endpoint,
        **_otlp_variables(config.otlp),
    }
    return {name: value for name, value in variables.items() if value is not None}


def _otlp_variables(config: OtlpTracing) -> dict[str, str | None]:
    """What the exporter of the protocol in use understands: more makes the one of gRPC fail."""
    is_grpc = config.protocol == "grpc"
    headers = config.grpc.headers if is_grpc else config.http.headers
    compressions = ("gzip",) if is_grpc else ("gzip", "deflate")
    is_insecure = config.grpc.insecure if is_grpc else None
    return {
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": {"http": "http/protobuf", "grpc": "grpc", None: None}[
            config.protocol
        ],
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": config.endpoint,
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": (
            config.compression if config.compression in compressions else None
        ),
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": (
            ",".join(f"{quote(name, safe='')}={quote(text, safe='')}" for name, text in headers.items())
            or None
        ),
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": None if is_grpc else config.http.certificate_file,
        "OTEL_EXPORTER_OTLP_TRACES_INSECURE": None if is_insecure is None else str(is_insecure).lower(),
    }


def _for_all_signals(name: str) -> str:
    """The variable that holds where this one, for traces alone, is not set."""
    return name.replace("_OTLP_TRACES_", "_OTLP_").replace("_SPAN_ATTRIBUTE_", "_ATTRIBUTE_")


def _exporter_names() -> list[str]:
    """The exporters that the environment asks for; an OTLP endpoint alone asks for that one."""
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    default = "otlp" if any(os.environ.get(name) for name in endpoints) else "none"
    names = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or default
    return [name.strip() for name in names.split(",") if name.strip().lower() not in ("", "none")]


def _provider(service: str, names: list[str], config: Tracing) -> TracerProvider | None:
    """The process's provider of tracers, made unless the project or an agent has set one already."""
    from opentelemetry import trace
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    existing = trace.get_tracer_provider()
    if isinstance(existing, TracerProvider):
        return existing
    exporters = list(_exporters(names, config))
    if not exporters:
        return None
    # Detected last, so that `OTEL_SERVICE_NAME` wins over the service's name.
    resource = Resource.create({SERVICE_NAME: service}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider


def _exporters(names: list[str], config: Tracing) -> Iterator[SpanExporter]:
    for name in names:
        candidates = _entry_points(name)
        found = [point for own in candidates for point in entry_points(group=_EXPORTERS, name=own)]
        if not found:
            installed = ", ".join(sorted(point.name for point in entry_points(group=_EXPORTERS))) or "none"
            package = _PACKAGES.get(candidates[-1])
            log.warning(
                "OTEL_TRACES_EXPORTER: no exporter `%s` is installed (there is: %s)%s",
                name, installed, f"; install `{package}`" if package else "",
            )  # fmt: skip
        elif found[0].name.startswith("zipkin"):
            yield found[0].load()(**_zipkin_arguments(config))
        else:
            yield found[0].load()()


def _entry_points(exporter: str) -> tuple[str, ...]:
    """The names under which packages register what `OTEL_TRACES_EXPORTER` calls `exporter`."""
    if exporter == "zipkin":
        return ("zipkin", "zipkin_json")  # the first needs an older protobuf than the exporters of OTLP
    if exporter != "otlp":
        return (exporter,)
    variables = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next((os.environ[name] for name in variables if os.environ.get(name)), "http/protobuf").strip()
    return ({"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}.get(protocol, protocol),)


def _zipkin_arguments(config: Tracing) -> dict[str, str | int]:
    """What no variable says to this exporter, which cuts texts by a length of its own too."""
    node = config.zipkin
    arguments = {
        "local_node_ipv4": None if node.local_node_ipv4 is None else str(node.local_node_ipv4),
        "local_node_ipv6": None if node.local_node_ipv6 is None else str(node.local_node_ipv6),
        "local_node_port": node.local_node_port,
        "max_tag_value_length": config.max_tag_value_length,
    }
    return {name: value for name, value in arguments.items() if value is not None}


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
    __slots__ = ("_outer_context", "_span")

    def __init__(self, span: OtelSpan, context: Context) -> None:
        from opentelemetry.context import attach, get_current

        own = span.get_span_context()
        super().__init__(
            _RecordedContext(f"{own.trace_id:032x}", f"{own.span_id:016x}", int(own.trace_flags))
        )
        self._span = span
        self._outer_context = get_current()
        attach(context)

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
        from opentelemetry.context import attach

        attach(self._outer_context)
        super().leave()


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
