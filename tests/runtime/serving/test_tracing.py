"""Traces: the place of a request in them, and their export by OpenTelemetry where it is asked for."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from bentoml import _trace
from bentoml._serving.tracing import Tracer, make_tracer, standard_variables

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"

Run = Callable[[str], str]


def headers(**values: str) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in values.items()]


def test_a_request_of_a_trace_gets_its_own_place_in_it() -> None:
    context = _trace.received(headers(traceparent=f"00-{TRACE}-{CALLER}-01", tracestate="vendor=1"))

    assert (context.trace_id, context.is_sampled, context.state) == (TRACE, True, "vendor=1")
    assert context.span_id != CALLER


def test_a_request_without_a_trace_starts_one_that_is_not_sampled() -> None:
    first, second = _trace.received([]), _trace.received([])

    assert (len(first.trace_id), len(first.span_id), first.is_sampled) == (32, 16, False)
    assert first.trace_id != second.trace_id


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        f"00-{TRACE}-{CALLER}",
        f"00-{TRACE}-{CALLER}-0",
        f"00-{TRACE}-{CALLER}-01-more",
        f"ff-{TRACE}-{CALLER}-01",
        f"00-{'0' * 32}-{CALLER}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{CALLER}-01",
        f"00-{TRACE[:-1]}g-{CALLER}-01",
        f" 00-{TRACE}-{CALLER}-01",
        "é" * 55,
    ],
)
def test_a_traceparent_that_is_none_starts_a_new_trace_without_its_state(traceparent: str) -> None:
    context = _trace.received(headers(traceparent=traceparent, tracestate="vendor=1"))

    assert context.trace_id != TRACE
    assert (len(context.trace_id), context.flags, context.state) == (32, 0, "")


def test_a_later_version_of_the_format_may_say_more() -> None:
    context = _trace.received(headers(traceparent=f"01-{TRACE}-{CALLER}-ff-more"))

    assert (context.trace_id, context.flags) == (TRACE, 0x03)


def test_of_two_traceparents_none_is_believed() -> None:
    given = headers(traceparent=f"00-{TRACE}-{CALLER}-01")

    assert _trace.received([*given, *given]).trace_id != TRACE


@pytest.mark.parametrize("state", ["x" * 600, "a=\x7f"])
def test_a_state_that_no_peer_could_take_is_not_passed_on(state: str) -> None:
    context = _trace.received(headers(traceparent=f"00-{TRACE}-{CALLER}-01", tracestate=state))

    assert "tracestate" not in context.outgoing_headers()


def test_a_call_to_a_peer_carries_the_place_of_the_current_request() -> None:
    tracer = Tracer()
    span = tracer.begin("POST", "/go", headers(traceparent=f"00-{TRACE}-{CALLER}-01", tracestate="vendor=1"))

    carried = _trace.outgoing_headers()

    tracer.end(span, 200)
    assert carried == {"traceparent": f"00-{TRACE}-{span.context.span_id}-01", "tracestate": "vendor=1"}


def test_outside_of_a_request_there_is_no_trace() -> None:
    tracer = Tracer()
    tracer.end(tracer.begin("POST", "/go", []), 500, ValueError("broken"))

    assert (_trace.request_id(), _trace.outgoing_headers()) == ("", {})


def test_processes_that_were_forked_do_not_make_the_same_ids(in_new_python: Run) -> None:
    program = (
        "import os, random\n"
        "from bentoml import _trace\n"
        "random.seed(0)\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        print(_trace.received([]).trace_id, flush=True)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
    )

    assert len(set(in_new_python(program).split())) == 3


def test_without_being_asked_nothing_of_open_telemetry_is_loaded(in_new_python: Run) -> None:
    program = (
        "import sys\n"
        "from bentoml._serving.tracing import make_tracer\n"
        "make_tracer('Iris').begin('POST', '/go', [])\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )

    assert in_new_python(program) == "[]"


def test_the_configuration_is_said_in_standard_variables() -> None:
    assert standard_variables(
        exporter_type="otlp", sample_rate=0.5, otlp_protocol="http", otlp_endpoint="http://collector:4318"
    ) == {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.5",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318",
    }


class Collector:
    """Receives spans over OTLP, as a collector does."""

    def __init__(self) -> None:
        received: list[ResourceSpans] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers["content-encoding"] == "gzip":
                    body = gzip.decompress(body)
                received.extend(ExportTraceServiceRequest.FromString(body).resource_spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._received = received
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def variables(self) -> dict[str, str]:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}"}

    @property
    def services(self) -> list[str]:
        return [
            attribute.value.string_value
            for resource in self._received
            for attribute in resource.resource.attributes
            if attribute.key == "service.name"
        ]

    @property
    def spans(self) -> dict[str, Span]:
        return {
            span.name: span
            for resource in self._received
            for scope in resource.scope_spans
            for span in scope.spans
        }

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


Serve = Callable[..., str]


@pytest.fixture
def serve(in_new_python: Run, collector: Collector) -> Serve:
    """Runs a request in a new process whose spans go to the collector; `work` is what the endpoint does."""

    def serve(work: str, end: str = "tracer.end(span, 200)", **variables: str) -> str:
        return in_new_python(
            "import os\n"
            f"os.environ.update({collector.variables | variables!r})\n"
            "from bentoml import _trace\n"
            "from bentoml._serving.tracing import make_tracer\n"
            "tracer = make_tracer('Iris', excluded=['^/quiet'])\n"
            f"headers = [(b'host', b'iris:3000'), (b'traceparent', b'00-{TRACE}-{CALLER}-01')]\n"
            "span = tracer.begin('POST', '/classify', headers)\n"
            f"{work}\n"
            f"{end}\n"
            "tracer.close()\n"
        )

    return serve


def attributes(span: Span) -> dict[str, str | int]:
    return {
        attribute.key: attribute.value.string_value or attribute.value.int_value
        for attribute in span.attributes
    }


def test_a_request_is_exported_as_a_span_of_its_callers_trace(collector: Collector, serve: Serve) -> None:
    printed = serve("print(_trace.request_id())")

    span = collector.spans["POST /classify"]
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.span_id.hex()) == (TRACE, CALLER, printed)
    assert (span.kind, collector.services) == (Span.SPAN_KIND_SERVER, ["Iris"])
    assert attributes(span) == {
        "http.request.method": "POST",
        "http.route": "/classify",
        "url.path": "/classify",
        "url.scheme": "http",
        "server.address": "iris",
        "server.port": 3000,
        "http.response.status_code": 200,
    }


def test_spans_of_the_project_stand_under_that_of_the_request(collector: Collector, serve: Serve) -> None:
    printed = serve(
        "from opentelemetry import trace\n"
        "with trace.get_tracer('mine').start_as_current_span('inference'):\n"
        "    print(_trace.outgoing_headers()['traceparent'])\n"
    )

    inference, request = collector.spans["inference"], collector.spans["POST /classify"]
    assert inference.parent_span_id == request.span_id
    assert printed == f"00-{TRACE}-{inference.span_id.hex()}-01"


@pytest.mark.parametrize("status", [500, 200], ids=["refused", "cut_off"])
def test_a_request_that_failed_is_a_span_with_its_error(
    collector: Collector, serve: Serve, status: int
) -> None:
    serve("", end=f"tracer.end(span, {status}, ValueError('broken'))")

    span = collector.spans["POST /classify"]
    assert (span.status.code, attributes(span)["error.type"]) == (2, "ValueError")
    assert [event.name for event in span.events] == ["exception"]


@pytest.mark.parametrize(
    "end", ["400, ValueError('bad input')", "200, asyncio.CancelledError()"], ids=["bad_input", "client_gone"]
)
def test_what_its_caller_did_is_no_error(collector: Collector, serve: Serve, end: str) -> None:
    serve("import asyncio", end=f"tracer.end(span, {end})")

    span = collector.spans["POST /classify"]
    assert (span.status.code, len(span.events)) == (0, 0)


def test_the_standard_variables_win_over_the_name_of_the_service(collector: Collector, serve: Serve) -> None:
    serve("", OTEL_SERVICE_NAME="flowers")

    assert collector.services == ["flowers"]


@pytest.mark.parametrize(
    "variables",
    [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_TRACES_SAMPLER": "always_off"}],
    ids=lambda variables: next(iter(variables)),
)
def test_the_standard_variables_can_ask_for_no_spans(
    collector: Collector, serve: Serve, variables: dict[str, str]
) -> None:
    trace_id = serve("print(_trace.outgoing_headers()['traceparent'].split('-')[1])", **variables)

    assert (collector.spans, trace_id) == ({}, TRACE)


def test_a_path_that_no_route_matched_does_not_name_a_span(collector: Collector, serve: Serve) -> None:
    serve("tracer.end(tracer.begin('STEAL', '', [], path='/etc/passwd'), 404)")

    span = collector.spans["HTTP"]
    assert (attributes(span)["url.path"], attributes(span)["http.request.method"]) == (
        "/etc/passwd",
        "_OTHER",
    )
    assert "http.route" not in attributes(span)


def test_what_was_no_request_after_all_is_not_recorded(collector: Collector, serve: Serve) -> None:
    printed = serve("", end="tracer.abandon(span); print(_trace.request_id() == '')")

    assert (collector.spans, printed) == ({}, "True")


def test_an_excluded_path_is_not_recorded(collector: Collector, serve: Serve) -> None:
    serve("tracer.end(tracer.begin('GET', '/quiet/please', []), 200)")

    assert list(collector.spans) == ["POST /classify"]


def test_what_the_service_declares_holds_where_the_environment_says_nothing(
    collector: Collector, in_new_python: Run
) -> None:
    program = (
        "import os\n"
        "os.environ['OTEL_SERVICE_NAME'] = 'flowers'\n"
        "from bentoml._serving.tracing import make_tracer\n"
        f"tracer = make_tracer('Iris', {collector.variables | {'OTEL_SERVICE_NAME': 'other'}!r})\n"
        "tracer.end(tracer.begin('POST', '/classify', []), 200)\n"
        "tracer.close()\n"
    )
    in_new_python(program)

    assert collector.services == ["flowers"]


def test_where_the_extra_is_not_installed_it_is_named_and_the_service_goes_on(in_new_python: Run) -> None:
    program = (
        "import os, sys\n"
        "sys.modules['opentelemetry.sdk'] = None  # what an import of a package that is not there meets\n"
        "sys.stderr = sys.stdout\n"
        "os.environ['OTEL_TRACES_EXPORTER'] = 'otlp'\n"
        "from bentoml._logging import configure_logging\n"
        "from bentoml._serving.tracing import Tracer, make_tracer\n"
        "configure_logging('Iris:1')\n"
        "assert type(make_tracer('Iris')) is Tracer\n"
    )

    assert "install `bento-toolchain[tracing]`" in in_new_python(program)


def test_a_provider_that_the_project_has_set_is_used(collector: Collector, in_new_python: Run) -> None:
    program = (
        "import os\n"
        f"os.environ.update({collector.variables!r})\n"
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor\n"
        "mine = TracerProvider()\n"
        "mine.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))\n"
        "trace.set_tracer_provider(mine)\n"
        "from bentoml._serving.tracing import make_tracer\n"
        "tracer = make_tracer('Iris')\n"
        "tracer.end(tracer.begin('POST', '/classify', []), 200)\n"
        "tracer.close()\n"
    )

    assert '"name": "POST /classify"' in in_new_python(program)
    assert collector.spans == {}


def test_an_exporter_that_is_not_installed_is_named_and_the_service_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "pigeon")

    tracer = make_tracer("Iris")

    assert "no exporter `pigeon` is installed" in caplog.text
    assert type(tracer) is Tracer
