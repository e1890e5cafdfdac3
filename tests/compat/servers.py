"""The two implementations, in processes of their own: serving this folder's projects, and playing rows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.runtime.conftest import free_port

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DEADLINE_S = 60.0

# The class that each project serves.
PROJECTS = {"service": "Compat", "prefixed": "Prefixed", "beyond": "Beyond"}
PREFIXES = {"prefixed": "/v1"}


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """One implementation of the interface, as installed in an environment.

    Args:
        serve: the command that serves a target on `{port}`.
        projects: which of the projects it can load.
    """

    name: str
    python: Path
    serve: tuple[str, ...]
    projects: tuple[str, ...]


THEIRS = Implementation(
    name="theirs",
    python=ROOT / ".venv-reference" / "bin" / "python",
    serve=("-m", "bentoml", "serve", "{target}", "--host", "127.0.0.1", "--port", "{port}"),
    projects=("service", "prefixed"),
)
OURS = Implementation(
    name="ours",
    python=Path(sys.executable),
    serve=("-m", "bentoml", "{target}"),
    projects=("service", "prefixed", "beyond"),
)
IMPLEMENTATIONS = (THEIRS, OURS)


class Server:
    """One project, served."""

    def __init__(self, by: Implementation, project: str, home: Path) -> None:
        self.name = f"{project} by {by.name}"
        self._prefix = PREFIXES.get(project, "")
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        target = f"{project}:{PROJECTS[project]}"
        # A home of its own: servers that share one share their metrics and their tasks.
        home.mkdir()
        self._log = home / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [by.python, *(word.format(target=target, port=port) for word in by.serve)],
                cwd=HERE,
                env=_environ(
                    BENTOML_HOME=str(home),
                    BENTOML_HOST="127.0.0.1",
                    BENTOML_PORT=str(port),
                    BENTOML_MANAGEMENT_PORT=str(free_port()),
                    BENTOML_RESULT_STORE=str(home / "tasks.db"),
                    PROMETHEUS_MULTIPROC_DIR=str(home),
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.address}{self._prefix}/readyz", trust_env=False).status_code == 200:
                    return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"{self.name} is not ready:\n{self._log.read_text()[-4000:]}")

    def stop(self) -> None:
        # A supervisor of theirs starts its workers in sessions of their own: it must end them itself.
        self._process.terminate()
        try:
            self._process.wait(DEADLINE_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


@contextmanager
def serving(by: Implementation, folder: Path) -> Iterator[dict[str, str]]:
    """The implementation serves all its projects; gives their addresses."""
    servers: dict[str, Server] = {}
    try:
        for project in by.projects:
            servers[project] = Server(by, project, folder / f"{by.name}-{project}")
        for server in servers.values():
            server.wait_until_ready()
        yield {project: server.address for project, server in servers.items()}
    finally:
        with ThreadPoolExecutor() as stopping:
            list(stopping.map(Server.stop, servers.values()))


@dataclass(frozen=True, kw_only=True)
class Column:
    """A client of one implementation that plays rows on the servers of one."""

    client: Implementation
    kind: str
    server: Implementation

    def __str__(self) -> str:
        return f"{self.client.name} {self.kind} on {self.server.name}"


def drive(
    client: Implementation, columns: Sequence[Mapping[str, object]], folder: Path
) -> list[dict[str, str | None]]:
    """Play the columns with the implementation's clients, in a process of its own."""
    home = folder / f"client-{client.name}"
    home.mkdir()
    ended = subprocess.run(
        [client.python, "-m", "tests.compat.drive"],
        cwd=ROOT,
        env=_environ(BENTOML_HOME=str(home)),
        input=json.dumps(columns),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    faults: list[dict[str, str | None]] = json.loads(ended.stdout)
    return faults


def _environ(**variables: str) -> dict[str, str]:
    # Bytecode is kept: without it each start of theirs compiles hundreds of modules anew.
    unwanted = ("BENTO", "PORT", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {**kept, "BENTOML_DO_NOT_TRACK": "True", **variables}
