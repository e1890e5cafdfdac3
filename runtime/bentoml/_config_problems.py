"""What is wrong with a configuration, in words for whoever wrote it."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Any, Final

from pydantic import BaseModel, ValidationError

# What stands in a log is read by more people than a password is for.
_SECRET: Final = frozenset({"keyfile_password", "headers"})


@dataclass(frozen=True)
class ConfigProblem:
    """A value of a configuration that is not valid: where it stands in it, and why."""

    location: tuple[int | str, ...]
    reason: str

    def __str__(self) -> str:
        return f"`{'.'.join(str(part) for part in self.location)}`: {self.reason}"


def config_problems(error: ValidationError, model: type[BaseModel]) -> list[ConfigProblem]:
    """Every value that does not fit the model, with the nearest name for an unknown key."""
    problems = []
    for item in error.errors():
        location = item["loc"]
        if location[0] == "workers":
            location = (location[0], *location[2:])  # without the form
        reason = _reason(model, location, item["type"], item["msg"], item["input"])
        problems.append(ConfigProblem(location, reason))
    return problems


def _reason(
    model: type[BaseModel], location: tuple[int | str, ...], kind: str, message: str, found: object
) -> str:
    if location == ("workers",):
        forms = 'a number above 0, "cpu_count", or a list with an item a worker'
        return f"expected {forms}, found {shortened(found)}"
    if kind == "extra_forbidden":
        return _unknown_key(model, location)
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    if kind == "model_type":
        example = next(iter(_model_at(model, location).model_fields))
        return f"expected a mapping with keys such as `{example}`, found {shortened(found)}"
    words = message.replace("Input should", "should", 1)
    return words if _SECRET.intersection(location) else f"{words}, found {shortened(found)}"


def _unknown_key(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    *section, name = location
    known = {key: key for key in _model_at(model, section).model_fields}
    near = difflib.get_close_matches(str(name), known, n=1)
    if not section:
        # Whoever writes `timeout` here has left out the section that it belongs to.
        known = {key.rpartition(".")[2]: key for key in reversed(list(_keys(model)))}
        near = [name] if name in known else near or difflib.get_close_matches(str(name), known, n=1)
    return "unknown key" + (f", did you mean `{known[near[0]]}`?" if near else "")


def _model_at(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel]:
    for part in location:
        if isinstance(part, str):  # an index is of a list whose annotation names what its items are
            model = next(_models_of(model.model_fields[part].annotation))
    return model


def _keys(model: type[BaseModel], section: str = "") -> Iterator[str]:
    """All keys with the sections that they stand in, the outer ones first."""
    for name, field in model.model_fields.items():
        yield section + name
        for inner in _models_of(field.annotation):
            yield from _keys(inner, f"{section}{name}.")


def _models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_of(argument)
