"""`module:Class` → the service, its project's modules loaded the way its slice wants."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from bentoml._placeholder import ProjectFinder
from bentoml._service import Service
from bentoml.exceptions import ImportServiceError


def load_service(
    target: str, *, project: Path, absent: frozenset[str] = frozenset(), service: str | None = None
) -> Service[Any]:
    """Import the module of `target` and return the service it names.

    Args:
        target: `module:Class`, the class's name may be dotted.
        project: the folder that holds the project's modules; `src/` below it is searched too.
        absent: top-level modules for which placeholders stand in.
        service: the service's name for messages, the class's when not given.

    Raises:
        ImportServiceError: the text is no target, the module is not there, or it holds no such service.
    """
    module_name, colon, attribute = target.partition(":")
    if not module_name or not colon or not attribute:
        raise ImportServiceError(f"{target!r}: expected `module:Class`, such as `service:ControlNet`")
    root = project.resolve()
    for folder in (root, root / "src"):
        if folder.is_dir() and str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    sys.meta_path.insert(0, ProjectFinder(root / "src", absent, service or attribute))
    sys.meta_path.insert(0, ProjectFinder(root, absent, service or attribute))
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # The module itself, or a package above it; a module that *it* imports is the project's own trouble.
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise ImportServiceError(f"{target!r}: no module {error.name!r} in {root}") from None
        raise
    for part in attribute.split("."):
        found = found.inner if isinstance(found, Service) else found
        if not hasattr(found, part):
            services = [name for name, value in vars(found).items() if isinstance(value, Service)]
            hint = f"; its services: {', '.join(services)}" if services else ""
            raise ImportServiceError(f"{target!r}: {module_name!r} has no {part!r}{hint}")
        found = getattr(found, part)
    if not isinstance(found, Service):
        raise ImportServiceError(
            f"{target!r} is a {type(found).__name__}, not a class marked with `@bentoml.service`"
        )
    return found
