"""The graph of a project whose source does not say it: found by importing it, in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bento_cli.errors import InputError, Problem
from bento_cli.project.source import Project, imported_modules
from bentoml._environment import ARGUMENTS, arguments_text
from bentoml._graph import Edge, ServiceNode
from bentoml._loader import load_service, split_target
from bentoml._service import Service
from bentoml.exceptions import ImportServiceError, MissingDependencyException

_TIMEOUT_S = 120
# The project's folder is not among the first ones: what it calls `json.py` is for itself alone.
_CHILD = "import sys; sys.path.pop(0); from bento_cli.project.imported import report; report()"


@dataclass(frozen=True, kw_only=True)
class ImportedService:
    """One service as it was after its module had been loaded.

    Args:
        node: its data, with a target that finds it again: through a module or through dependencies.
        module: where its class is defined.
        qualname: the class's own name there, with those of what it stands in.
        command: the words of the command that answers for it, as far as they are known.
    """

    node: ServiceNode
    module: str
    qualname: str
    command: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImportedGraph:
    """The entry's name, and the services of its graph by name."""

    entry: str
    services: Mapping[str, ImportedService]

    def peer(self, module: str, qualname: str, attribute: str) -> ImportedService | None:
        """The service behind a dependency of the class that is defined at a place."""
        for service in self.services.values():
            if (service.module, service.qualname) == (module, qualname):
                for edge in service.node.dependencies:
                    if edge.attribute == attribute:
                        return self.services.get(edge.service or "")
        return None


def import_graph(project: Project, target: str) -> ImportedGraph:
    """Load the module of `target` as a service's process does, and look at what is there then.

    Placeholders stand in for modules that are not installed here.

    Raises:
        InputError: the project raised an error, where and which.
    """
    module = project.module(split_target(target, project.root)[0])
    file = module.path if module else project.root
    asked = {
        "project": str(project.root),
        "target": target,
        "absent": sorted(name for name in imported_modules(project) if not _is_installed(name)),
    }
    try:
        child = subprocess.run(
            [sys.executable, "-B", "-c", _CHILD],  # it leaves no `__pycache__`
            input=json.dumps(asked),
            cwd=project.root,
            env={**os.environ, ARGUMENTS: arguments_text(project.arguments)},
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        message = f"importing `{target}` took more than {_TIMEOUT_S} s"
        raise InputError([Problem(file, None, message)]) from None
    try:
        told = json.loads(child.stdout)
    except json.JSONDecodeError:
        last = (child.stderr.strip().splitlines() or ["without a word"])[-1]
        message = f"the process that imported `{target}` ended with {child.returncode}: {last}"
        raise InputError([Problem(file, None, message)]) from None
    if "error" in told:
        path = Path(told["path"]) if told["path"] else file
        raise InputError([Problem(path, told["line"], told["error"])])
    return ImportedGraph(
        entry=told["entry"], services={name: _service(data) for name, data in told["services"].items()}
    )


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _service(data: Mapping[str, Any]) -> ImportedService:
    node = {**data["node"]}
    for name in ("endpoints", "tasks", "envs"):
        node[name] = tuple(node[name])
    node["dependencies"] = tuple(Edge(**edge) for edge in node["dependencies"])
    return ImportedService(
        node=ServiceNode(**node),
        module=data["module"],
        qualname=data["qualname"],
        command=tuple(data["command"]),
    )


def report() -> None:
    """What the process does that loads a project: read what is asked, write what was found, both as JSON."""
    asked = json.load(sys.stdin)
    # Whatever the project prints is for people.
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    root = Path(asked["project"]).resolve()
    try:
        told = _loaded(root, asked["target"], frozenset(asked["absent"]))
    except (Exception, SystemExit) as error:  # noqa: BLE001  # what the project raises, which may be anything
        told = _failure(error, root)
    with answer:
        json.dump(told, answer, default=str)


def _loaded(root: Path, target: str, absent: frozenset[str]) -> dict[str, object]:
    entry = load_service(target, project=root, absent=absent)
    entry.graph()  # two of one name, and circles
    targets = dict(_targets(entry, root))
    services = {}
    for name, service in entry.all_services().items():
        services[name] = {
            "node": {**asdict(service.node()), "target": targets[name]},
            "module": service.inner.__module__,
            "qualname": service.inner.__qualname__,
            "command": [str(word) for word in service.cmd or ()],
        }
    return {"entry": entry.name, "services": services}


def _targets(entry: Service[Any], root: Path) -> Iterator[tuple[str, str]]:
    """For each service a target by which a process finds it."""
    seen: set[str] = set()
    waiting = [(entry, "")]
    while waiting:
        service, path = waiting.pop(0)
        if service.name in seen:
            continue
        seen.add(service.name)
        target = _by_module(service, root) or path
        yield service.name, target
        for attribute, dependency in service.dependencies.items():
            if dependency.on is not None and not dependency.edge.is_external:
                waiting.append((dependency.on, f"{target}.{attribute}"))


def _by_module(service: Service[Any], root: Path) -> str | None:
    """`module:Class` or `module:Outer.Class`, where that is this service."""
    target = service.target
    module_name, _, attribute = target.partition(":")
    found: Any = sys.modules.get(module_name)
    for part in attribute.split("."):
        found = getattr(getattr(found, "inner", found), part, None)
    if found is service:
        return target
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(root):
            for variable, value in vars(module).items():
                if value is service:
                    return f"{name}:{variable}"
    return None


def _failure(error: BaseException, root: Path) -> dict[str, object]:
    """What was raised, and the project's line that it came from."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(root)
    ]
    place = frames[-1] if frames else None
    text = " ".join(str(error).split())
    if isinstance(error, MissingDependencyException):
        text = f"while it was imported: {text.partition(', and ')[0]}, and that is not installed here"
    elif not isinstance(error, ImportServiceError):
        name = type(error).__name__
        text = f"raised while it was imported: {f'{name}: {text}' if text else name}"
    return {
        "error": text,
        "path": place.filename if place else None,
        "line": place.lineno if place else None,
    }
