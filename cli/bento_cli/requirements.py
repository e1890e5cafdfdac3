"""The project's requirements, and which of its services each goes with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from bento_cli.bentofile import Bentofile, ServiceBuild, is_url
from bento_cli.errors import InputError, Problem, shown
from bento_cli.slicing import Slice
from bento_cli.yaml_file import YamlFile, read_text
from bentoml._requirements import RUNTIME_REQUIREMENTS

# The runtime is this project's own, in every image; the package index has others of these names.
_OURS: Final = frozenset({"bentoml", "bento-toolchain"})
# Lines of a requirements.txt that are no requirements, by the names that are written out.
_SHORT_OPTIONS: Final = {"-r": "--requirement", "-i": "--index-url", "-f": "--find-links"}
_INDEX_OPTIONS: Final = frozenset({"--index-url", "--extra-index-url", "--find-links"})


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


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What a project lists: requirements, and lines that say where they are looked for."""

    lines: tuple[Line, ...]
    options: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def project_requirements(root: Path, bentofile: Bentofile, file: YamlFile) -> Listed:
    """What `python.requirements_txt`, or else `python.packages`, lists.

    Raises:
        InputError: a file that is not there, and lines that are no requirements, each with its place.
    """
    python = bentofile.python
    options = [f"--index-url {python.index_url}"] if python.index_url else []
    options += [f"--extra-index-url {url}" for url in python.extra_index_url]
    options += [f"--find-links {url}" for url in python.find_links]
    if python.requirements_txt is None:
        places = [file.problem(("python", "packages", i), "") for i in range(len(python.packages))]
        lines = _parse(list(zip(python.packages, places, strict=True)))
        return Listed(lines=tuple(lines), options=tuple(options))
    place = file.problem(("python", "requirements_txt"), "")
    reader = _RequirementsReader(root)
    reader.read(root / python.requirements_txt, place)
    lines = reader.parsed()
    note = f"{file.path.name}: `python.packages` is not read, as `python.requirements_txt` names a file"
    if python.index_url:  # there is one index that all others come on top of
        reader.options = [option for option in reader.options if not option.startswith("--index-url ")]
    return Listed(
        lines=tuple(lines),
        options=tuple(dict.fromkeys([*options, *reader.options])),
        notes=(note,) if python.packages else (),
    )


@dataclass
class _RequirementsReader:
    """Reads a requirements.txt and those that it names with `-r`."""

    root: Path
    lines: list[tuple[str, Problem]] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    seen: set[Path] = field(default_factory=set)

    def parsed(self) -> list[Line]:
        lines: list[Line] = []
        try:
            lines = _parse(self.lines)
        except InputError as error:
            self.problems += error.problems
        if self.problems:
            raise InputError(self.problems)
        return lines

    def read(self, path: Path, named_by: Problem) -> None:
        if not path.resolve().is_relative_to(self.root.resolve()):
            self.problems.append(replace(named_by, message=f"{path.name!r} leads out of the project"))
        elif not path.is_file():
            self.problems.append(replace(named_by, message=f"names {shown(path)}, which is no file"))
        elif path.resolve() not in self.seen:
            self.seen.add(path.resolve())
            for number, text in _logical_lines(read_text(path)):
                self._read_line(text, Problem(path, number, ""))

    def _read_line(self, text: str, place: Problem) -> None:
        if not text.startswith("-"):
            requirement, space, option = text.partition(" --")
            if space:
                name = re.split(r"[=\s]", option)[0]
                message = f"`--{name}` of {requirement.strip()!r} is not read here"
                self.problems.append(replace(place, message=message))
            else:
                self.lines.append((text, place))
            return
        option, value = _option(text)
        if option == "--requirement":
            self.read(place.path.parent / value, place)
        elif option not in _INDEX_OPTIONS:
            message = f"`{option}` is not read here; what is: -r, {', '.join(sorted(_INDEX_OPTIONS))}"
            self.problems.append(replace(place, message=message))
        elif not is_url(value):
            message = f"`{option}`: expected a URL, found {value!r}: a folder is not in the image"
            self.problems.append(replace(place, message=message))
        else:
            self.options.append(f"{option} {value}")


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, each with its number; a backslash at the end joins the next."""
    pending, start = "", 0
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        start = start if pending else number
        line = pending + re.sub(r"(^|\s)#.*$", "", raw)
        pending = line[:-1] if line.endswith("\\") else ""
        if not line.endswith("\\") and line.strip():
            yield start, line.strip()


def _option(text: str) -> tuple[str, str]:
    """`-r file`, `--requirement file` and `--requirement=file` alike."""
    match = re.fullmatch(r"(--[a-z-]+|-[a-z])\s*=?\s*(.*)", text)
    option, value = (match[1], match[2]) if match else (text, "")
    return _SHORT_OPTIONS.get(option, option), value


def service_requirements(
    bentofile: Bentofile, file: YamlFile, services: Sequence[str]
) -> dict[str, list[Line]]:
    """What `services.<Name>.python.packages` adds.

    Raises:
        InputError: lines that are no requirements.
    """
    listed = [
        (service, text, file.problem(("services", service, "python", "packages", index), ""))
        for service in services
        for index, text in enumerate(bentofile.services.get(service, ServiceBuild()).python.packages)
    ]
    lines = _parse([(text, place) for _, text, place in listed])
    added: dict[str, list[Line]] = {service: [] for service in services}
    for (service, _, _), line in zip(listed, lines, strict=True):
        added[service].append(line)
    return added


def _parse(lines: Sequence[tuple[str, Problem]]) -> list[Line]:
    parsed: list[Line] = []
    problems: list[Problem] = []
    for text, place in lines:
        try:
            parsed.append(Line(text.strip(), canonicalize_name(Requirement(text).name)))
        except InvalidRequirement as error:
            reason = str(error).splitlines()[0]
            message = f"{text!r} is no requirement such as `numpy>=2`: {reason}"
            problems.append(replace(place, message=message))
    if problems:
        raise InputError(problems)
    return parsed


def assign(
    lines: Sequence[Line], slices: Sequence[Slice], added: Mapping[str, Sequence[Line]]
) -> Requirements:
    """Decide which services hold which requirement.

    One that a service's slice reaches or its command names goes with that service. One that no service is
    known to need goes with those that hold a distribution of which it is a plug-in, and where nobody knows,
    with all. What is added for one service takes the place of the project's own line for the same
    distribution.
    """
    notes = [f"requirement {line.text!r} is left out: the runtime is in every image" for line in _ours(lines)]
    lines = [line for line in lines if line.name not in _OURS]
    added = {part.service: [a for a in added.get(part.service, ()) if a.name not in _OURS] for part in slices}
    imported = {module for part in slices for module in (*part.reached, *part.absent)}
    modules = {line.name: frozenset(_modules(line.name, imported)) for line in lines}
    held = {part.service: _reached(part, modules) for part in slices}
    placed = {name for names in held.values() for name in names}
    for service, own in added.items():
        held[service].update((line.name, f"services.{service}.python.packages") for line in own)
    rest = [name for name, brought in modules.items() if name not in placed and not brought & imported]
    _place_the_rest(rest, held)
    decisions = [
        _decision(part.service, line, lines, added[part.service], held[part.service])
        for line in dict.fromkeys([*lines, *(line for own in added.values() for line in own)])
        for part in slices
    ]
    brought = {m for own in added.values() for line in own for m in _modules(line.name, imported)}
    brought = brought.union(_runtime_modules(), *modules.values())
    return Requirements(
        by_service={
            part.service: tuple(
                sorted({d.requirement for d in decisions if d.is_held and d.service == part.service})
            )
            for part in slices
        },
        decisions=tuple(decisions),
        notes=(*notes, *_missing(slices, brought)),
    )


def _ours(lines: Sequence[Line]) -> Iterator[Line]:
    return (line for line in lines if line.name in _OURS)


def _reached(part: Slice, modules: Mapping[str, frozenset[str]]) -> dict[str, str]:
    """The requirements that a slice reaches, each with where, and those that a command names."""
    found = {}
    for name, brought in modules.items():
        reached = [part.reached[module] for module in sorted(brought) if module in part.reached]
        tops = ((word, word.partition(".")[0]) for word in part.command)
        words = [word for word, top in tops if top in brought or canonicalize_name(top) == name]
        if reached or words:
            found[name] = reached[0] if reached else f"`{words[0]}` in its command"
    return found


def _place_the_rest(waiting: Sequence[str], held: Mapping[str, dict[str, str]]) -> None:
    """Put what nothing imports with its hosts, and what has none everywhere."""
    # Plug-ins of plug-ins: each round may find hosts among those that the last one placed.
    for _ in waiting:
        for name in waiting:
            for names in held.values():
                host = next((other for other in sorted(names) if _is_plugin(name, other)), None)
                if host is not None:
                    names.setdefault(name, f"plug-in of {host}")
    for name in waiting:
        if not any(name in names for names in held.values()):
            for names in held.values():
                names[name] = "nothing imports it: kept everywhere"


def _decision(
    service: str, line: Line, lines: Sequence[Line], added: Sequence[Line], held: Mapping[str, str]
) -> Decision:
    if line in added:
        is_held, why = True, held[line.name]
    elif any(line.name == other.name for other in added):
        is_held, why = False, f"services.{service}.python.packages says otherwise"
    else:
        is_held = line in lines and line.name in held
        why = held[line.name] if is_held else "not reached"
    return Decision(service=service, requirement=line.text, is_held=is_held, why=why)


def _missing(slices: Sequence[Slice], brought: set[str]) -> Iterator[str]:
    """A note for each module that a slice reaches and that no requirement brings."""
    for module in sorted({m for part in slices for m in part.reached} - brought):
        where = next(part.reached[module] for part in slices if module in part.reached)
        yield f"no requirement brings `{module}` ({where}); it must come with another one"


def absent_modules(part: Slice, held: Sequence[str]) -> frozenset[str]:
    """The modules for which placeholders stand in: those that no held requirement brings."""
    brought = {m for text in held for m in _modules(canonicalize_name(Requirement(text).name), part.absent)}
    return part.absent - brought - _runtime_modules()


def runtime_requirements() -> tuple[str, ...]:
    """What the runtime itself needs, with the version ranges of this distribution."""
    lines = [Requirement(line) for line in metadata.requires("bento-toolchain") or ()]
    return tuple(sorted(str(r) for r in lines if canonicalize_name(r.name) in RUNTIME_REQUIREMENTS))


@cache
def _runtime_modules() -> frozenset[str]:
    """What the runtime's requirements bring, and what those require in turn."""
    seen: set[str] = set()
    waiting = list(RUNTIME_REQUIREMENTS)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += _required(name)
    return frozenset(module for name in seen for module in _modules(name, frozenset()))


def _required(name: str) -> Iterator[str]:
    """What an installed distribution requires here, without its extras."""
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


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
