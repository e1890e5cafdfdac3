"""A service's configuration: `traffic`, `resources`, `workers` and the rest, merged from its layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    ValidationError,
    model_validator,
)

from bentoml._config_problems import config_problems
from bentoml._config_values import (
    Bounds,
    Count,
    Cpus,
    Expression,
    Expressions,
    Gpus,
    Headers,
    Lower,
    Memory,
    MetricName,
    Number,
    NumberFormat,
    Port,
    RoutePath,
    Seconds,
    Texts,
)
from bentoml._layers import merge
from bentoml.exceptions import BentoMLConfigException

_MOST_BUCKETS: Final = 200  # each is a time series, for every endpoint and status


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_unset(cls, values: Any) -> Any:
        """`None` is how this interface writes "not set", whatever the default."""
        if isinstance(values, Mapping):
            return {key: value for key, value in values.items() if value is not None}
        return values


class Traffic(_Model):
    """How a service takes requests, those of its mounts too. Times are in seconds.

    Attributes:
        timeout: until the first byte of the response, the request's body included; for a response that is no
            stream, the whole of it.
        item_timeout: between two items of a stream; `timeout` when not given.
        total_timeout: for a whole stream; as long as it takes when not given.
        max_concurrency: calls that a replica runs at once, over all its workers; more are answered 429.
            Requests to mounts and custom commands count, and WebSockets for as long as they are open.
        max_request_size: bytes of a request's body; a longer one is answered 413.
    """

    timeout: Seconds = 60.0
    item_timeout: Seconds | None = None
    total_timeout: Seconds | None = None
    max_concurrency: Count | None = None
    concurrency: Count | None = None
    external_queue: bool = False
    max_request_size: Memory = 2**30


class Resources(_Model):
    """What one replica of a service needs: CPUs, bytes of memory, GPUs."""

    cpu: Cpus | None = None
    memory: Memory | None = None
    gpu: Gpus | None = None
    gpu_type: str | None = None
    tpu_type: str | None = None


class Worker(_Model):
    """One item of the list form of `workers`: a process and its share of the GPUs."""

    gpu: Gpus | None = None
    gpu_type: str | None = None


class Cors(_Model):
    """Which other origins a browser may call from."""

    enabled: bool = False
    access_control_allow_origins: Texts = ()
    access_control_allow_origin_regex: Expression | None = None
    access_control_allow_credentials: bool = False
    access_control_allow_methods: Texts = ("GET", "POST", "PUT")  # as endpoints and tasks are called
    access_control_allow_headers: Texts = ()
    access_control_max_age: Annotated[int, Field(ge=0), Number] = 600
    access_control_expose_headers: Texts = ()

    @model_validator(mode="after")
    def _names_origins(self) -> Cors:
        if self.enabled and not (self.access_control_allow_origins or self.access_control_allow_origin_regex):
            raise ValueError("needs `access_control_allow_origins` or `access_control_allow_origin_regex`")
        return self


class HttpResponse(_Model):
    """What every response carries."""

    trace_id: bool = False


class Http(_Model):
    """The public port.

    Attributes:
        host, port: where it is bound, unless a variable says otherwise.
        proxy_port: where a custom command listens.
        fetch_urls: whether a public URL may stand where a file is expected.
    """

    host: str = "0.0.0.0"  # noqa: S104  # a container's own network
    port: Port = 3000
    proxy_port: Port = 8000
    cors: Cors = Cors()
    response: HttpResponse = HttpResponse()
    fetch_urls: bool = False


class Ssl(_Model):
    """TLS on the public port; the numbers are those of Python's `ssl` module."""

    enabled: bool = False
    certfile: str | None = None
    keyfile: str | None = None
    keyfile_password: SecretStr | None = None
    ca_certs: str | None = None
    version: Literal[2, 3, 4, 5, 17] = 17
    cert_reqs: Literal[0, 1, 2] = 0
    ciphers: str = "TLSv1"

    @model_validator(mode="after")
    def _has_a_certificate(self) -> Ssl:
        if self.enabled and self.certfile is None:
            raise ValueError("needs `certfile`")
        return self


class Duration(_Model):
    """Buckets of the request histogram, in seconds: listed, or from `min` to `max` each `factor` larger."""

    buckets: Bounds | None = None
    min: Seconds | None = None
    max: Seconds | None = None
    factor: Annotated[float, Field(gt=1), Number] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Duration:
        given = [value is not None for value in (self.min, self.max, self.factor)]
        if any(given) and (self.buckets or not all(given)):
            raise ValueError("expected either `buckets` or all of `min`, `max`, `factor`")
        if self.min is None or self.max is None or self.factor is None:
            return self
        if self.min >= self.max:
            raise ValueError("`min` must be less than `max`")
        if math.log(self.max) - math.log(self.min) > _MOST_BUCKETS * math.log(self.factor):
            raise ValueError(f"expected {_MOST_BUCKETS} buckets at most; a larger `factor` makes fewer")
        return self

    @property
    def bounds(self) -> tuple[float, ...] | None:
        """The upper bounds of the buckets; None for those that are usual."""
        if self.min is None or self.max is None or self.factor is None:
            return self.buckets
        bounds = [self.min]
        while bounds[-1] < self.max:
            bounds.append(bounds[-1] * self.factor)
        return (*bounds[:-1], self.max)


class Metrics(_Model):
    """Prometheus metrics of the service."""

    enabled: bool = True
    namespace: MetricName = "bentoml_service"
    duration: Duration = Duration()


class AccessLogFormat(_Model):
    """Format specifications of the two numbers of a trace."""

    trace_id: NumberFormat = "032x"
    span_id: NumberFormat = "016x"


class AccessLog(_Model):
    """One line for each request, and what it holds."""

    enabled: bool = True
    request_content_length: bool = True
    request_content_type: bool = True
    response_content_length: bool = True
    response_content_type: bool = True
    skip_paths: Texts = ("/metrics", "/healthz", "/livez", "/readyz")
    format: AccessLogFormat = AccessLogFormat()


class Logging(_Model):
    """What a service writes to its log."""

    access: AccessLog = AccessLog()


class OtlpHttp(_Model):
    """What OTLP over HTTP sends along, and the certificates that it trusts."""

    headers: Headers = {}
    certificate_file: str | None = None


class OtlpGrpc(_Model):
    """What OTLP over gRPC sends along, and whether it does without TLS."""

    headers: Headers = {}
    insecure: bool | None = None


class OtlpTracing(_Model):
    """The exporter of OpenTelemetry's own protocol."""

    protocol: Annotated[Literal["grpc", "http"], Lower] | None = None
    endpoint: str | None = None
    compression: Literal["gzip", "none", "deflate"] | None = None
    http: OtlpHttp = OtlpHttp()
    grpc: OtlpGrpc = OtlpGrpc()


class ZipkinTracing(_Model):
    """Where Zipkin is, and what it is told about this machine."""

    endpoint: str | None = None
    local_node_ipv4: IPv4Address | None = None
    local_node_ipv6: IPv6Address | None = None
    local_node_port: Port | None = None


class JaegerThrift(_Model):
    """An agent on this machine."""

    agent_host_name: str | None = None
    agent_port: Port | None = None
    udp_split_oversized_batches: bool | None = None


class JaegerGrpc(_Model):
    """Whether a collector is spoken to without TLS."""

    insecure: bool | None = None


class JaegerTracing(_Model):
    """Jaeger's own two protocols."""

    protocol: Annotated[Literal["thrift", "grpc"], Lower] = "thrift"
    collector_endpoint: str | None = None
    thrift: JaegerThrift = JaegerThrift()
    grpc: JaegerGrpc = JaegerGrpc()


class Tracing(_Model):
    """Traces, where the extra is installed; the standard `OTEL_*` variables win.

    Attributes:
        timeout: seconds that one export may take.
        max_tag_value_length: characters of a text among a span's attributes; the rest is cut off.
    """

    exporter_type: Annotated[Literal["zipkin", "jaeger", "otlp", "in_memory"], Lower] | None = None
    sample_rate: Annotated[float, Field(ge=0, le=1), Number] | None = None
    excluded_urls: Expressions | None = None
    timeout: Count | None = None
    max_tag_value_length: Count | None = None
    otlp: OtlpTracing = OtlpTracing()
    zipkin: ZipkinTracing = ZipkinTracing()
    jaeger: JaegerTracing = JaegerTracing()


class MonitoringOptions(_Model):
    """Where the data log is kept."""

    log_path: str = "monitoring"
    log_config_file: str | None = None


class Monitoring(_Model):
    """The data log of `bentoml.monitor`."""

    enabled: bool = True
    type: str = "default"
    options: MonitoringOptions = MonitoringOptions()

    @model_validator(mode="before")
    @classmethod
    def _of_this_type(cls, values: Any) -> Any:
        """Options of another type are that one's own: nobody here can say which it knows."""
        if isinstance(values, Mapping) and values.get("type", "default") not in (None, "default"):
            return {key: value for key, value in values.items() if key != "options"}
        return values


class ProbePaths(_Model):
    """Where a service answers probes besides `/livez` and `/readyz`."""

    livez: RoutePath | None = None
    readyz: RoutePath | None = None


class RunnerConnection(_Model):
    """When a caller replaces its connections to another process of the old kind."""

    max_requests: Count = 100
    max_age: Seconds = 300.0


class RunnerProbe(_Model):
    """Whether a service is only ready when those that it calls are."""

    enabled: bool = True
    timeout: Count = 1
    period: Count = 10


class Switch(_Model):
    """Something that is on or off."""

    enabled: bool = False


class GrpcMetrics(_Model):
    """Where the metrics of a gRPC server are."""

    host: str = "0.0.0.0"  # noqa: S104  # as this interface has it
    port: Port = 3001


class Grpc(_Model):
    """A gRPC server."""

    host: str = "0.0.0.0"  # noqa: S104  # as this interface has it
    port: Port = 3000
    max_concurrent_streams: Count | None = None
    maximum_concurrent_rpcs: Count | None = None
    max_message_length: Annotated[int, Field(ge=-1), Number] = -1
    reflection: Switch = Switch()
    channelz: Switch = Switch()
    metrics: GrpcMetrics = GrpcMetrics()


# Which of its forms `workers` has is decided first, so that a problem in it is told once and not for each.
def _form_of_workers(value: object) -> str:
    if isinstance(value, str) and not value.isdecimal():
        return "text"
    return "list" if isinstance(value, list | tuple) and value else "number"


class ServiceConfig(_Model):
    """Everything that `@bentoml.service(...)` takes as configuration."""

    traffic: Traffic = Traffic()
    resources: Resources = Resources()
    workers: Annotated[
        Annotated[Count, Tag("number")]
        | Annotated[Literal["cpu_count"], Tag("text")]
        | Annotated[tuple[Worker, ...], Tag("list")],
        Discriminator(_form_of_workers),
    ] = 1
    threads: Count = 1
    backlog: Annotated[int, Field(gt=64), Number] = 2048
    replicate_process: bool = False
    endpoints: ProbePaths = ProbePaths()
    http: Http = Http()
    ssl: Ssl = Ssl()
    metrics: Metrics = Metrics()
    logging: Logging = Logging()
    tracing: Tracing = Tracing()
    monitoring: Monitoring = Monitoring()

    # Not acted on: `not_used` names them to those who set them.
    extra_ports: tuple[Port, ...] = ()
    max_runner_connections: Count = 16
    runner_connection: RunnerConnection = RunnerConnection()
    runner_probe: RunnerProbe = RunnerProbe()
    grpc: Grpc = Grpc()

    @property
    def gpu_total(self) -> float:
        """GPUs that one replica takes, whichever way the service asked for them."""
        if isinstance(self.workers, tuple):
            return sum(worker.gpu or 0 for worker in self.workers)
        return self.resources.gpu or 0


def _lowered(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _has_no_exporter(value: object) -> bool:
    return _lowered(value) in ("jaeger", "in_memory")


def _is_other_log(value: object) -> bool:
    return value not in (None, "default")


# Accepted as it is written by those who know this interface, and not acted on by this version.
_NOT_USED: Final[Mapping[str, Callable[[object], bool]]] = {
    "traffic.concurrency": bool,
    "traffic.external_queue": bool,
    "resources.gpu_type": bool,
    "resources.tpu_type": bool,
    "tracing.exporter_type": _has_no_exporter,
    "tracing.jaeger": bool,
    "monitoring.type": _is_other_log,
    "monitoring.options.log_config_file": bool,
    "extra_ports": bool,
    "max_runner_connections": bool,
    "runner_connection": bool,
    "runner_probe": bool,
    "grpc": bool,
}

# What those can do who wanted something of it.
_INSTEAD: Final[Mapping[str, str]] = {
    "tracing.exporter_type": "`otlp` and `zipkin` export, and Jaeger takes `otlp`",
    "monitoring.type": "data is written to files",
}


def not_used(config: Mapping[str, object]) -> list[str]:
    """Keys of a configuration that are valid, that say something, and that nothing acts on."""
    found = [key for key, says_something in _NOT_USED.items() if says_something(_value(config, key))]
    # The sections of OTLP's two protocols exclude each other; over gRPC there is no `deflate`.
    is_grpc = _lowered(_value(config, "tracing.otlp.protocol")) == "grpc"
    other = "tracing.otlp.http" if is_grpc else "tracing.otlp.grpc"
    if _value(config, other):
        found.append(other)
    if is_grpc and _value(config, "tracing.otlp.compression") == "deflate":
        found.append("tracing.otlp.compression")
    return found


def not_used_note(service: str, config: Mapping[str, object]) -> str | None:
    """One line for whoever starts or builds the service; None where everything has an effect.

    What recommends a machine is left out: it has an effect where there is a choice.
    """
    keys = [key for key in not_used(config) if not key.startswith("resources.")]
    if not keys:
        return None
    named = [f"`{key}`" + (f" ({_INSTEAD[key]})" if key in _INSTEAD else "") for key in keys]
    return f"configuration of {service}, without effect here: {', '.join(named)}"


def _value(config: Mapping[str, object], key: str) -> object:
    """The value at a dotted key, None where there is none."""
    value: object = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def load_config(service: str, *layers: Mapping[str, object]) -> ServiceConfig:
    """The configuration that the layers add up to, checked.

    Raises:
        BentoMLConfigException: names every value that is not valid, and the service.
    """
    try:
        return ServiceConfig.model_validate(merge(*layers))
    except ValidationError as error:
        problems = "\n".join(f"  {problem}" for problem in config_problems(error, ServiceConfig))
        raise BentoMLConfigException(f"configuration of {service}:\n{problems}") from None
