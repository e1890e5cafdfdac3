"""A service's configuration: `traffic`, `resources`, `workers` and the rest, merged from its layers."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError

from bentoml.exceptions import BentoMLConfigException

_CPU_UNITS = {"": 1.0, "m": 1e-3}
_MEMORY_UNITS = {
    "": 1,
    "k": 10**3,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def cpus(value: object) -> float:
    """CPUs from a number or a Kubernetes quantity: `2`, `"2"`, `"400m"`.

    Raises:
        ValueError: neither of the two, or not above zero.
    """
    amount, unit = _quantity(value, "a number of CPUs such as `2` or `400m`")
    if unit not in _CPU_UNITS:
        raise ValueError(f"unknown unit {unit!r} of CPUs, expected `m` or none")
    return amount * _CPU_UNITS[unit]


def memory_bytes(value: object) -> int:
    """Bytes from a Kubernetes quantity (`"512Mi"`) or a number, which counts GiB.

    Raises:
        ValueError: neither of the two, or not above zero.
    """
    amount, unit = _quantity(value, "an amount of memory such as `1Gi` or `512Mi`")
    if not isinstance(value, str):
        unit = "Gi"
    if unit not in _MEMORY_UNITS:
        raise ValueError(f"unknown unit {unit!r} of memory, expected one of {', '.join(_MEMORY_UNITS)}")
    return math.ceil(amount * _MEMORY_UNITS[unit])


def gpus(value: object) -> float:
    """GPUs from a number or a numeric string: whole devices, or a fraction of one.

    Raises:
        ValueError: not a number above zero, or a fraction of more than one device.
    """
    amount, unit = _quantity(value, "a number of GPUs such as `1` or `0.5`")
    if unit:
        raise ValueError(f"unknown unit {unit!r} of GPUs, expected none")
    if amount > 1 and amount != int(amount):
        raise ValueError(f"{value!r} GPUs: more than one must be a whole number")
    return amount


def _quantity(value: object, expected: str) -> tuple[float, str]:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value))
    if isinstance(value, bool) or match is None or not float(match[1]) > 0:
        raise ValueError(f"expected {expected}, found {value!r}")
    return float(match[1]), match[2]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Traffic(_Model):
    """How a service takes requests. Times are in seconds."""

    timeout: float = Field(default=60.0, gt=0)
    max_concurrency: int | None = Field(default=None, gt=0)
    concurrency: int | None = Field(default=None, gt=0)
    external_queue: bool = False


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

    # Not acted on yet: `not_used` names them to those who set them.
    replicate_process: bool = False
    extra_ports: tuple[int, ...] = ()
    max_runner_connections: int = Field(default=16, gt=0)
    runner_connection: dict[str, object] = {}
    runner_probe: dict[str, object] = {}
    endpoints: dict[str, str] = {}
    http: dict[str, object] = {}
    ssl: dict[str, object] = {}
    metrics: dict[str, object] = {}
    logging: dict[str, object] = {}
    tracing: dict[str, object] = {}
    monitoring: dict[str, object] = {}
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
    "": (
        "replicate_process", "extra_ports", "max_runner_connections", "runner_connection", "runner_probe",
        "endpoints", "http", "ssl", "metrics", "logging", "tracing", "monitoring", "grpc",
    ),
}  # fmt: skip


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
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(location[-1]), _known_names(location[:-1]), n=1)
            reason = "unknown key" + (f", did you mean `{near[0]}`?" if near else "")
        else:
            reason = item["msg"].removeprefix("Value error, ")
        problems.append(ConfigProblem(location, reason))
    return problems


def _known_names(path: tuple[int | str, ...]) -> list[str]:
    models: dict[tuple[int | str, ...], type[BaseModel]] = {
        (): ServiceConfig,
        ("traffic",): Traffic,
        ("resources",): Resources,
    }
    return list(models.get(path, Worker).model_fields)
