"""A service's configuration: `traffic`, `resources`, `workers` and the rest, merged from its layers."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    ValidationError,
    model_validator,
)

from bentoml._quantities import cpus, gpus, memory_bytes
from bentoml.exceptions import BentoMLConfigException


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_unset(cls, values: Any) -> Any:
        """`None` is how this interface writes "not set", whatever the default."""
        if isinstance(values, Mapping):
            return {key: value for key, value in values.items() if value is not None}
        return values


class Traffic(_Model):
    """How a service takes requests. Times are in seconds.

    Attributes:
        timeout: until the first byte of the response; for a response that is no stream, the whole of it.
        item_timeout: between two items of a stream; `timeout` when not given.
        total_timeout: for a whole stream; as long as it takes when not given.
        max_concurrency: calls that a replica runs at once, over all its workers; more are answered 429.
        max_request_size: bytes of a request's body; a longer one is answered 413.
    """

    timeout: float = Field(default=60.0, gt=0)
    item_timeout: float | None = Field(default=None, gt=0)
    total_timeout: float | None = Field(default=None, gt=0)
    max_concurrency: int | None = Field(default=None, gt=0)
    concurrency: int | None = Field(default=None, gt=0)
    external_queue: bool = False
    max_request_size: Annotated[int, BeforeValidator(memory_bytes)] = 2**30


class Resources(_Model):
    """What one replica of a service needs: CPUs, bytes of memory, GPUs."""

    cpu: Annotated[float, BeforeValidator(cpus)] | None = None
    memory: Annotated[int, BeforeValidator(memory_bytes)] | None = None
    gpu: Annotated[float, BeforeValidator(gpus)] | None = None
    gpu_type: str | None = None
    tpu_type: str | None = None


class Worker(_Model):
    """One item of the list form of `workers`: a process and its share of the GPUs."""

    gpu: Annotated[float, BeforeValidator(gpus)] | None = None
    gpu_type: str | None = None


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


_Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]


def _expressions(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        try:
            re.compile(text)
        except re.error as error:
            raise ValueError(f"{text!r} is no regular expression: {error}") from None
    return texts


class Cors(_Model):
    """Which other origins a browser may call from."""

    enabled: bool = False
    access_control_allow_origins: _Texts = ()
    access_control_allow_origin_regex: str | None = None
    access_control_allow_credentials: bool = False
    access_control_allow_methods: _Texts = ("GET",)
    access_control_allow_headers: _Texts = ()
    access_control_max_age: int = Field(default=600, ge=0)
    access_control_expose_headers: _Texts = ()

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
    port: int = Field(default=3000, gt=0, lt=65536)
    proxy_port: int = Field(default=8000, gt=0, lt=65536)
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
    version: int = 17
    cert_reqs: int = 0
    ciphers: str = "TLSv1"

    @model_validator(mode="after")
    def _has_a_certificate(self) -> Ssl:
        if self.enabled and self.certfile is None:
            raise ValueError("needs `certfile`")
        return self


class Duration(_Model):
    """Buckets of the request histogram, in seconds: listed, or from `min` to `max` each `factor` larger."""

    buckets: tuple[float, ...] | None = None
    min: float | None = Field(default=None, gt=0)
    max: float | None = Field(default=None, gt=0)
    factor: float | None = Field(default=None, gt=1)

    @model_validator(mode="after")
    def _one_form(self) -> Duration:
        given = [value is not None for value in (self.min, self.max, self.factor)]
        if any(given) and (self.buckets or not all(given)):
            raise ValueError("expected either `buckets` or all of `min`, `max`, `factor`")
        if self.min is not None and self.max is not None and self.min >= self.max:
            raise ValueError("`min` must be less than `max`")
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
    namespace: str = Field(default="bentoml_service", pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
    duration: Duration = Duration()


class AccessLogFormat(_Model):
    """Format specifications of the two numbers of a trace."""

    trace_id: str = Field(default="032x", pattern=r"^0?\d{0,3}[xXd]$")
    span_id: str = Field(default="016x", pattern=r"^0?\d{0,3}[xXd]$")


class AccessLog(_Model):
    """One line for each request, and what it holds."""

    enabled: bool = True
    request_content_length: bool = True
    request_content_type: bool = True
    response_content_length: bool = True
    response_content_type: bool = True
    skip_paths: tuple[str, ...] = ("/metrics", "/healthz", "/livez", "/readyz")
    format: AccessLogFormat = AccessLogFormat()


class Logging(_Model):
    """What a service writes to its log."""

    access: AccessLog = AccessLog()


class OtlpTracing(_Model):
    """The exporter of OpenTelemetry's own protocol."""

    protocol: Literal["grpc", "http"] | None = None
    endpoint: str | None = None
    compression: Literal["gzip", "none", "deflate"] | None = None
    http: dict[str, object] = {}
    grpc: dict[str, object] = {}


class Tracing(_Model):
    """Traces, where the extra is installed; the standard `OTEL_*` variables win."""

    exporter_type: Literal["zipkin", "jaeger", "otlp", "in_memory"] | None = None
    sample_rate: float | None = Field(default=None, ge=0, le=1)
    excluded_urls: Annotated[_Texts, AfterValidator(_expressions)] | None = None
    timeout: int | None = Field(default=None, gt=0)
    max_tag_value_length: int | None = Field(default=None, gt=0)
    otlp: OtlpTracing = OtlpTracing()
    zipkin: dict[str, object] = {}
    jaeger: dict[str, object] = {}


class Monitoring(_Model):
    """The data log of `bentoml.monitor`."""

    enabled: bool = True
    type: str = "default"
    options: dict[str, object] = {}


class ProbePaths(_Model):
    """Where a service answers probes besides `/livez` and `/readyz`."""

    livez: str | None = Field(default=None, pattern="^/")
    readyz: str | None = Field(default=None, pattern="^/")


# Which of its forms `workers` has is decided first, so that a problem in it is told once and not for each.
def _form_of_workers(value: object) -> str:
    if isinstance(value, str) and not value.isdecimal():
        return "text"
    return "list" if isinstance(value, list | tuple) else "number"


class ServiceConfig(_Model):
    """Everything that `@bentoml.service(...)` takes as configuration."""

    traffic: Traffic = Traffic()
    resources: Resources = Resources()
    workers: Annotated[
        Annotated[int, Field(gt=0), Tag("number")]
        | Annotated[Literal["cpu_count"], Tag("text")]
        | Annotated[tuple[Worker, ...], Tag("list")],
        Discriminator(_form_of_workers),
    ] = 1
    threads: int = Field(default=1, gt=0)
    backlog: int = Field(default=2048, gt=64)
    replicate_process: bool = False
    endpoints: ProbePaths = ProbePaths()
    http: Http = Http()
    ssl: Ssl = Ssl()
    metrics: Metrics = Metrics()
    logging: Logging = Logging()
    tracing: Tracing = Tracing()
    monitoring: Monitoring = Monitoring()

    # Not acted on: `not_used` names them to those who set them.
    extra_ports: tuple[int, ...] = ()
    max_runner_connections: int = Field(default=16, gt=0)
    runner_connection: dict[str, object] = {}
    runner_probe: dict[str, object] = {}
    grpc: dict[str, object] = {}

    @property
    def gpu_total(self) -> float:
        """GPUs that one replica takes, whichever way the service asked for them."""
        if isinstance(self.workers, tuple) and self.workers:
            return sum(worker.gpu or 0 for worker in self.workers)
        return self.resources.gpu or 0


# Accepted as it is written by those who know this interface, and not acted on by this version.
_NOT_USED = {
    "traffic": ("concurrency", "external_queue"),
    "resources": ("gpu_type", "tpu_type"),
    "tracing": ("timeout", "max_tag_value_length", "jaeger"),
    "": ("extra_ports", "max_runner_connections", "runner_connection", "runner_probe", "grpc"),
}


def not_used(config: Mapping[str, object]) -> list[str]:
    """Keys of a configuration that are valid, that say something, and that nothing acts on yet."""
    found = []
    for section, keys in _NOT_USED.items():
        values = config.get(section, {}) if section else config
        if isinstance(values, Mapping):
            found += [f"{section}.{key}".lstrip(".") for key in keys if values.get(key)]
    return found


def merge(*layers: Mapping[str, object]) -> dict[str, object]:
    """One configuration from several, each over the one before; mappings merge, all else replaces."""
    merged: dict[str, object] = {}
    for layer in layers:
        for key, value in layer.items():
            before = merged.get(key)
            if isinstance(before, Mapping) and isinstance(value, Mapping):
                merged[key] = merge(before, value)
            else:
                merged[key] = value
    return merged


def load_config(service: str, *layers: Mapping[str, object]) -> ServiceConfig:
    """The configuration that the layers add up to, checked.

    Raises:
        BentoMLConfigException: names every value that is not valid, and the service.
    """
    try:
        return ServiceConfig.model_validate(merge(*layers))
    except ValidationError as error:
        problems = "\n".join(f"  {problem}" for problem in config_problems(error))
        raise BentoMLConfigException(f"configuration of {service}:\n{problems}") from None


@dataclass(frozen=True)
class ConfigProblem:
    """A value of a configuration that is not valid: where it stands in it, and why."""

    location: tuple[int | str, ...]
    reason: str

    def __str__(self) -> str:
        return f"`{'.'.join(str(part) for part in self.location)}`: {self.reason}"


def config_problems(error: ValidationError) -> list[ConfigProblem]:
    """Every value that is not valid, with the nearest name for an unknown one."""
    problems = []
    for item in error.errors():
        location = item["loc"]
        if location[0] == "workers":
            location = (location[0], *location[2:])  # without the form
        if location == ("workers",):
            found = item["input"]
            reason = (
                f'expected a number above 0, "cpu_count", or a list with an item a worker, found {found!r}'
            )
        elif item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(location[-1]), _known_names(location[:-1]), n=1)
            reason = "unknown key" + (f", did you mean `{near[0]}`?" if near else "")
        else:
            reason = item["msg"].removeprefix("Value error, ")
        problems.append(ConfigProblem(location, reason))
    return problems


def _known_names(path: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = ServiceConfig
    for part in path:
        if isinstance(part, int):
            return list(Worker.model_fields)
        model = next(_models_of(model.model_fields[part].annotation))
    return list(model.model_fields)


def _models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_of(argument)
