"""Workers that are forked, as the real processes that a container runs."""

from __future__ import annotations

import json
import os
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.conftest import Start, free_port, is_alive, until

from bentoml import _environment as environment

SERVICE = """
    import json
    import os
    import random
    from pathlib import Path

    import numpy

    import bentoml

    Path(f"import-{os.getpid()}").touch()

    @bentoml.service(workers=3)
    class Iris:
        def __init__(self):
            facts = {
                "parent": os.getppid(),
                "numbers": [random.random(), numpy.random.rand()],
                "threads": os.environ["OMP_NUM_THREADS"],
                "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
            }
            Path(f"worker-{os.getpid()}").write_text(json.dumps(facts))

        @bentoml.api
        def pid(self) -> int:
            return os.getpid()
"""

ALL_READY = "(3 of 3 workers)"
FORKED = "workers are forked from one process, which has imported the runtime"
ON_THEIR_OWN = "workers share no memory, each is started on its own: "


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "service.py").write_text(textwrap.dedent(SERVICE))
    return tmp_path


def installed(project: Path, package: str, text: str) -> dict[str, str]:
    """A package that is installed for a service's processes: the variable that says so."""
    folder = project.parent / f"{project.name}-installed"
    folder.mkdir()
    (folder / f"{package}.py").write_text(textwrap.dedent(text))
    return {"PYTHONPATH": str(folder)}


def imports(project: Path, package: str) -> None:
    """Let the project import one more package, if it can."""
    with (project / "service.py").open("a") as file:
        file.write(f"with bentoml.importing():\n    import {package}\n")


def pids(project: Path, kind: str) -> set[int]:
    return {int(path.name.partition("-")[2]) for path in project.glob(f"{kind}-*")}


def facts(project: Path, name: str) -> list[Any]:
    """What each worker has written under a name."""
    return [json.loads(path.read_text())[name] for path in project.glob("worker-*")]


def test_workers_are_forked_from_a_process_that_has_imported_what_they_share(
    project: Path, start: Start
) -> None:
    service = start("service:Iris")
    until(lambda: ALL_READY in service.log, "all are ready")

    (nursery,) = set(facts(project, "parent"))
    assert nursery in service.processes() - pids(project, "worker") - {service.process.pid}
    assert service.log.count(f"{FORKED}, numpy\n") == 1


def test_the_project_is_imported_by_each_worker_and_nobody_else(project: Path, start: Start) -> None:
    declared = environment.declared_text("Iris", {"workers": 3})
    service = start("service:Iris", **{environment.DECLARED: declared})
    until(lambda: ALL_READY in service.log, "all are ready")

    assert pids(project, "import") == pids(project, "worker")


def test_each_worker_has_random_numbers_of_its_own(project: Path, start: Start) -> None:
    service = start("service:Iris")
    until(lambda: ALL_READY in service.log, "all are ready")

    assert len({str(numbers) for numbers in facts(project, "numbers")}) == 3


def test_one_worker_is_started_on_its_own(project: Path, start: Start) -> None:
    overrides = environment.overrides_text("Iris", {"workers": 1})
    service = start("service:Iris", **{environment.CONFIG_OVERRIDES: overrides}).wait_until_ready()

    assert facts(project, "parent") == [service.process.pid]


# Which GPUs there are is asked of the machine; this says that there are three.
WITH_GPUS = """
import asyncio, os, signal
from pathlib import Path
from bentoml._config import load_config
from bentoml._gpus import Gpus
from bentoml._process.supervisor import Supervisor
from bentoml._process.task import ServiceTask
from bentoml._process.workers import plan_workers

declared = {"workers": [{"gpu": 1}, {"gpu": 2}]}
config = load_config("Iris", declared)
task = ServiceTask(
    target="service:Iris", service="Iris", config=config, declared=declared, project=Path.cwd(),
    workers=plan_workers(config, cpu_count=6, gpus=Gpus.of(3), environ={}),
    host="127.0.0.1", port=PORT, management_port=MANAGEMENT_PORT,
)

async def main():
    running = asyncio.create_task(Supervisor(task).run())
    while len(list(Path.cwd().glob("worker-*"))) < 2:
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    print(await running)

asyncio.run(main())
"""


def test_a_forked_worker_has_its_own_gpus_and_the_threads_that_are_its_share(
    project: Path, in_new_python: Callable[[str], str]
) -> None:
    ports = {"MANAGEMENT_PORT": str(free_port()), "PORT": str(free_port())}
    program = WITH_GPUS
    for name, port in ports.items():
        program = program.replace(f"={name}", f"={port}")

    assert in_new_python(program) == "0"
    assert sorted(zip(facts(project, "gpu"), facts(project, "threads"), strict=True)) == [
        ("0", "3"), ("1,2", "3")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "keeps",
    [
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()",
        "import socket\nkept = socket.socket()",
    ],
    ids=["a thread", "an open socket"],
)
def test_a_package_that_keeps_something_is_left_to_each_worker(
    project: Path, start: Start, keeps: str
) -> None:
    imports(project, "shapely")
    service = start("service:Iris", **installed(project, "shapely", keeps))

    until(lambda: ALL_READY in service.log, "all are ready")
    left_out = "each imports for itself, as not known to survive a fork: shapely"
    assert service.log.count(f"{FORKED}, numpy; {left_out}\n") == 1


def test_a_package_that_cannot_be_imported_is_nobodys_loss(project: Path, start: Start) -> None:
    imports(project, "shapely")
    service = start("service:Iris", **installed(project, "shapely", "raise ImportError('no CPU for it')"))

    until(lambda: ALL_READY in service.log, "all are ready")
    assert f"{FORKED}, numpy\n" in service.log


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "import os\nif 'nursery' in ' '.join(__import__('sys').argv[0:1]):\n    os._exit(7)",
            "the process that workers are forked from ended with exit code 7",
        ),
        (
            "import own",
            "the project has a module of its own named 'own', as a package that is shared",
        ),
    ],
)
def test_where_nothing_can_be_forked_each_worker_is_started_on_its_own(
    project: Path, start: Start, text: str, reason: str
) -> None:
    imports(project, "shapely")
    variables = installed(project, "shapely", text)
    (Path(variables["PYTHONPATH"]) / "own.py").touch()
    if "own" in text:
        (project / "own.py").touch()
    service = start("service:Iris", **variables)

    until(lambda: ALL_READY in service.log, "all are ready")
    assert service.log.count(f"WARNING [Iris] {ON_THEIR_OWN}{reason}\n") == 1
    assert set(facts(project, "parent")) == {service.process.pid}


def test_when_the_process_they_were_forked_from_dies_all_workers_are_replaced(
    project: Path, start: Start
) -> None:
    service = start("service:Iris")
    until(lambda: ALL_READY in service.log, "all are ready")
    first = pids(project, "worker")
    os.kill(next(iter(facts(project, "parent"))), signal.SIGKILL)

    until(lambda: service.log.count(ALL_READY) == 2, "all are ready again")
    assert "the process that workers are forked from ended with SIGKILL; they are ended too" in service.log
    assert service.post("/pid").json() in pids(project, "worker") - first
    assert not any(map(is_alive, first))


def test_a_forked_worker_that_is_killed_is_replaced(project: Path, start: Start) -> None:
    service = start("service:Iris")
    until(lambda: ALL_READY in service.log, "all are ready")
    first = pids(project, "worker")
    os.kill(min(first), signal.SIGKILL)

    until(lambda: service.log.count(ALL_READY) == 2, "all are ready again")
    assert service.log.count("ended with SIGKILL") == 1
    assert len(pids(project, "worker") - first) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_however_the_supervisor_ends_nothing_is_left_running(
    project: Path, start: Start, number: int
) -> None:
    service = start("service:Iris")
    until(lambda: ALL_READY in service.log, "all are ready")
    service.process.send_signal(number)

    until(lambda: not service.processes(), "all have ended")
    assert service.process.wait() == (-number if number == signal.SIGKILL else 0)
    assert service.log.count("ERROR") == 0


def test_a_service_that_stops_while_it_prepares_to_fork_ends_at_once(project: Path, start: Start) -> None:
    imports(project, "shapely")
    waits = "from pathlib import Path\nPath('importing').touch()\nimport time\ntime.sleep(60)"
    declared = environment.declared_text("Iris", {"workers": 3})
    variables = {environment.DECLARED: declared, **installed(project, "shapely", waits)}
    service = start("service:Iris", **variables)
    until((project / "importing").exists, "a package is being imported")

    assert service.stop() == 0
    assert not service.processes()


def test_why_no_worker_starts_is_told_once(project: Path, start: Start) -> None:
    with (project / "service.py").open("a") as file:
        file.write("raise LookupError('no weights')\n")
    declared = environment.declared_text("Iris", {"workers": 3})
    service = start("service:Iris", **{environment.DECLARED: declared})

    assert service.wait() == 1
    assert (
        service.log.count("Iris cannot start: its own code failed\nTraceback (most recent call last):") == 1
    )
    assert service.log.count("LookupError: no weights") == 1
    assert "importlib" not in service.log
