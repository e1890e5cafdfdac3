"""Metrics of a service's own, which its `/metrics` shows beside those of the server.

They are those of `prometheus_client`, summed over the service's workers. The same declaration made again, as
when a module is loaded twice or a class instantiated twice, gives the metric that exists already.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import prometheus_client

__all__ = ["Counter", "Gauge", "Histogram", "Summary"]

_P = ParamSpec("_P")
_Metric = TypeVar("_Metric")

_declarations: dict[tuple[object, ...], str] = {}


def _once(kind: Callable[_P, _Metric], kind_name: str) -> Callable[_P, _Metric]:
    """Makes metrics as `kind` does, each of them once in a process."""
    signature = inspect.signature(kind)
    made: dict[tuple[object, ...], _Metric] = {}

    def declare(*args: _P.args, **kwargs: _P.kwargs) -> _Metric:
        arguments = signature.bind(*args, **kwargs).arguments
        if "registry" in arguments:
            return kind(*args, **kwargs)  # the caller's own, not shown with the service's
        name = tuple(arguments.get(part) for part in ("namespace", "subsystem", "name", "unit"))
        shown = ", ".join(f"{key}={_as_tuple(value)!r}" for key, value in sorted(arguments.items()))
        declaration = f"{kind_name}({shown})"
        before = _declarations.setdefault(name, declaration)
        if before != declaration:
            raise ValueError(f"a metric has one declaration: found {declaration} after {before}")
        if name not in made:
            made[name] = kind(*args, **kwargs)
        return made[name]

    return declare


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram, Summary
else:
    Counter = _once(prometheus_client.Counter, "Counter")
    Gauge = _once(prometheus_client.Gauge, "Gauge")
    Histogram = _once(prometheus_client.Histogram, "Histogram")
    Summary = _once(prometheus_client.Summary, "Summary")


def __getattr__(name: str) -> object:
    if name in ("Info", "Enum"):
        raise AttributeError(
            f"bentoml.metrics has no {name}: its text cannot be summed over a service's workers; "
            "use a Gauge whose labels hold the text and whose value is 1"
        )
    raise AttributeError(f"module 'bentoml.metrics' has no attribute {name!r}")
