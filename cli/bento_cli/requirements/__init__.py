"""Which of a project's services each of its requirements goes with, and why."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bento_cli.errors import InputError, Problem, nearest
from bento_cli.project.bentofile import Bentofile, ServiceBuild
from bento_cli.project.slicing import Slice
from bento_cli.requirements.lists import Line, Listed, parse_requirement
from bento_cli.yaml_file import YamlFile
from bentoml._requirements import RUNTIME_REQUIREMENTS

# The runtime is this project's own, in every image; the package index has others of these names.
_OURS: Final = frozenset({"bentoml", "bento-toolchain"})
_DISTRIBUTION: Final = "bento-toolchain"
# Why a service does without most of what it does without.
NOT_REACHED: Final = "not reached"
# What other releases of these names call an extra, and what it is called here.
_EXTRAS: Final = {"redis": "redis", "tracing": "tracing", "tracing-otlp": "tracing", "wsgi": "wsgi"}


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


def with_image(override: Override, told: Listed) -> Override:
    """What is said of one service's packages, with what its `image=` lists; the bentofile wins."""
    own = {line.name for line in override.packages} | override.exclude
    lines = (line for line in told.lines if line.name not in own)
    return replace(override, packages=(*lines, *override.packages))


def service_overrides(
    bentofile: Bentofile, file: YamlFile, services: Sequence[str], listed: Listed | None
) -> dict[str, Override]:
    """What `services.<Name>` says about packages.

    Args:
        listed: what the project lists; None where that is not known, as something is wrong with it.

    Raises:
        InputError: lines that are no requirements, and names that no requirement has.
    """
    overrides: dict[str, Override] = {}
    problems: list[Problem] = []
    names = {line.name for line in listed.lines} if listed else set()
    for service in services:
        said = bentofile.services.get(service, ServiceBuild())
        place = ("services", service, "python")
        texts = [(t, file.problem((*place, "packages", i), "")) for i, t in enumerate(said.python.packages)]
        try:
            packages = tuple(parse_requirement(texts))
        except InputError as error:
            problems += error.problems
            continue
        for i, name in enumerate(said.python.exclude):
            if listed is not None and canonicalize_name(name) not in names:
                message = f"no requirement {name!r}{nearest(name, sorted(names), 'requirements')}"
                problems.append(file.problem((*place, "exclude", i), message))
        exclude = frozenset(map(canonicalize_name, said.python.exclude))
        overrides[service] = Override(packages=packages, exclude=exclude, is_slim=said.slim)
    if problems:
        raise InputError(problems)
    return overrides


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
    brought = brought.union(_table().runtime, *modules.values())
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
        held[service].update(
            (line.name, line.why or f"services.{service}.python.packages") for line in own.packages
        )
        _drop(own, held[service])
        for line, why in extras.items():
            held[service].setdefault(line.name, why)
    rest = [name for name, brought in modules.items() if name not in placed and not brought & imported]
    _place_plugins(modules, rest, held)
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


def _place_plugins(
    names: Collection[str], waiting: Collection[str], held: Mapping[str, dict[str, str]]
) -> None:
    """Put plug-ins with their hosts: a service may need one that only another service imports.

    Args:
        names: all distributions.
        waiting: those that nothing imports; of these installed hosts are asked as well.
    """
    is_new = True
    while is_new:  # what one round places may be the host of others
        is_new = False
        for name in names:
            for own in (own for own in held.values() if name not in own):
                host = next((h for h in sorted(own) if _is_plugin(name, h, asks=name in waiting)), None)
                if host is not None:
                    own[name] = f"plug-in of {host}"
                    is_new = True


def _place_the_rest(waiting: Collection[str], held: Mapping[str, dict[str, str]]) -> None:
    """Put everywhere what nothing imports and what has no host."""
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
        is_held, why = False, f"{held[line.name]} says otherwise"
    elif line.name in own.exclude:
        is_held, why = False, f"services.{service}.python.exclude"
    else:
        is_held = line in lines and line.name in held
        why = held[line.name] if is_held else NOT_REACHED
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
    return (part.absent | excluded) - brought - frozenset(_table().runtime)


def runtime_requirements() -> tuple[str, ...]:
    """What the runtime itself needs, with the version ranges of this distribution."""
    lines = [Requirement(line) for line in metadata.requires(_DISTRIBUTION) or ()]
    return tuple(sorted(str(r) for r in lines if canonicalize_name(r.name) in RUNTIME_REQUIREMENTS))


def _modules(name: str, wanted: Collection[str]) -> Iterator[str]:
    """Top-level modules that a distribution brings: from the table, its name, or where it is installed."""
    known = _table().modules.get(name)
    if known is not None:
        yield from known
        return
    families = _table().families.items()
    yield from next((brought for begin, brought in families if name.startswith(begin)), ())
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


def _is_plugin(name: str, host: str, *, asks: bool) -> bool:
    """Whether the table says so or, where it is asked, an installed host itself."""
    return host in _table().plugins.get(name, ()) or (asks and name in _extras(host))


@cache
def _extras(name: str) -> frozenset[str]:
    """Distributions that an installed one names in an extra."""
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return frozenset()
    return frozenset(canonicalize_name(Requirement(line).name) for line in lines if "extra ==" in line)


@dataclass(frozen=True, kw_only=True)
class _Table:
    """What a distribution's name does not tell; the file says it in words."""

    runtime: Sequence[str]
    modules: Mapping[str, Sequence[str]]
    families: Mapping[str, Sequence[str]]
    plugins: Mapping[str, Sequence[str]]


@cache
def _table() -> _Table:
    text = resources.files("bento_cli").joinpath("data/distributions.json").read_text(encoding="utf-8")
    parts = json.loads(text)
    del parts["//"]
    return _Table(**parts)
