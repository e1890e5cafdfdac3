"""A build plan with locks: what a resolver is asked for its services, and what the answers change."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bento_cli.build import BuildPlan
from bento_cli.errors import InputError, Problem
from bento_cli.image import ImageSpec
from bento_cli.lock import (
    Lock,
    Question,
    Resolver,
    UnresolvableError,
    Wanted,
    image_platform,
    lock_services,
    read_packages,
)
from bento_cli.lock.kept import KeptLocks
from bento_cli.lock.torch import CPU, VARIABLE, torch_backend
from bento_cli.lock.uv import Uv
from bento_cli.pyproject import PYPROJECT
from bento_cli.requirements import runtime_requirements
from bento_cli.store import bentoml_home

_UV_LOCK: Final = "uv.lock"


def kept_locks(*, is_renewed: bool = False) -> Resolver:
    """Asks uv, and keeps its answers below `$BENTOML_HOME`.

    Args:
        is_renewed: whether everything is asked again, for versions that appeared since.
    """
    return KeptLocks(bentoml_home() / "locks", Uv(), is_renewed=is_renewed)


def lock_build(plan: BuildPlan, resolver: Resolver) -> BuildPlan:
    """The plan with a lock for each service; as it is where the bentofile says that there are none.

    Raises:
        InputError: the lines whose versions do not fit together.
        BentoError: the resolver has nobody to ask, or the project's `uv.lock` cannot be read.
    """
    if not plan.bentofile.python.lock_packages:
        return plan
    has_uv_lock = all((plan.root / name).is_file() for name in (_UV_LOCK, PYPROJECT))
    pins = resolver.exported(plan.root) if has_uv_lock else None
    overruling = {name: _overruling(plan, name) for name in plan.images}
    wanted = {}
    for name, image in plan.images.items():
        backend = _torch_backend(plan, image)
        wanted[name] = Wanted(
            requirements=image.requirements,
            python_version=image.python_version,
            torch_backend=backend,
            hashes={**_pinned_hashes(pins or "", backend), **_hashes(plan, image)},
            overrules=bool(overruling[name]),
        )
    entry = wanted[plan.graph.entry]
    held = {line for name, own in wanted.items() for line in set(own.requirements) - overruling[name]}
    backends = (own.torch_backend for own in wanted.values())
    project = Question(
        requirements=tuple(sorted(held)),
        index_options=plan.listed.options,
        constraints=tuple(line.text for line in plan.listed.constraints),
        python_version=entry.python_version,
        platform=image_platform(),
        # Fewer versions have builds for CUDA than for a CPU, and all services take the same.
        torch_backend=next((b for b in backends if b not in (None, CPU)), entry.torch_backend),
    )
    try:
        locks = lock_services(project, wanted, resolver, pins=pins)
    except UnresolvableError as error:
        raise _unresolved(plan, error, project) from None
    images = {name: _with_torch(image, locks[name]) for name, image in plan.images.items()}
    return replace(plan, locks=locks, images=images, notes=(*plan.notes, *_apart(locks)))


def _overruling(plan: BuildPlan, service: str) -> set[str]:
    """The lines of one service that stand in place of the project's for the same distribution."""
    listed = {
        line.name: {other.text for other in plan.listed.lines if other.name == line.name}
        for line in plan.listed.lines
    }
    own = plan.overrides[service].packages
    return {line.text for line in own if line.name in listed and line.text not in listed[line.name]}


def _apart(locks: Mapping[str, Lock]) -> Iterator[str]:
    """A note for each package of which services hold different versions."""
    holders: dict[str, dict[str, str]] = {}
    for service, lock in locks.items():
        for package in lock.packages:
            version = package.version.partition("+")[0]
            holders.setdefault(package.name, {}).setdefault(version, service)
    for name, versions in sorted(holders.items()):
        if len(versions) > 1:
            yield f"{name} is " + " and ".join(f"{v} in {service}" for v, service in versions.items())


def _torch_backend(plan: BuildPlan, image: ImageSpec) -> str | None:
    return torch_backend(
        plan.bentofile.python.torch_backend,
        has_gpu=bool(image.gpus),
        base_image=image.base_image,
        has_own_index=bool(plan.listed.options),
        environment=os.environ,
    )


def _with_torch(image: ImageSpec, lock: Lock) -> ImageSpec:
    """The image, whose packages are installed from where the lock found its builds of torch."""
    if lock.torch_backend is None or not lock.has_torch:
        return image
    return replace(image, build_environment={VARIABLE: lock.torch_backend, **image.build_environment})


def _hashes(plan: BuildPlan, image: ImageSpec) -> dict[str, frozenset[str]]:
    """What the project lists of them, by the distribution's name."""
    hashes: dict[str, frozenset[str]] = {}
    for line in (*plan.listed.lines, *plan.listed.constraints):
        if line.hashes and (line in plan.listed.constraints or line.text in image.requirements):
            hashes[line.name] = hashes.get(line.name, frozenset()).union(line.hashes)
    return hashes


def _pinned_hashes(pins: str, backend: str | None) -> dict[str, frozenset[str]]:
    """What a `uv.lock` lists of them; nothing where builds of torch come from elsewhere."""
    packages = read_packages(pins)
    if backend is not None and any(package.name == "torch" for package in packages):
        return {}
    return {f"{p.name}=={p.version}": frozenset(p.hashes) for p in packages if p.hashes}


def _unresolved(plan: BuildPlan, error: UnresolvableError, project: Question) -> InputError:
    """The lines of the project of which a resolver speaks, with its words at the first."""
    own = (line for override in plan.overrides.values() for line in override.packages)
    lines = (*plan.listed.lines, *plan.listed.constraints, *own)
    named = [line for line in lines if line.place is not None and _names(error.words, line.name)]
    who = f"for {error.service}" if error.service else "for all services together"
    python = plan.images[error.service].python_version if error.service else project.python_version
    words = f"no versions fit {who}, Python {python} on {project.platform}: {error.words}"
    problems = [
        replace(line.place, message=words if number == 0 else f"{line.text!r} has a part in it")
        for number, line in enumerate(dict.fromkeys(named))
        if line.place is not None
    ]
    ours = [r for r in runtime_requirements() if _names(error.words, canonicalize_name(Requirement(r).name))]
    hint = f"the runtime needs {', '.join(ours)}" if ours else None
    if (plan.root / _UV_LOCK).is_file():
        hint = f"{_UV_LOCK} says which versions: `uv lock` makes it anew"
    return InputError(problems or [Problem(plan.file.path, None, words)], hint=hint)


def _names(words: str, name: str) -> bool:
    return re.search(rf"(?<![a-z0-9-]){re.escape(name)}(?!-?[a-z0-9])", canonicalize_name(words)) is not None
