"""A YAML file: its data, and the line that each value stands on."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from bento_cli.errors import InputError, NotFoundError, Problem

M = TypeVar("M", bound=BaseModel)

Location = tuple[str | int, ...]

_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class YamlFile:
    """Parsed YAML; `lines` holds the line of each key and list item by its location."""

    path: Path
    data: object
    lines: dict[Location, int]

    def line_of(self, location: Sequence[str | int]) -> int | None:
        """The line of a value, or of the nearest thing around it that the file has."""
        known = tuple(location)
        while known and known not in self.lines:
            known = known[:-1]
        return self.lines.get(known)

    def problem(self, location: Sequence[str | int], message: str) -> Problem:
        """A problem with the value at `location`."""
        return Problem(self.path, self.line_of(location), message)


def load_yaml(path: Path, *, missing_hint: str | None = None) -> YamlFile:
    """Read a YAML file whose top level is a mapping.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is no YAML, says a key twice, or its top level is no mapping.
    """
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{path}: no such file", hint=missing_hint) from None
    except IsADirectoryError:
        raise NotFoundError(f"{path}: is a folder, expected a YAML file", hint=missing_hint) from None
    if len(raw) > _MAX_BYTES:
        raise InputError([Problem(path, None, f"{len(raw)} bytes are more than the {_MAX_BYTES} allowed")])
    return parse_yaml(raw, path)


def parse_yaml(raw: bytes | str, path: Path) -> YamlFile:
    """The same for text that is there already; `path` is where it came from.

    Raises:
        InputError: it is no YAML, says a key twice, or its top level is no mapping.
    """
    lines: dict[Location, int] = {}
    problems: list[Problem] = []
    try:
        # An alias may make a small file a huge tree; none of these files needs one.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(raw, yaml.SafeLoader)):
            raise InputError([Problem(path, None, "YAML aliases (`*name`) are not used in this file")])
        node = yaml.compose(raw, yaml.SafeLoader)
        if node is not None:
            for location, place, is_repeated in _walk(node, ()):
                lines.setdefault(location, place)
                if is_repeated:
                    problems.append(Problem(path, place, f"`{location[-1]}` stands here a second time"))
        data = yaml.safe_load(raw)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        message = f"not YAML: {error.problem or error.context}"
        raise InputError([Problem(path, line, message, column)]) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError([Problem(path, None, f"not YAML: {error}")]) from None
    except ValueError as error:  # a date such as 2026-02-31
        raise InputError([Problem(path, None, f"a value cannot be read: {error}")]) from None
    if problems:
        raise InputError(problems)
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise InputError([Problem(path, 1, f"expected keys and values, found a {_kind(data)}")])
    return YamlFile(path, data, lines)


def validate(file: YamlFile, model: type[M]) -> M:
    """The file's data as `model`.

    Raises:
        InputError: every value that does not fit, with its line and the nearest valid name.
    """
    try:
        return model.model_validate(file.data)
    except ValidationError as error:
        raise InputError(list(_problems(file, model, error))) from None


def _problems(file: YamlFile, model: type[BaseModel], error: ValidationError) -> Iterator[Problem]:
    for item in error.errors():
        location = item["loc"]
        where = ".".join(str(part) for part in location)
        if item["type"] == "extra_forbidden":
            known = fields_at(model, location[:-1])
            yield file.problem(location, _unknown(f"unknown field `{where}`", str(location[-1]), known))
        elif item["type"] == "missing":
            yield file.problem(location, f"`{where}` is missing")
        else:
            message = item["msg"].removeprefix("Value error, ")
            yield file.problem(location, f"`{where}`: {message[:1].lower()}{message[1:]}")


def _unknown(message: str, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"{message}, did you mean `{near[0]}`?"
    return f"{message}; valid: {', '.join(known)}" if known else message


def fields_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Names of the fields that are valid at `location` of a model; empty where any name is."""
    current: object = model
    for part in location:
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            return []
        field = next((f for name, f in current.model_fields.items() if part in (name, f.alias)), None)
        if field is None:
            return []
        current = next(iter(_models_in(field.annotation)), None)
    if isinstance(current, type) and issubclass(current, BaseModel):
        return [field.alias or name for name, field in current.model_fields.items()]
    return []


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def _walk(node: yaml.Node, location: Location) -> Iterator[tuple[Location, int, bool]]:
    """Every key and list item below a node: its location, its line, and whether the key came before."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else str(key_node.start_mark.line)
            yield (*location, key), key_node.start_mark.line + 1, key in seen
            seen.add(key)
            yield from _walk(value_node, (*location, key))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*location, index), item.start_mark.line + 1, False
            yield from _walk(item, (*location, index))


def _kind(value: object) -> str:
    names: dict[type, str] = {list: "list", str: "text", int: "number", float: "number", bool: "boolean"}
    return names.get(type(value), type(value).__name__)
