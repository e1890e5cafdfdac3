"""Traces: the place of a request in them, and their export by OpenTelemetry where it is asked for."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from bentoml import _trace
from bentoml._config import Tracing
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


def test_a_request_may_end_in_a_task_that_its_response_runs_in() -> None:
    tracer = Tracer()

    async def scenario() -> tuple[str, str]:
        span = tracer.begin("POST", "/go", [])

        async def respond() -> str:
            tracer.end(span, 200)
            return _trace.request_id()

        inside = await asyncio.create_task(respond())
        span.leave()
        return inside, _trace.request_id()

    assert asyncio.run(scenario()) == ("", "")


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


@pytest.mark.parametrize(
    ("config", "variables"),
    [
        ({}, {}),
        (
            {"exporter_type": "otlp", "sample_rate": 0.5, "max_tag_value_length": 99},
            {
                "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": "0.5",
                "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "99",
            },
        ),
        (
            {"timeout": 3},
            {"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "3", "OTEL_EXPORTER_ZIPKIN_TIMEOUT": "3"},
        ),
        (
            {
                "otlp": {
                    "endpoint": "http://collector:4318",
                    "compression": "deflate",
                    "http": {"headers": {"Authorization": "Basic a=,"}, "certificate_file": "ca.pem"},
                }
            },
            {
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318",
                "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "deflate",
                "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "Authorization=Basic%20a%3D%2C",
                "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": "ca.pem",
            },
        ),
        (
            {
                "otlp": {
                    "protocol": "grpc",
                    "compression": "gzip",
                    "grpc": {"headers": [["a", "1"], ["b", "2"]], "insecure": True},
                }
            },
            {
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "gzip",
                "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=1,b=2",
                "OTEL_EXPORTER_OTLP_TRACES_INSECURE": "true",
            },
        ),
        (
            {"exporter_type": "zipkin", "zipkin": {"endpoint": "http://zipkin:9411/api/v2/spans"}},
            {
                "OTEL_TRACES_EXPORTER": "zipkin",
                "OTEL_EXPORTER_ZIPKIN_ENDPOINT": "http://zipkin:9411/api/v2/spans",
            },
        ),
    ],
)
def test_the_configuration_is_said_in_standard_variables(
    config: dict[str, object], variables: dict[str, str]
) -> None:
    assert standard_variables(Tracing.model_validate(config)) == variables


@pytest.mark.parametrize(
    "config",
    [
        {"exporter_type": "jaeger", "jaeger": {"collector_endpoint": "http://jaeger:14268"}},
        {"exporter_type": "in_memory"},
        {"otlp": {"protocol": "http", "compression": "none", "grpc": {"insecure": True}}},
    ],
)
def test_what_no_exporter_can_do_is_said_to_none(config: dict[str, object]) -> None:
    variables = standard_variables(Tracing.model_validate(config))

    assert variables.keys() <= {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"}


class Collector:
    """Receives spans over OTLP, as a collector does, and over Zipkin's protocol."""

    def __init__(self) -> None:
        received: list[ResourceSpans] = []
        headers: list[Message] = []
        zipkin_spans: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers["content-encoding"] == "gzip":
                    body = gzip.decompress(body)
                headers.append(self.headers)
                if self.path == "/api/v2/spans":
                    zipkin_spans.extend(json.loads(body))
                else:
                    received.extend(ExportTraceServiceRequest.FromString(body).resource_spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._received = received
        self.headers = headers
        self.zipkin_spans = zipkin_spans
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def variables(self) -> dict[str, str]:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.address}

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
            "from bentoml._config import Tracing\n"
            "from bentoml._serving.tracing import make_tracer\n"
            "tracer = make_tracer('Iris', Tracing(excluded_urls='^/quiet'))\n"
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


Declare = Callable[..., None]


@pytest.fixture
def declare(in_new_python: Run) -> Declare:
    """Records one request in a new process whose service declares `tracing` like this."""

    def declare(tracing: dict[str, object], **variables: str) -> None:
        in_new_python(
            "import os\n"
            f"os.environ.update({variables!r})\n"
            "from bentoml._config import Tracing\n"
            "from bentoml._serving.tracing import make_tracer\n"
            f"tracer = make_tracer('Iris', Tracing.model_validate({tracing!r}))\n"
            "tracer.end(tracer.begin('POST', '/classify', [(b'user-agent', b'x' * 300)]), 200)\n"
            "tracer.close()\n"
        )

    return declare


def test_what_the_service_declares_reaches_the_collector(collector: Collector, declare: Declare) -> None:
    http = {"headers": {"X-Tenant": "a b"}}
    otlp = {"endpoint": f"{collector.address}/v1/traces", "compression": "gzip", "http": http}
    declare({"exporter_type": "otlp", "max_tag_value_length": 20, "timeout": 3, "otlp": otlp})

    span = collector.spans["POST /classify"]
    assert attributes(span)["user_agent.original"] == "x" * 20
    assert (collector.headers[0]["x-tenant"], collector.headers[0]["content-encoding"]) == ("a b", "gzip")


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_what_the_service_declares_holds_where_the_environment_says_nothing(
    collector: Collector, declare: Declare, name: str
) -> None:
    path = "/v1/traces" if "TRACES" in name else ""
    declare({"otlp": {"endpoint": "http://127.0.0.1:9/v1/traces"}}, **{name: collector.address + path})

    assert list(collector.spans) == ["POST /classify"]


def test_zipkin_is_told_of_this_machine_and_texts_as_long_as_they_may_be(
    collector: Collector, declare: Declare
) -> None:
    zipkin = {
        "endpoint": f"{collector.address}/api/v2/spans",
        "local_node_ipv4": "10.0.0.7",
        "local_node_port": 3000,
    }
    declare({"exporter_type": "zipkin", "max_tag_value_length": 200, "zipkin": zipkin})

    (span,) = collector.zipkin_spans
    assert span["localEndpoint"] == {"serviceName": "Iris", "ipv4": "10.0.0.7", "port": 3000}
    assert span["tags"]["user_agent.original"] == "x" * 200


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


@pytest.mark.parametrize(
    ("exporter", "protocol", "said"),
    [
        ("pigeon", "", "no exporter `pigeon` is installed"),
        ("otlp", "pigeon", "no exporter `otlp` is installed"),
    ],
)
def test_an_exporter_that_is_not_installed_is_named_and_the_service_goes_on(
    exporter: str,
    protocol: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", exporter)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)

    tracer = make_tracer("Iris")

    assert said in caplog.text
    assert type(tracer) is Tracer
