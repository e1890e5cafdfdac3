"""Small projects, each named for what is special about it: their graphs, slices and problems, as goldens.

Eleven of them have the shape of a public project, whose address and commit stand in their first file.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import ANY

import pytest
from tests.cli.conftest import PROJECTS
from tests.conftest import CheckGolden

from bento_cli.build import BuildPlan, plan_build
from bento_cli.errors import InputError
from bentoml._graph import ServiceNode, as_text

NAMES = sorted(path.parent.name for path in PROJECTS.glob("*/bentofile.yaml"))


def shown(plan: BuildPlan) -> Iterator[str]:
    """All that was decided about a project, for people to review."""
    yield as_text(plan.graph)
    for node in plan.graph:
        yield ""
        yield f"{node.name} = {node.target}"
        yield from (f"    {line}" for line in declared(node))
        decisions = [decision for decision in plan.requirements.decisions if decision.service == node.name]
        for decision in decisions:
            yield f"  {'+' if decision.is_held else '-'} {decision.requirement:<23} {decision.why}"
        if plan.absent[node.name]:
            yield f"    placeholders: {', '.join(sorted(plan.absent[node.name]))}"
    if plan.notes:
        yield from ("", "notes:", *(f"  {note}" for note in plan.notes))


def declared(node: ServiceNode) -> Iterator[str]:
    """What a service says of itself."""
    facts = {
        "endpoints": ", ".join(f"{name} (task)" if name in node.tasks else name for name in node.endpoints),
        "config": ", ".join(f"{key}={value}" for key, value in node.config.items()),
        "envs": ", ".join(f"{env['name']}={env.get('value') or '?'}" for env in node.envs),
        "labels": ", ".join(f"{key}={value}" for key, value in node.labels.items()),
        "answered by": "a command" if node.runs_command else "",
    }
    return (f"{fact}: {text}" for fact, text in facts.items() if text)


@pytest.mark.parametrize("name", NAMES)
def test_a_project_is_sliced_as_its_golden_says(
    name: str, monkeypatch: pytest.MonkeyPatch, check_golden: CheckGolden
) -> None:
    monkeypatch.chdir(PROJECTS / name)  # places are shown relative to it

    try:
        text = "\n".join(shown(plan_build(PROJECTS / name)))
    except InputError as error:
        text = str(error)

    check_golden(f"projects/{name}.txt", text + "\n")


# Loads services, each in a process of its own, with placeholders for what its slice leaves out. Most of what
# the slice holds is there as a package that lets everything be done with it: the real ones take minutes.
LOADER = """
import importlib.abc, importlib.machinery, importlib.util, json, os, sys, traceback
from pathlib import Path
from unittest.mock import ANY
from bentoml._loader import load_service

class Anything:
    __path__, __name__, __all__ = [], "anything", []
    def __getattr__(self, name):
        return object.__getattribute__(self, name) if name.startswith("__") else self
    def __call__(self, *args, **kwargs): return args[0] if args and hasattr(args[0], "__module__") else self
    def __getitem__(self, item): return self
    def __mro_entries__(self, bases): return ()
    def __iter__(self): return iter(())
    def __enter__(self): return self
    def __exit__(self, *error): ...
    def __or__(self, other): return self
    __ror__ = __or__

class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, tops): self.tops = tops
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.tops:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
    def create_module(self, spec): return Anything()
    def exec_module(self, module): ...

import PIL.Image, fastapi, numpy

failures = {}
for case in json.load(sys.stdin):
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            sys.meta_path.insert(0, Finder(set(case["held"]) - {"PIL", "fastapi", "numpy"}))
            load_service(case["target"], project=Path(case["root"]), absent=frozenset(case["absent"]))
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as told:
        said = told.read()
    os.wait()
    if said:
        failures[case["name"]] = said
print(json.dumps(failures))
"""


def test_every_service_loads_with_no_more_than_its_slice(tmp_path: Path) -> None:
    cases = []
    for name in NAMES:
        try:
            plan = plan_build(PROJECTS / name)
        except InputError:
            continue
        for node in plan.graph:
            held = list(plan.slices[node.name].reached)
            absent = sorted(plan.slices[node.name].absent)
            place = {"root": str(PROJECTS / name), "target": node.target, "name": f"{name}/{node.name}"}
            cases.append({**place, "held": held, "absent": absent})

    run = subprocess.run(
        [sys.executable, "-c", LOADER],
        input=json.dumps(cases),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(run.stdout) == {"module-that-raises/Leaf": ANY, "module-that-raises/Entry": ANY}
