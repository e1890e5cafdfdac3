"""The project's requirements, and which of its services each goes with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from bento_cli.bentofile import Bentofile
from bento_cli.errors import InputError, NotFoundError, Problem
from bento_cli.slicing import Slice
from bento_cli.yaml_file import YamlFile
from bentoml._requirements import RUNTIME_REQUIREMENTS

# The runtime is this project's own, in every image; the package index has others of these names.
_OURS = frozenset({"bentoml", "bento-toolchain"})


@dataclass(frozen=True)
class Line:
    """One requirement as the project wrote it."""

    text: str
    name: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a service's image holds a requirement, and why."""

    service: str
    requirement: str
    is_held: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """Requirement lines by service, the decisions behind them, and what was noticed on the way."""

    by_service: Mapping[str, tuple[str, ...]]
    decisions: tuple[Decision, ...]
    notes: tuple[str, ...] = ()


def project_requirements(root: Path, bentofile: Bentofile, file: YamlFile) -> list[Line]:
    """What `python.requirements_txt`, or else `python.packages`, lists.

    Raises:
        NotFoundError: the file that is named is not there.
        InputError: lines that are no requirements, each with its place.
    """
    if bentofile.python.requirements_txt is None:
        places = [
            (file.path, file.line_of(("python", "packages", i)))
            for i in range(len(bentofile.python.packages))
        ]
        return _parse(list(zip(bentofile.python.packages, places, strict=True)))
    path = root / bentofile.python.requirements_txt
    if not path.resolve().is_relative_to(root.resolve()):
        problem = file.problem(
            ("python", "requirements_txt"), f"{bentofile.python.requirements_txt!r} leads out of the project"
        )
        raise InputError([problem])
    if not path.is_file():
        line = file.line_of(("python", "requirements_txt"))
        raise NotFoundError(f"{path}: no such file", hint=f"{file.path}:{line} names it")
    lines: list[tuple[str, tuple[Path, int | None]]] = []
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = raw.split(" #", 1)[0].strip()
        if text and not text.startswith("#"):
            lines.append((text, (path, number)))
    return _parse(lines)


def service_requirements(
    bentofile: Bentofile, file: YamlFile, services: Sequence[str]
) -> dict[str, list[Line]]:
    """What `services.<Name>.python.packages` adds.

    Raises:
        InputError: lines that are no requirements.
    """
    added: dict[str, list[Line]] = {}
    for service in services:
        build = bentofile.services.get(service)
        packages = build.python.packages if build else ()
        location = ("services", service, "python", "packages")
        added[service] = _parse(
            [(text, (file.path, file.line_of((*location, i)))) for i, text in enumerate(packages)]
        )
    return added


def _parse(lines: Sequence[tuple[str, tuple[Path, int | None]]]) -> list[Line]:
    parsed: list[Line] = []
    problems: list[Problem] = []
    for text, (path, number) in lines:
        try:
            parsed.append(Line(text, canonicalize_name(Requirement(text).name)))
        except InvalidRequirement as error:
            reason = str(error).splitlines()[0]
            problems.append(Problem(path, number, f"{text!r} is no requirement such as `numpy>=2`: {reason}"))
    if problems:
        raise InputError(problems)
    return parsed


def assign(
    lines: Sequence[Line], slices: Sequence[Slice], added: Mapping[str, Sequence[Line]]
) -> Requirements:
    """Decide which services hold which requirement.

    One that a service's slice reaches goes with that service. One that nothing imports goes with the
    services that hold a distribution of which it is a plug-in, and where nobody knows, with all.
    """
    imported = {module for part in slices for module in (*part.reached, *part.absent)}
    notes = [
        f"requirement {line.text!r} is left out: the runtime is part of every image"
        for line in lines
        if line.name in _OURS
    ]
    lines = [line for line in lines if line.name not in _OURS]
    modules = {line.name: frozenset(_modules(line.name, imported)) for line in lines}
    held: dict[str, dict[str, str]] = {part.service: {} for part in slices}
    for part in slices:
        for line in lines:
            why = next((part.reached[m] for m in sorted(modules[line.name]) if m in part.reached), None)
            if why is not None:
                held[part.service][line.name] = why
        for line in added.get(part.service, ()):
            held[part.service][line.name] = f"services.{part.service}.python.packages"
    # Plug-ins of plug-ins: each round may find hosts among those that the last one placed.
    waiting = [line for line in lines if not modules[line.name] & imported]
    for _ in waiting:
        for line in waiting:
            for service in held:
                host = next((h for h in sorted(held[service]) if _is_plugin(line.name, h)), None)
                if host is not None:
                    held[service].setdefault(line.name, f"plug-in of {host}")
    for line in waiting:
        if not any(line.name in names for names in held.values()):
            for names in held.values():
                names[line.name] = "nothing imports it: kept everywhere"
    texts = {line.name: line.text for line in lines}
    by_service = {}
    for service, names in held.items():
        extra = {line.name: line.text for line in added.get(service, ())}
        by_service[service] = tuple(sorted({**texts, **extra}[name] for name in names))
    decisions = tuple(
        Decision(
            service=part.service,
            requirement=line.text,
            is_held=line.name in held[part.service],
            why=held[part.service].get(line.name, "not reached"),
        )
        for line in lines
        for part in slices
    )
    brought = {
        module
        for line in [*lines, *(a for b in added.values() for a in b)]
        for module in _modules(line.name, imported)
    }
    for module in sorted({m for part in slices for m in part.reached} - brought):
        part = next(part for part in slices if module in part.reached)
        notes.append(
            f"no requirement brings `{module}` ({part.reached[module]}); it must come with another one"
        )
    return Requirements(by_service=by_service, decisions=decisions, notes=tuple(notes))


def absent_modules(part: Slice, held: Sequence[str]) -> frozenset[str]:
    """The modules for which placeholders stand in: those that no held requirement brings."""
    brought = {m for text in held for m in _modules(canonicalize_name(Requirement(text).name), part.absent)}
    return part.absent - brought - _runtime_modules()


def runtime_requirements() -> tuple[str, ...]:
    """What the runtime itself needs, with the version ranges of this distribution."""
    lines = [Requirement(line) for line in metadata.requires("bento-toolchain") or ()]
    return tuple(sorted(str(r) for r in lines if canonicalize_name(r.name) in RUNTIME_REQUIREMENTS))


def _runtime_modules() -> frozenset[str]:
    return frozenset(m for name in RUNTIME_REQUIREMENTS for m in _modules(name, frozenset())) | {"starlette"}


def _modules(name: str, wanted: frozenset[str] | set[str]) -> Iterator[str]:
    """Top-level modules that a distribution brings: from the table, its name, or where it is installed."""
    known = _table()["modules"].get(name)
    if known is not None:
        yield from known
        return
    guess = name.replace("-", "_")
    yield guess
    if guess not in wanted:
        yield from _installed_modules(name)


@cache
def _installed_modules(name: str) -> tuple[str, ...]:
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return ()
    listed = (distribution.read_text("top_level.txt") or "").split()
    if listed:
        return tuple(listed)
    tops = {Path(str(path)).parts[0] for path in distribution.files or () if str(path).endswith(".py")}
    return tuple(sorted(top.removesuffix(".py") for top in tops if not top.endswith((".dist-info", ".data"))))


def _is_plugin(name: str, host: str) -> bool:
    return host in _table()["plugins"].get(name, ()) or name in _extras(host)


@cache
def _extras(name: str) -> frozenset[str]:
    """Distributions that an installed one names in an extra."""
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return frozenset()
    return frozenset(canonicalize_name(Requirement(line).name) for line in lines if "extra ==" in line)


@cache
def _table() -> dict[str, dict[str, list[str]]]:
    text = resources.files("bento_cli").joinpath("data/distributions.json").read_text(encoding="utf-8")
    table: dict[str, dict[str, list[str]]] = json.loads(text)
    return table
