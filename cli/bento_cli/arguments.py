"""Arguments of a Bento: what `bentoml.use_arguments` returns in its services."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from bento_cli.errors import BentoError, InputError, NotFoundError, Problem, shown
from bento_cli.yaml_file import YamlFile, load_yaml, read_text

Arguments: TypeAlias = Mapping[str, object]
"""Values that JSON can hold, by their names."""

_MAX_DEPTH: Final = 50


def json_value(value: object) -> object:
    """The value itself, where JSON can hold it.

    Raises:
        ValueError: it cannot.
    """
    _require_json(value, depth=0)
    return value


def _require_json(value: object, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested more than {_MAX_DEPTH} deep")
    match value:
        case None | bool() | int():
            pass
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{value} is no number that JSON has")
        case str():
            if any("\ud800" <= c <= "\udfff" for c in value):
                raise ValueError("half of a surrogate pair cannot be written to a file")
        case list():
            for item in value:
                _require_json(item, depth + 1)
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise ValueError(f"the key {key!r} is no text: write it in quotes")
                _require_json(item, depth + 1)
        case _:
            raise ValueError(f"`{value}` is no value that JSON has: write it in quotes")


def argument_value(text: str) -> object:
    """What `name=TEXT` gives on a command line: what the text says as JSON, else the text itself."""
    try:
        return json_value(json.loads(text))
    except (ValueError, RecursionError):
        return text


def as_arguments(given: Mapping[str, object]) -> dict[str, object]:
    """Arguments that do not come from a file, checked.

    Raises:
        BentoError: names every one that JSON cannot hold.
    """
    problems = _problems(given)
    if problems:
        raise BentoError("\n".join(f"argument {problem}" for problem in problems.values()))
    return dict(given)


def load_arguments(paths: Iterable[Path]) -> dict[str, object]:
    """The arguments that YAML or JSON files hold; later files win.

    Raises:
        NotFoundError: there is no such file.
        InputError: every problem of the first file that has any.
    """
    arguments: dict[str, object] = {}
    for path in paths:
        file = _load_json(path) if path.suffix == ".json" else load_yaml(path)
        assert isinstance(file.data, dict)  # noqa: S101  # what a file is read as
        problems = _problems(file.data)
        if problems:
            raise InputError(file.problem((str(name),), text) for name, text in problems.items())
        arguments.update(file.data)
    return arguments


def _problems(given: Mapping[object, object] | Mapping[str, object]) -> dict[object, str]:
    """What is wrong with arguments, by their names."""
    problems: dict[object, str] = {}
    for name, value in given.items():
        try:
            json_value({name: value})
        except ValueError as error:
            problems[name] = f"`{name}`: {error}"
    return problems


def _load_json(path: Path) -> YamlFile:
    """As JSON and not as YAML, to which tabs and numbers such as `1e3` are something else."""
    if not path.is_file():
        raise NotFoundError(f"{shown(path)}: no such file")
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError([Problem(path, error.lineno, f"not JSON: {error.msg}", error.colno)]) from None
    except RecursionError:
        raise InputError([Problem(path, None, f"nested more than {_MAX_DEPTH} deep")]) from None
    if not isinstance(data, dict):
        raise InputError([Problem(path, 1, "expected an object of names and values")])
    return YamlFile(path, data, {})
