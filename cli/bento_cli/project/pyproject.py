"""`[tool.bentoml.build]` of pyproject.toml: what a bentofile says, in a project that has none."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from bento_cli.errors import BentoError, InputError, Problem, nearest, shown
from bento_cli.names import is_bento_name
from bento_cli.yaml_file import YamlFile, read_text

PYPROJECT = "pyproject.toml"
BUILD_TABLE = "[tool.bentoml.build]"

_LOCATION = ("tool", "bentoml", "build")
_HEADER = re.compile(r"\s*\[(\[?)([^\[\]]+)\]")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


def has_build_table(project: Path) -> bool:
    """Whether settings stand there."""
    path = project / PYPROJECT
    if not path.is_file():
        return False
    return re.search(r"^\s*\[+\s*tool\s*\.\s*bentoml\b", read_text(path), re.MULTILINE) is not None


def read_build_table(project: Path) -> YamlFile:
    """The table, not checked yet, with what `[project]` adds: its name, and its dependencies as packages.

    Raises:
        BentoError: this Python has nothing to read TOML with.
        InputError: the file is no TOML, or the table is none.
    """
    path = project / PYPROJECT
    text = read_text(path)
    document = _parsed(text, path)
    lines = dict(_lines(text))
    table = document.get("tool", {}).get("bentoml", {}).get("build", {})
    if not isinstance(table, dict):
        raise InputError([Problem(path, lines.get(_LOCATION), f"expected the table `{BUILD_TABLE}`")])
    own = {place[len(_LOCATION) :]: n for place, n in lines.items() if place[: len(_LOCATION)] == _LOCATION}
    described = document.get("project", {})
    name = str(described.get("name", "")).lower()
    if is_bento_name(name):
        table.setdefault("name", name)
        own.setdefault(("name",), lines.get(("project", "name"), 1))
    python = table.setdefault("python", {})
    if isinstance(python, dict) and not python.get("requirements_txt"):
        packages = python.get("packages", [])
        dependencies = described.get("dependencies", [])
        if isinstance(packages, list) and isinstance(dependencies, list):
            python["packages"] = [*packages, *dependencies]
            place = lines.get(("project", "dependencies"), 1)
            for number in range(len(packages), len(python["packages"])):
                own["python", "packages", str(number)] = place
    return YamlFile(path, table, own)


def project_dependencies(project: Path) -> list[tuple[str, Problem]]:
    """`[project] dependencies` of a project, each with its place; none where it has no such file.

    Raises:
        BentoError: this Python has nothing to read TOML with.
        InputError: the file is no TOML.
    """
    path = project / PYPROJECT
    if not path.is_file():
        return []
    text = read_text(path)
    if re.search(r"^\s*dependencies\s*=|^\s*project\.dependencies\s*=", text, re.MULTILINE) is None:
        return []
    listed = _list_at(_parsed(text, path), "project", "dependencies")
    place = Problem(path, dict(_lines(text)).get(("project", "dependencies")), "")
    return [(line, place) for line in listed if isinstance(line, str)]


def named_dependencies(
    project: Path, table: str, asked: Sequence[tuple[str, Problem]]
) -> list[tuple[str, Problem]]:
    """What `project.optional-dependencies` or `dependency-groups` lists under names, each with its place.

    Args:
        table: one of these.
        asked: the names, and where they are asked for; a group may name others.

    Raises:
        BentoError: this Python has nothing to read TOML with.
        InputError: there is no such name, or the file is no TOML.
    """
    path = project / PYPROJECT
    if not asked:
        return []
    if not path.is_file():
        message = f"names what {PYPROJECT} lists, and there is no such file"
        raise InputError([replace(place, message=message) for _, place in asked])
    text = read_text(path)
    keys = tuple(table.split("."))
    listed = {
        canonicalize_name(name): entries for name, entries in _table_at(_parsed(text, path), *keys).items()
    }
    lines = {canonicalize_name(place[-1]): n for place, n in _lines(text) if place[:-1] == keys}
    found: list[tuple[str, Problem]] = []
    waiting, seen = list(asked), set()
    while waiting:
        name, place = waiting.pop(0)
        own = canonicalize_name(name)
        if own not in listed:
            message = f"`{table}` of {PYPROJECT} has no {name!r}{nearest(name, sorted(listed), 'names')}"
            raise InputError([replace(place, message=message)])
        if own not in seen:
            seen.add(own)
            here = Problem(path, lines.get(own), "")
            entries = listed[own] if isinstance(listed[own], list) else []
            found += [(entry, here) for entry in entries if isinstance(entry, str)]
            waiting += [
                (str(e["include-group"]), here)
                for e in entries
                if isinstance(e, dict) and "include-group" in e
            ]
    return found


def uv_indexes(project: Path) -> list[tuple[str, str, Problem]]:
    """Where `[[tool.uv.index]]` looks for packages: option of a requirements.txt, URL and place of each.

    Those that uv asks for single packages alone are left out: they are no place for all others.

    Raises:
        BentoError: this Python has nothing to read TOML with.
        InputError: the file is no TOML.
    """
    path = project / PYPROJECT
    if not path.is_file():
        return []
    text = read_text(path)
    if re.search(r"^\s*\[\[\s*tool\s*\.\s*uv\s*\.\s*index\s*\]\]", text, re.MULTILINE) is None:
        return []
    lines = dict(_lines(text))
    found = []
    for number, index in enumerate(_list_at(_parsed(text, path), "tool", "uv", "index")):
        place = Problem(path, lines.get(("tool", "uv", "index", str(number))), "")
        if isinstance(index, dict) and isinstance(index.get("url"), str) and not index.get("explicit"):
            option = "--index-url" if index.get("default") else "--extra-index-url"
            found.append((option, index["url"], place))
    return found


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ModuleNotFoundError:
        raise BentoError(
            f"{shown(path)}: Python 3.10 has nothing to read TOML with",
            hint="install `tomli`, use Python 3.11 or newer, or write these settings in bentofile.yaml",
        ) from None
    try:
        document: dict[str, Any] = toml.loads(text)
    except toml.TOMLDecodeError as error:
        found = re.search(r"at line (\d+), column (\d+)", str(error))
        line, column = (int(found[1]), int(found[2])) if found else (None, None)
        message = str(error).partition(" (at ")[0]
        raise InputError([Problem(path, line, f"not TOML: {message}", column)]) from None
    return document


def _table_at(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    found: Any = document
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _list_at(document: dict[str, Any], *keys: str) -> list[Any]:
    found: Any = document
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, list) else []


def _lines(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """The line of each table and key by its location; a list of tables has a number for each."""
    table: tuple[str, ...] = ()
    seen: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _parts(header[2])
            if header[1]:
                seen[table] = seen.get(table, -1) + 1
                table = (*table, str(seen[table]))
            yield table, number
        elif key := _KEY.match(line):
            yield (*table, *_parts(key[1])), number


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))
