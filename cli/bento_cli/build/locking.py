"""A build plan with locks: what a resolver is asked for its services, and what the answers change."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from bento_cli.build import BuildPlan
from bento_cli.errors import InputError, Problem
from bento_cli.image import ImageSpec, cuda_built_for, needed_libraries
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
from bento_cli.lock.announced import Announced
from bento_cli.lock.kept import KeptLocks
from bento_cli.lock.settings import Settings
from bento_cli.lock.torch import CPU, VARIABLE, cuda_of, torch_backend
from bento_cli.lock.uv import Uv
from bento_cli.project.pyproject import PYPROJECT
from bento_cli.requirements import runtime_requirements
from bento_cli.requirements.forms import build_packages
from bento_cli.store import bentoml_home

_UV_LOCK: Final = "uv.lock"
_INDEX_OPTION: Final = re.compile(r"--((extra-)?index-url|find-links|no-index)\b")
_DECIDE_TORCH: Final = ("torch", "vllm")


def kept_locks(say: Callable[[str], None], *, is_renewed: bool = False) -> Resolver:
    """Asks uv, and keeps its answers below `$BENTOML_HOME`.

    Args:
        say: is told when somebody is asked.
        is_renewed: whether everything is asked again, for versions that appeared since.
    """
    uv = Announced(Uv(), lambda: say("asking for the versions of packages, which are kept as locks"))
    return KeptLocks(bentoml_home() / "locks", uv, is_renewed=is_renewed)


def lock_build(plan: BuildPlan, resolver: Resolver, *, platform: str | None = None) -> BuildPlan:
    """The plan with a lock for each service; as it is where the bentofile says that there are none.

    Args:
        platform: of the images, as engines name it; this machine's when not given.

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
    wheels = {path for image in plan.images.values() for path in image.wheels}
    backends = (own.torch_backend for own in wanted.values())
    project = Question(
        requirements=tuple(sorted(held)),
        index_options=plan.listed.options,
        wheels=tuple(_with_digest(plan.root / path) for path in sorted(wheels)),
        constraints=tuple(line.text for line in plan.listed.constraints),
        python_version=entry.python_version,
        platform=platform or image_platform(),
        # Fewer versions have builds for CUDA than for a CPU, and all services take the same.
        torch_backend=next((b for b in backends if b not in (None, CPU)), entry.torch_backend),
    )
    try:
        locks = lock_services(project, wanted, resolver, pins=pins)
    except UnresolvableError as error:
        raise _unresolved(plan, error, project) from None
    images = {name: _with_lock(image, locks[name]) for name, image in plan.images.items()}
    return replace(
        plan, locks=locks, images=images, notes=(*plan.notes, *_apart(locks), *_newer_cuda(images, locks))
    )


def _with_digest(path: Path) -> tuple[str, str]:
    return str(path.resolve()), hashlib.sha256(path.read_bytes()).hexdigest()


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


def _newer_cuda(images: Mapping[str, ImageSpec], locks: Mapping[str, Lock]) -> Iterator[str]:
    """A note for each torch that an index has for a newer CUDA than that of the image around it."""
    for service, lock in locks.items():
        cuda = cuda_of(images[service].base_image)
        torch = next((package for package in lock.packages if package.name == "torch"), None)
        if cuda is None or torch is None or lock.torch_backend or not torch.requirement.startswith("torch=="):
            continue
        built_for = cuda_built_for(Requirement(f"torch=={torch.version}"), cuda)
        if "+" not in torch.version and built_for and Version(built_for) > Version(cuda):
            backend = f"`torch_backend: cu{cuda.replace('.', '')}` below `python`"
            yield (
                f"torch {torch.version} in {service} is built for CUDA {built_for}, newer than the {cuda} "
                f"of its image: {backend} takes builds for older drivers"
            )


def _torch_backend(plan: BuildPlan, image: ImageSpec) -> str | None:
    return torch_backend(
        plan.bentofile.python.torch_backend,
        has_gpu=bool(image.gpus),
        cuda=_cuda(image),
        has_own_index=any(map(_INDEX_OPTION.match, plan.listed.options))
        or Settings(os.environ).names_index(),
        environment=os.environ,
    )


def _cuda(image: ImageSpec) -> str | None:
    """That of the base image; where the release of torch has no builds for it, the one that it brings."""
    found = cuda_of(image.base_image)
    required = {str(canonicalize_name(one.name)): one for one in map(Requirement, image.requirements)}
    deciding = next((required[name] for name in _DECIDE_TORCH if name in required), None)
    return (found and deciding and cuda_built_for(deciding, found)) or found


def _with_lock(image: ImageSpec, lock: Lock) -> ImageSpec:
    """The image with libraries for all that the lock holds, and torch from where the lock found it."""
    brought_by = lock.brought_by([canonicalize_name(Requirement(line).name) for line in image.requirements])
    libraries = {
        library: f"{name}, brought by {brought_by[name]}" if brought_by[name] else name
        for library, name in needed_libraries(brought_by).items()
    }
    variables = {VARIABLE: lock.torch_backend} if lock.torch_backend and lock.has_torch else {}
    return replace(
        image,
        build_packages=build_packages(package.requirement for package in lock.packages),
        system_packages=dict(sorted({**libraries, **image.system_packages}.items())),
        build_environment={**variables, **image.build_environment},
    )


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
    services = list(plan.images)
    alone = services[0] if len(services) == 1 else None
    who = f"for {error.service or alone}" if error.service or alone else "for all services together"
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
