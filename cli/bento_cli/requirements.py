"""The project's requirements, and which of its services each goes with."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from bento_cli.bentofile import Bentofile, ServiceBuild, is_url, require_no_password
from bento_cli.errors import InputError, Problem, nearest, shown
from bento_cli.pyproject import PYPROJECT, project_dependencies, uv_indexes
from bento_cli.slicing import Slice
from bento_cli.yaml_file import YamlFile, read_text
from bentoml._requirements import RUNTIME_REQUIREMENTS

# The runtime is this project's own, in every image; the package index has others of these names.
_OURS: Final = frozenset({"bentoml", "bento-toolchain"})
_DISTRIBUTION: Final = "bento-toolchain"
# What other releases of these names call an extra, and what it is called here.
_EXTRAS: Final = {"redis": "redis", "tracing": "tracing", "tracing-otlp": "tracing", "wsgi": "wsgi"}
# Lines of a requirements.txt that are no requirements, by the names that are written out.
_SHORT_OPTIONS: Final = {
    "-c": "--constraint",
    "-f": "--find-links",
    "-i": "--index-url",
    "-r": "--requirement",
}
_INDEX_OPTIONS: Final = frozenset({"--index-url", "--extra-index-url", "--find-links"})
_REQUIREMENTS_TXT: Final = "requirements.txt"


@dataclass(frozen=True)
class Line:
    """One requirement as the project wrote it.

    Args:
        hashes: of the files that may be installed for it; any file where there are none.
        place: where it stands.
    """

    text: str
    name: str
    hashes: tuple[str, ...] = ()
    place: Problem | None = field(default=None, compare=False)

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
class Override:
    """What the bentofile says about the packages of one service.

    Args:
        packages: what it holds besides; in place of the project's line for the same distribution.
        exclude: distributions that it does without.
        is_slim: whether it holds what its slice reaches alone.
    """

    packages: tuple[Line, ...] = ()
    exclude: frozenset[str] = frozenset()
    is_slim: bool = True


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What a project lists: requirements, where they are looked for, and versions to keep to.

    Args:
        constraints: versions and hashes of distributions, for those that are needed at all.
    """

    lines: tuple[Line, ...]
    options: tuple[str, ...] = ()
    constraints: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()


def project_requirements(root: Path, bentofile: Bentofile, file: YamlFile) -> Listed:
    """What `python.requirements_txt`, or else `python.packages`, lists.

    Where the bentofile has neither, it is the dependencies in pyproject.toml, or else requirements.txt.

    Raises:
        InputError: a file that is not there, and lines that are no requirements, each with its place.
    """
    python = bentofile.python
    options = [f"--index-url {python.index_url}"] if python.index_url else []
    options += [f"--extra-index-url {url}" for url in python.extra_index_url]
    options += [f"--find-links {url}" for url in python.find_links]
    options += ["--no-index"] if python.no_index else []
    notes = []
    if not options and (indexes := uv_indexes(root)):
        options = _checked(indexes)
        notes.append(f"packages are looked for where `[[tool.uv.index]]` of {PYPROJECT} says")
    path, place = python.requirements_txt, file.problem(("python", "requirements_txt"), "")
    if path is None:
        places = [file.problem(("python", "packages", i), "") for i in range(len(python.packages))]
        texts = list(zip(python.packages, places, strict=True))
        if not texts and (texts := project_dependencies(root)):
            notes.append(f"packages are the dependencies in {PYPROJECT}, as {file.path.name} lists none")
        if texts or not (root / _REQUIREMENTS_TXT).is_file():
            return Listed(lines=tuple(_parse(texts)), options=tuple(options), notes=tuple(notes))
        path = _REQUIREMENTS_TXT
        notes.append(f"packages are those of {path}, as {file.path.name} lists none")
    elif python.packages:
        notes.append(
            f"{file.path.name}: `python.packages` is not read, as `python.requirements_txt` names a file"
        )
    reader = _RequirementsReader(root)
    reader.read(root / path, place)
    lines, constraints = reader.parsed()
    if python.index_url:  # there is one index that all others come on top of
        reader.options = [option for option in reader.options if not option.startswith("--index-url ")]
    return Listed(
        lines=tuple(lines),
        options=tuple(dict.fromkeys([*options, *reader.options])),
        constraints=tuple(dict.fromkeys(constraints)),
        notes=tuple(notes),
    )


def _checked(indexes: Sequence[tuple[str, str, Problem]]) -> list[str]:
    """Lines of a requirements.txt that say where packages are looked for."""
    problems = [
        replace(place, message=message)
        for option, url, place in indexes
        if (message := _url_problem(option, url)) is not None
    ]
    if problems:
        raise InputError(problems)
    return [f"{option} {url}" for option, url, _ in indexes]


def _url_problem(option: str, url: str) -> str | None:
    if not is_url(url):
        return f"`{option}`: expected a URL, found {url!r}: a folder is not in the image"
    try:
        require_no_password(url)
    except ValueError as error:
        return f"`{option}`: {error}"
    return None


@dataclass
class _RequirementsReader:
    """Reads a requirements.txt, and those that it names with `-r` and `-c`.

    Of a file that a resolver wrote, what is there for the sake of others is a constraint: which services need
    it is for those to say.
    """

    root: Path
    lines: list[Line] = field(default_factory=list)
    constraints: list[Line] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    seen: set[tuple[Path, bool]] = field(default_factory=set)
    required_by: dict[str, set[str]] = field(default_factory=dict)

    def parsed(self) -> tuple[list[Line], list[Line]]:
        """The requirements, and the constraints."""
        if self.problems:
            raise InputError(self.problems)
        names = {line.name for line in self.lines}
        brought = {name for name, by in self.required_by.items() if by <= names}
        lines = [line for line in self.lines if line.name not in brought]
        return lines, [*self.constraints, *(line for line in self.lines if line.name in brought)]

    def read(self, path: Path, named_by: Problem, *, are_constraints: bool = False) -> None:
        if not path.resolve().is_relative_to(self.root.resolve()):
            self.problems.append(replace(named_by, message=f"{path.name!r} leads out of the project"))
        elif not path.is_file():
            self.problems.append(replace(named_by, message=f"names {shown(path)}, which is no file"))
        elif (path.resolve(), are_constraints) not in self.seen:
            self.seen.add((path.resolve(), are_constraints))
            content = read_text(path)
            self.required_by.update(_required_by(content))
            for number, text in _logical_lines(content):
                self._read_line(text, Problem(path, number, ""), are_constraints)

    def _read_line(self, text: str, place: Problem, are_constraints: bool) -> None:
        if text.startswith("-"):
            self._read_option(*_option(text), place, are_constraints)
            return
        requirement, *options = re.split(r"\s--(?=[a-z])", text)
        hashes, others = _hashes(options)
        for name in others:
            message = f"`--{name}` of {requirement.strip()!r} is not read here; `--hash` is"
            self.problems.append(replace(place, message=message))
        try:
            [line] = _parse([(requirement, place)])
        except InputError as error:
            self.problems += error.problems
        else:
            into = self.constraints if are_constraints else self.lines
            into.append(replace(line, hashes=hashes))

    def _read_option(self, option: str, value: str, place: Problem, are_constraints: bool) -> None:
        if option == "--requirement":
            self.read(place.path.parent / value, place, are_constraints=are_constraints)
        elif option == "--constraint":
            self.read(place.path.parent / value, place, are_constraints=True)
        elif option == "--no-index" and not value:
            self.options.append(option)
        elif option not in _INDEX_OPTIONS:
            known = ", ".join(["-c", "-r", *sorted({*_INDEX_OPTIONS, "--no-index"})])
            self.problems.append(replace(place, message=f"`{option}` is not read here; what is: {known}"))
        elif (message := _url_problem(option, value)) is not None:
            self.problems.append(replace(place, message=message))
        else:
            self.options.append(f"{option} {value}")


def _hashes(options: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The hashes among the options of a requirement, and the names of others."""
    pairs = [re.split(r"[=\s]", option.strip(), maxsplit=1) for option in options]
    hashes = tuple(pair[1].strip() for pair in pairs if pair[0] == "hash" and len(pair) > 1)
    return hashes, [pair[0] for pair in pairs if pair[0] != "hash"]


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, each with its number; a backslash at the end joins the next."""
    pending, start = "", 0
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        start = start if pending else number
        line = pending + re.sub(r"(^|\s)#.*$", "", raw)
        pending = line[:-1] if line.endswith("\\") else ""
        if not line.endswith("\\") and line.strip():
            yield start, line.strip()


def _required_by(text: str) -> Iterator[tuple[str, set[str]]]:
    """For each distribution of a file that pip-compile or uv wrote, who requires it, by its comments."""
    entry = r"^([\w.-]+)[^#\n]*(?:\n[ \t]+--hash.*)*\s+# via(.*(?:\n[ \t]+#   .*)*)"
    for match in re.finditer(entry, text, re.MULTILINE):
        names = (name.strip(" #\t") for name in re.split(r"[,\n]", match[2]))
        # The name of another file or of the project itself is that of no distribution here.
        yield (
            canonicalize_name(match[1]),
            {canonicalize_name(name.partition("[")[0]) for name in names if name},
        )


def _option(text: str) -> tuple[str, str]:
    """`-r file`, `--requirement file` and `--requirement=file` alike."""
    match = re.fullmatch(r"(--[a-z-]+|-[a-z])\s*=?\s*(.*)", text)
    option, value = (match[1], match[2]) if match else (text, "")
    return _SHORT_OPTIONS.get(option, option), value


def service_overrides(
    bentofile: Bentofile, file: YamlFile, services: Sequence[str], listed: Listed
) -> dict[str, Override]:
    """What `services.<Name>` says about packages.

    Raises:
        InputError: lines that are no requirements, and names that no requirement has.
    """
    overrides: dict[str, Override] = {}
    problems: list[Problem] = []
    names = {line.name for line in listed.lines}
    for service in services:
        said = bentofile.services.get(service, ServiceBuild())
        place = ("services", service, "python")
        texts = [(t, file.problem((*place, "packages", i), "")) for i, t in enumerate(said.python.packages)]
        try:
            packages = tuple(_parse(texts))
        except InputError as error:
            problems += error.problems
            continue
        for i, name in enumerate(said.python.exclude):
            if canonicalize_name(name) not in names:
                message = f"no requirement {name!r}{nearest(name, sorted(names), 'requirements')}"
                problems.append(file.problem((*place, "exclude", i), message))
        exclude = frozenset(map(canonicalize_name, said.python.exclude))
        overrides[service] = Override(packages=packages, exclude=exclude, is_slim=said.slim)
    if problems:
        raise InputError(problems)
    return overrides


def _parse(lines: Sequence[tuple[str, Problem]]) -> list[Line]:
    parsed: list[Line] = []
    problems: list[Problem] = []
    for text, place in lines:
        try:
            require_no_password(text)
            parsed.append(Line(text.strip(), canonicalize_name(Requirement(text).name), place=place))
        except InvalidRequirement as error:
            reason = str(error).splitlines()[0]
            message = f"{text!r} is no requirement such as `numpy>=2`: {reason}"
            problems.append(replace(place, message=message))
        except ValueError as error:
            problems.append(replace(place, message=str(error)))
    if problems:
        raise InputError(problems)
    return parsed


def assign(lines: Sequence[Line], slices: Sequence[Slice], overrides: Mapping[str, Override]) -> Requirements:
    """Decide which services hold which requirement.

    One that a service's slice reaches or its command names goes with that service. One that no service is
    known to need goes with those that hold a distribution of which it is a plug-in, and where nobody knows,
    with all. What is said of one service wins.
    """
    said = {part.service: _without_ours(overrides.get(part.service, Override())) for part in slices}
    ours = [line for line in lines if line.name in _OURS]
    extras = _brought_by_extras(ours)
    lines = [line for line in lines if line.name not in _OURS]
    listed = {line.name for line in lines}
    lines += [line for line in extras if line.name not in listed]
    imported = {module for part in slices for module in (*part.reached, *part.absent)}
    modules = {line.name: frozenset(_modules(line.name, imported)) for line in lines}
    held = _held(slices, said, lines, extras, modules)
    decisions = [
        _decision(part.service, line, lines, said[part.service], held[part.service])
        for line in dict.fromkeys([*lines, *(line for own in said.values() for line in own.packages)])
        for part in slices
    ]
    brought = {m for own in said.values() for line in own.packages for m in _modules(line.name, imported)}
    brought = brought.union(_runtime_modules(), *modules.values())
    return Requirements(
        by_service={
            part.service: tuple(
                sorted({d.requirement for d in decisions if d.is_held and d.service == part.service})
            )
            for part in slices
        },
        decisions=tuple(decisions),
        notes=(*_runtime_notes(ours), *_missing(slices, brought)),
    )


def _held(
    slices: Sequence[Slice],
    said: Mapping[str, Override],
    lines: Sequence[Line],
    extras: Mapping[Line, str],
    modules: Mapping[str, frozenset[str]],
) -> dict[str, dict[str, str]]:
    """The distributions that each service holds, each with why."""
    imported = {module for part in slices for module in (*part.reached, *part.absent)}
    held = {part.service: _reached(part, modules) for part in slices}
    placed = {name for names in held.values() for name in names}.union(line.name for line in extras)
    for service, own in said.items():
        held[service].update((line.name, f"services.{service}.python.packages") for line in own.packages)
        _drop(own, held[service])
        for line, why in extras.items():
            held[service].setdefault(line.name, why)
    rest = [name for name, brought in modules.items() if name not in placed and not brought & imported]
    _place_the_rest(rest, held)
    for service, own in said.items():
        if not own.is_slim:
            for line in lines:
                held[service].setdefault(line.name, f"services.{service}.slim is false")
        _drop(own, held[service])
    return held


def _without_ours(override: Override) -> Override:
    return replace(override, packages=tuple(line for line in override.packages if line.name not in _OURS))


def _runtime_notes(ours: Sequence[Line]) -> Iterator[str]:
    for line in ours:
        yield f"requirement {line.text!r} is left out: the runtime is in every image"
        for extra in sorted(Requirement(line.text).extras - _EXTRAS.keys()):
            known = ", ".join(f"`{name}`" for name in sorted({*_EXTRAS.values()}))
            yield f"extra `{extra}` of {line.name} brings nothing: the runtime has {known}"


def _brought_by_extras(ours: Sequence[Line]) -> dict[Line, str]:
    """What the runtime needs for the extras that a project asks of it, each with why."""
    brought = {}
    for line in ours:
        for extra in sorted(Requirement(line.text).extras & _EXTRAS.keys()):
            for text in _required_by_extra(_EXTRAS[extra]):
                name = canonicalize_name(Requirement(text).name)
                brought[Line(text, name, place=line.place)] = f"extra `{extra}` of {line.name}"
    return brought


@cache
def _required_by_extra(extra: str) -> tuple[str, ...]:
    def is_required(requirement: Requirement, extra: str) -> bool:
        return requirement.marker is None or requirement.marker.evaluate({"extra": extra})

    lines = [Requirement(line) for line in metadata.requires(_DISTRIBUTION) or ()]
    found = (line for line in lines if is_required(line, extra) and not is_required(line, ""))
    return tuple(f"{line.name}{line.specifier}" for line in found)


def _drop(override: Override, held: dict[str, str]) -> None:
    own = {line.name for line in override.packages}
    for name in override.exclude - own:
        held.pop(name, None)


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
    service: str, line: Line, lines: Sequence[Line], own: Override, held: Mapping[str, str]
) -> Decision:
    if line in own.packages:
        is_held, why = True, held[line.name]
    elif any(line.name == other.name for other in own.packages):
        is_held, why = False, f"services.{service}.python.packages says otherwise"
    elif line.name in own.exclude:
        is_held, why = False, f"services.{service}.python.exclude"
    else:
        is_held = line in lines and line.name in held
        why = held[line.name] if is_held else "not reached"
    return Decision(service=service, requirement=line.text, is_held=is_held, why=why)


def _missing(slices: Sequence[Slice], brought: set[str]) -> Iterator[str]:
    """A note for each module that a slice reaches and that no requirement brings."""
    for module in sorted({m for part in slices for m in part.reached} - brought):
        where = next(part.reached[module] for part in slices if module in part.reached)
        yield f"no requirement brings `{module}` ({where}); it must come with another one"


def absent_modules(part: Slice, held: Sequence[str], exclude: Iterable[str] = ()) -> frozenset[str]:
    """The modules for which placeholders stand in: those that no held requirement brings.

    Args:
        exclude: distributions that the service does without, though it may reach what they bring.
    """
    brought = {m for text in held for m in _modules(canonicalize_name(Requirement(text).name), part.absent)}
    excluded = {m for name in exclude for m in _modules(name, part.reached.keys()) if m in part.reached}
    return (part.absent | excluded) - brought - _runtime_modules()


def runtime_requirements() -> tuple[str, ...]:
    """What the runtime itself needs, with the version ranges of this distribution."""
    lines = [Requirement(line) for line in metadata.requires(_DISTRIBUTION) or ()]
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


def _modules(name: str, wanted: Collection[str]) -> Iterator[str]:
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
