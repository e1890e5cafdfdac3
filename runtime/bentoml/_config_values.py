"""The kinds of values that a service's configuration is made of, as types that say what is valid."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from reprlib import repr as shortened
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field

from bentoml._quantities import cpus, gpus, memory_bytes


def _number(value: object) -> object:
    """To Python `True` is 1, to whoever wrote it it is none."""
    if isinstance(value, bool):
        raise ValueError(f"expected a number, found {value!r}")
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from None
    return text


def _route_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError(f"expected a path that starts with `/`, found {text!r}")
    return text


def _metric_name(text: str) -> str:
    if re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", text) is None:
        raise ValueError(f"expected letters, digits, `_` and `:`, no digit first, found {text!r}")
    return text


def _number_format(text: str) -> str:
    if re.fullmatch(r"0?\d{0,3}[xXd]", text) is None:
        raise ValueError(f"expected how a number is written, such as `032x` or `d`, found {text!r}")
    return text


def _bounds(values: tuple[float, ...]) -> tuple[float, ...]:
    finite = values[:-1] if values[-1:] == (math.inf,) else values  # what every histogram ends with
    is_rising = all(lower < upper for lower, upper in pairwise((0.0, *finite, math.inf)))
    if not finite or not is_rising:
        raise ValueError(
            f"expected seconds above 0, each more than the one before, found {shortened(values)}"
        )
    return finite


def _headers(value: object) -> object:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return value
    if not all(isinstance(pair, Sequence) and len(pair) == 2 for pair in value):
        raise ValueError("expected names and values, as a mapping or in pairs")
    return {name: text for name, text in value}  # noqa: C416  # to `dict` a text of two characters is a pair too


Number: Final = BeforeValidator(_number)
Lower: Final = BeforeValidator(_lower)

Count = Annotated[int, Field(gt=0), Number]
Port = Annotated[int, Field(gt=0, lt=65536), Number]
Seconds = Annotated[float, Field(gt=0), Number]
Cpus = Annotated[float, BeforeValidator(cpus)]
Memory = Annotated[int, BeforeValidator(memory_bytes)]
Gpus = Annotated[float, BeforeValidator(gpus)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Expression = Annotated[str, AfterValidator(_expression)]
Expressions = Annotated[tuple[Expression, ...], BeforeValidator(_listed)]
RoutePath = Annotated[str, AfterValidator(_route_path)]
MetricName = Annotated[str, AfterValidator(_metric_name)]
NumberFormat = Annotated[str, AfterValidator(_number_format)]
Headers = Annotated[dict[str, str], BeforeValidator(_headers)]

_Bound = Annotated[float, Field(allow_inf_nan=True), Number]
Bounds = Annotated[tuple[_Bound, ...], AfterValidator(_bounds)]
