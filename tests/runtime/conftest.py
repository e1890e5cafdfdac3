"""What the runtime's tests share: applications called in memory, and services run as real processes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import httpx
import pytest

from bentoml import Service
from bentoml import _environment as environment
from bentoml._config import load_config
from bentoml._loader import load_service
from bentoml._serving.admission import Admission
from bentoml._serving.application import Replica, create_app

DEADLINE_S = 30.0


def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`; fails with `what` once the deadline has passed."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {DEADLINE_S:.0f} s: {what}")


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


# A marked class is a `Service`; to mypy, which does not follow decorators of classes, it is still a class.
Marked = Any


def service_of(marked: Marked) -> Service[Any]:
    assert isinstance(marked, Service)
    return marked


class InMemory(Protocol):
    """Makes a client of a service's application, which runs in a replica as described."""

    def __call__(
        self,
        service: Marked,
        *,
        config: Mapping[str, object] = ...,
        environ: Mapping[str, str] = ...,
        admission: Admission | None = ...,
        dependencies: Mapping[str, object] = ...,
    ) -> AbstractAsyncContextManager[httpx.AsyncClient]: ...


class Call(Protocol):
    """Sends one request to a service's application and returns the response."""

    def __call__(
        self,
        service: Marked,
        path: str,
        *,
        method: str = ...,
        config: Mapping[str, object] = ...,
        environ: Mapping[str, str] = ...,
        **request: Any,
    ) -> httpx.Response: ...


@asynccontextmanager
async def _in_memory(
    service: Marked,
    *,
    config: Mapping[str, object] = MappingProxyType({}),
    environ: Mapping[str, str] = MappingProxyType({}),
    admission: Admission | None = None,
    dependencies: Mapping[str, object] = MappingProxyType({}),
) -> AsyncIterator[httpx.AsyncClient]:
    loaded = load_config(service.name, service.config, config)
    replica = Replica(config=loaded, environ=environ, admission=admission)
    app = create_app(service_of(service), replica, dependencies)
    # What a client of the real server sees: an exception there is a response, not an exception here.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.lifespan(),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        yield client


@pytest.fixture
def in_memory() -> InMemory:
    return _in_memory


@pytest.fixture
def call() -> Call:
    def call(
        service: Marked,
        path: str,
        *,
        method: str = "POST",
        config: Mapping[str, object] = MappingProxyType({}),
        environ: Mapping[str, str] = MappingProxyType({}),
        **request: Any,
    ) -> httpx.Response:
        async def send() -> httpx.Response:
            async with _in_memory(service, config=config, environ=environ) as client:
                return await client.request(method, path, **request)

        return asyncio.run(send())

    return call


class Load(Protocol):
    """Writes a project's files and loads a service of it; nothing of it stays in this process."""

    def __call__(
        self, files: Mapping[str, str], target: str = ..., *, absent: frozenset[str] = ...
    ) -> Service[Any]: ...


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    modules, path, finders = dict(sys.modules), sys.path[:], sys.meta_path[:]

    def load(
        files: Mapping[str, str], target: str = "service:Iris", *, absent: frozenset[str] = frozenset()
    ) -> Service[Any]:
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text))
        return load_service(target, project=tmp_path, absent=absent)

    yield load
    sys.path[:], sys.meta_path[:] = path, finders
    for name in sys.modules.keys() - modules.keys():
        del sys.modules[name]


@pytest.fixture
def in_new_python(tmp_path: Path) -> Callable[[str], str]:
    """Runs a program in a process of its own and returns what it printed: nothing of it stays here."""

    def run(program: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            cwd=tmp_path,
            env=_clean_environ(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    return run


def _clean_environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("BENTOML_", "PORT"))}


def free_port() -> int:
    """A port that nothing uses, below those from which the system takes a connection's own end."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port


class ServiceProcess:
    """`python -m bentoml` as its own process, with what a test asks of it."""

    def __init__(
        self, target: str, project: Path, arguments: tuple[str, ...], variables: Mapping[str, str]
    ) -> None:
        self.port, self.management_port = free_port(), free_port()
        self._log = project / f"{target.replace(':', '.')}-{self.port}.log"
        own = {
            environment.SERVICE: target,
            environment.HOST: "127.0.0.1",
            environment.PORT: str(self.port),
            environment.MANAGEMENT_PORT: str(self.management_port),
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bentoml", *arguments],
                cwd=project,
                env={**_clean_environ(), **own, **variables},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text()

    def probe(self, path: str) -> int | None:
        """The status on the management port, None where nothing answers."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.management_port}{path}", trust_env=False).status_code
        except httpx.TransportError:
            return None

    def wait_until_ready(self) -> ServiceProcess:
        def ready() -> bool:
            assert self.process.poll() is None, self.log
            return self.probe("/readyz") == 200

        until(ready, f"{self.address} is ready")
        return self

    def post(self, path: str, **request: Any) -> httpx.Response:
        return httpx.post(self.address + path, trust_env=False, timeout=DEADLINE_S, **request)

    def refuses(self) -> bool:
        """Whether a connection to the public port is refused."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S).close()
        except ConnectionRefusedError:
            return True
        return False

    def wait(self) -> int:
        """The exit code, once the supervisor has ended by itself."""
        return self.process.wait(DEADLINE_S)

    def stop(self) -> int:
        self.process.terminate()
        return self.wait()

    def processes(self) -> set[int]:
        """All that runs of it: the supervisor, and whatever came from it."""
        found = set()
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.process.pid and state != "Z":
                    found.add(int(stat.parent.name))
        return found

    def kill_all(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()


class Start(Protocol):
    """Starts a service of the project in `tmp_path`; whatever runs at the test's end is killed."""

    def __call__(self, target: str, *arguments: str, **variables: str) -> ServiceProcess: ...


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[ServiceProcess] = []

    def start(target: str, *arguments: str, **variables: str) -> ServiceProcess:
        started.append(ServiceProcess(target, tmp_path, arguments, variables))
        return started[-1]

    yield start
    for service in started:
        service.kill_all()
