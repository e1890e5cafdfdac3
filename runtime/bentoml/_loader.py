"""What a person names as a service → that service, its project's modules loaded the way its slice wants."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

from bentoml._dependency import Dependency
from bentoml._placeholder import ProjectFinder
from bentoml._service import Service
from bentoml.exceptions import ImportServiceError


def load_service(
    target: str, *, project: Path, absent: frozenset[str] = frozenset(), service: str | None = None
) -> Service[Any]:
    """Import the module of `target` and return the service it names.

    Args:
        target: `module:Class` or `path/file.py:Class`; behind the class, attributes that hold a service or
            a dependency. A module alone stands for its one service that no other one there depends on.
        project: the folder that holds the project's modules; `src/` below it is searched too.
        absent: top-level modules for which placeholders stand in.
        service: the service's name for messages, the class's when not given.

    Raises:
        ImportServiceError: the text is no target, the module is not there, or it holds no such service.
    """
    root = project.resolve()
    module_name, attribute = split_target(target, root)
    for folder in (root, root / "src"):
        if folder.is_dir() and str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    name = service or attribute or module_name
    sys.meta_path.insert(0, ProjectFinder(root / "src", absent, name))
    sys.meta_path.insert(0, ProjectFinder(root, absent, name))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # The module itself, or a package above it; a module that *it* imports is the project's own trouble.
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise ImportServiceError(f"{target!r}: no module {error.name!r} in {root}") from None
        raise
    return _walked(module, attribute, target) if attribute else _only_service(module, target)


def split_target(target: str, project: Path) -> tuple[str, str]:
    """The dotted name of a module, and that of a service in it; empty where a module stands for its service.

    Args:
        target: `module:Class`, `module`, or a file of the project in place of the module.
        project: the folder that a file's path begins at; `src/` below it is no part of a module's name.

    Raises:
        ImportServiceError: the text is no target, or the file is none of the project's.
    """
    place, colon, attribute = target.partition(":")
    module = _module_of_file(place, target, project) if names_file(target) else place
    names = (module, attribute) if colon else (module,)
    if not all(part.isidentifier() for name in names for part in name.split(".")):
        raise ImportServiceError(
            f"{target!r}: expected `module:Class`, such as `service:ControlNet`, or `module` alone"
        )
    return module, attribute


def names_file(target: str) -> bool:
    """Whether a target names its module by the file: `shop/service.py:Shop`, or `service.py`."""
    return target.partition(":")[0].endswith(".py")


def _module_of_file(place: str, target: str, project: Path) -> str:
    root = project.resolve()
    path = root / place
    # What leads to the folder may be a link; the file's own name is the module's.
    path = path.parent.resolve() / path.name
    if not path.is_relative_to(root):
        raise ImportServiceError(f"{target!r}: leads out of {root}, where the project's modules are")
    parts = PurePath(path.relative_to(root)).with_suffix("").parts
    # As the rest of the project imports it: the same file under two names would be two modules.
    if len(parts) > 1 and parts[0] == "src" and not (root / "src" / "__init__.py").exists():
        parts = parts[1:]
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def _walked(module: ModuleType, attribute: str, target: str) -> Service[Any]:
    """The service that names lead to, from the module on and through dependencies."""
    found: Any = module
    for part in attribute.split("."):
        owner = found.inner if isinstance(found, Service) else found
        if not hasattr(owner, part):
            services = [name for name, value in vars(owner).items() if _as_service(value) is not None]
            hint = f"; its services: {', '.join(services)}" if services else ""
            raise ImportServiceError(f"{target!r}: {module.__name__!r} has no {part!r}{hint}")
        value = getattr(owner, part)
        found = _as_service(value) or value
    if isinstance(found, Dependency):
        raise ImportServiceError(f"{target!r} is a dependency on {found.edge}, which runs elsewhere")
    if not isinstance(found, Service):
        raise ImportServiceError(
            f"{target!r} is a {type(found).__name__}, not a class marked with `@bentoml.service`"
        )
    return found


def _as_service(value: object) -> Service[Any] | None:
    """A service, or the one behind a dependency."""
    if isinstance(value, Dependency):
        return value.on
    return value if isinstance(value, Service) else None


def _only_service(module: ModuleType, target: str) -> Service[Any]:
    """The one service of a module that no other one there depends on."""
    # An alias is no second service.
    named = {value: name for name, value in reversed(vars(module).items()) if isinstance(value, Service)}
    own = [service for service in named if service.inner.__module__ == module.__name__] or list(named)
    if not own:
        raise ImportServiceError(
            f"{target!r}: {module.__name__!r} has no service: mark a class with `@bentoml.service`"
        )
    called = {service for one in own for service in _reached(one) if service is not one}
    entries = [service for service in own if service not in called] or own
    if len(entries) > 1:
        names = sorted(named[service] for service in entries)
        raise ImportServiceError(
            f"{target!r}: {module.__name__!r} has {len(names)} services that no other one there depends on: "
            f"{', '.join(names)}; name one, `{module.__name__}:{names[0]}`"
        )
    return entries[0]


def _reached(service: Service[Any]) -> set[Service[Any]]:
    """A service and all that it depends on inside the graph."""
    found: set[Service[Any]] = set()
    waiting = [service]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting.extend(_peers(current.dependencies.values()))
    return found


def _peers(dependencies: Iterable[Dependency]) -> list[Service[Any]]:
    return [one.on for one in dependencies if one.on is not None and not one.edge.is_external]
