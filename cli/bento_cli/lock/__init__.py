"""Locks: what the requirements of services come to, to the version and the files of every package.

The project is resolved once. Each service is then resolved with those versions as constraints, so that
services that share code hold the same packages, and with its own Python and builds of torch.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

from packaging.utils import canonicalize_name

from bento_cli.errors import BentoError

_PARALLEL: Final = 4
_ARCHITECTURES: Final = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
PLATFORMS: Final = ("linux/amd64", "linux/arm64")


class UnresolvableError(Exception):
    """No versions of packages fit together.

    Args:
        words: why, as the resolver says it.
        service: whose requirements they are; None for those of the whole project.
    """

    def __init__(self, words: str, service: str | None = None) -> None:
        super().__init__(words)
        self.words = words
        self.service = service


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a resolver is asked, and all that its answer may depend on.

    Args:
        requirements: lines of a requirements.txt.
        index_options: lines before them, which say where packages are looked for.
        wheels: files that are found besides, each with its digest.
        constraints: versions of packages, for those that are needed at all.
        preferences: the same, for versions that are taken only where they fit.
        torch_backend: whose builds torch and its relatives are: `cpu`, or a CUDA such as `cu128`; None
            takes what the index has.
    """

    requirements: tuple[str, ...]
    index_options: tuple[str, ...] = ()
    wheels: tuple[tuple[str, str], ...] = ()
    constraints: tuple[str, ...] = ()
    preferences: tuple[str, ...] = ()
    python_version: str
    platform: str
    torch_backend: str | None = None


class Resolver(Protocol):
    """Finds versions that fit together."""

    def resolve(self, question: Question) -> str:
        """A requirements.txt that holds every package that is needed, with its version and hashes.

        Raises:
            UnresolvableError: there is none.
            BentoError: there is nobody to ask.
        """
        ...

    def exported(self, project: Path) -> str:
        """The versions that the `uv.lock` of a project holds, as a requirements.txt.

        Raises:
            BentoError: it cannot be read.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What one service is to hold.

    Args:
        requirements: lines of a requirements.txt, the runtime's own included.
        hashes: those that the project lists, by the distribution's name or by `name==version`: no other file
            is taken.
        overrules: whether one of the lines stands in place of the project's, so that the versions of the
            whole project need not fit.
    """

    requirements: tuple[str, ...]
    python_version: str
    torch_backend: str | None = None
    hashes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    overrules: bool = False


@dataclass(frozen=True)
class Package:
    """One package of a lock.

    Args:
        requirement: `numpy==2.1.0`, or with a URL that it is from.
        hashes: of its files.
        required_by: packages that brought it, in the form that indexes write; none for one that is only
            there because the service lists it.
    """

    requirement: str
    hashes: tuple[str, ...] = ()
    required_by: tuple[str, ...] = ()

    @cached_property
    def name(self) -> str:
        """In the form that indexes write."""
        return canonicalize_name(re.split(r"[=\[ @;]", self.requirement, maxsplit=1)[0])

    @cached_property
    def version(self) -> str:
        """Its version, or the URL that it is from."""
        return re.split(r"==| @ ", self.requirement.partition(" ; ")[0])[-1]

    def __str__(self) -> str:
        return " \\\n    --hash=".join((self.requirement, *self.hashes))


@dataclass(frozen=True, kw_only=True)
class Lock:
    """Every package of one service's image."""

    packages: tuple[Package, ...]
    python_version: str
    platform: str
    torch_backend: str | None = None

    def __str__(self) -> str:
        """A requirements.txt that installs it."""
        return "".join(f"{package}\n" for package in self.packages)

    @property
    def summary(self) -> str:
        """It in a few words."""
        torch = f", torch {self.torch_source}" if self.has_torch else ""
        return f"{len(self.packages)} packages for Python {self.python_version}, {self.platform}{torch}"

    def brought_by(self, listed: Collection[str]) -> dict[str, str | None]:
        """For each package the one of those that a service lists which brings it; None for those themselves.

        Args:
            listed: names of distributions.
        """
        found: dict[str, str | None] = dict.fromkeys(listed)
        waiting = {package.name: package.required_by for package in self.packages}
        # From those that are listed outwards, so that the shortest way is the one that is told.
        while near := {
            name: next(other for other in by if other in found)
            for name, by in waiting.items()
            if name not in found and any(other in found for other in by)
        }:
            found |= {name: found[other] or other for name, other in near.items()}
        return {name: found.get(name) for name in waiting}

    @property
    def torch_source(self) -> str:
        """Whose builds of torch it holds, in words."""
        return f"for {self.torch_backend}" if self.torch_backend else "as the package index has it"

    @property
    def has_torch(self) -> bool:
        """Whether there is a package that comes in builds for a CPU and for each CUDA."""
        return any(package.name == "torch" for package in self.packages)


def lock_services(
    project: Question, services: Mapping[str, Wanted], resolver: Resolver, *, pins: str | None = None
) -> dict[str, Lock]:
    """The lock of each service.

    Args:
        project: about the requirements of all services together.
        pins: a requirements.txt with the versions that the project holds already; it is not asked about then.

    Raises:
        UnresolvableError: of the first service that has no lock.
        BentoError: there is nobody to ask.
    """
    whole = None if pins is not None else resolver.resolve(project)
    versions = tuple(_versions(whole if whole is not None else pins or ""))
    questions = {name: _question(project, wanted, versions) for name, wanted in services.items()}
    answers: dict[Question, str] = {}
    if whole is not None:
        # Of a project with one service, that is all there is to ask.
        answers |= {question: whole for question in questions.values() if _is_same(question, project)}
    waiting = {question: name for name, question in questions.items() if question not in answers}
    with ThreadPoolExecutor(max_workers=_PARALLEL) as pool:
        found = pool.map(lambda item: _answer(item[0], item[1], resolver), waiting.items())
        answers |= zip(waiting, found, strict=True)
    return {
        name: Lock(
            packages=tuple(_restricted(read_packages(answers[question]), services[name].hashes, name)),
            python_version=question.python_version,
            platform=question.platform,
            torch_backend=question.torch_backend,
        )
        for name, question in questions.items()
    }


def image_platform() -> str:
    """What images are built for here, as engines name it: Linux, on the processor of this machine."""
    return f"linux/{_ARCHITECTURES.get(platform.machine(), 'amd64')}"


def checked_platform(text: str | None) -> str | None:
    """A platform that there are locks for.

    Raises:
        BentoError: it is another one.
    """
    if text is not None and text not in PLATFORMS:
        raise BentoError(f"{text!r} is no platform of images; platforms: {', '.join(PLATFORMS)}")
    return text


def read_packages(text: str) -> tuple[Package, ...]:
    """The packages of a requirements.txt with hashes."""
    joined = re.sub(r"\\\n\s*|\n\s+(?=# via )", " ", text)
    lines = (line.strip() for line in joined.splitlines())
    return tuple(_read_package(line) for line in lines if line and not line.startswith(("#", "-")))


def _read_package(line: str) -> Package:
    entry, _, comment = line.partition(" # via ")
    requirement, *hashes = re.split(r"\s*--hash=", entry)
    names = (name.partition("[")[0] for name in comment.split(", ") if name and not name.startswith("-"))
    return Package(requirement.strip(), tuple(map(str.strip, hashes)), tuple(map(canonicalize_name, names)))


def _versions(text: str) -> Iterable[str]:
    """The versions in a lock as constraints, without what sets apart builds for a CPU and for CUDA."""
    for package in read_packages(text):
        if "==" in package.requirement and " @ " not in package.requirement:
            yield re.sub(r"(==[^\s;+]+)\+[^\s;]+", r"\1", package.requirement)


def _question(project: Question, wanted: Wanted, versions: tuple[str, ...]) -> Question:
    is_bound = not wanted.overrules and wanted.python_version == project.python_version
    return Question(
        requirements=wanted.requirements,
        index_options=project.index_options,
        wheels=project.wheels,
        # What the project says itself holds for all of its services.
        constraints=tuple(dict.fromkeys((*project.constraints, *versions)))
        if is_bound
        else project.constraints,
        preferences=() if is_bound else versions,
        python_version=wanted.python_version,
        platform=project.platform,
        torch_backend=wanted.torch_backend,
    )


def _is_same(question: Question, project: Question) -> bool:
    """Whether the answer about the whole project is that of a service as well."""
    return (set(question.requirements), question.python_version, question.torch_backend) == (
        set(project.requirements),
        project.python_version,
        project.torch_backend,
    )


def _answer(question: Question, service: str, resolver: Resolver) -> str:
    try:
        return resolver.resolve(question)
    except UnresolvableError as error:
        raise UnresolvableError(error.words, service) from None


def _restricted(
    packages: Sequence[Package], listed: Mapping[str, frozenset[str]], service: str
) -> Iterable[Package]:
    """The packages with no hash but those that the project lists, where it does."""
    for package in packages:
        own = listed.get(package.name) or listed.get(f"{package.name}=={package.version}")
        hashes = tuple(found for found in package.hashes if own is None or found in own)
        if own is not None and not hashes:
            raise UnresolvableError(
                f"no file of {package.requirement} has a hash that the project lists", service
            )
        yield replace(package, hashes=hashes)
