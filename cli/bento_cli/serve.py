"""`bento serve`: the graph on this machine, one process tree for each service, as in production."""

from __future__ import annotations

import errno
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bento_cli.errors import BentoError, NotHealthyError
from bentoml import _environment as environment
from bentoml._graph import ServiceGraph
from bentoml._probe import is_ready

# Below the range from which the system takes the ports of outgoing connections.
_PORTS: Final = range(20000, 32000)
_LOG_TAIL: Final = 20
_GRACE_S: Final = 40


@dataclass(frozen=True, kw_only=True)
class LocalService:
    """One service as it is to run here.

    Args:
        environ: its variables, on top of those of this process.
    """

    name: str
    address: str
    management_port: int
    project: Path
    environ: Mapping[str, str]


def plan_serve(
    graph: ServiceGraph,
    project: Path,
    variables: Mapping[str, Mapping[str, str]],
    *,
    host: str = "127.0.0.1",
    port: int = environment.DEFAULT_PORT,
) -> tuple[LocalService, ...]:
    """What runs where: the entry on `port`, the others on ports that are free now; dependencies first.

    Args:
        variables: what each service is told about itself, by its name.

    Raises:
        BentoError: `port` is in use.
    """
    problem = _why_not_bound(host, port)
    if problem is not None:
        raise BentoError(problem, hint="choose another with `--port` or `--host`")
    taken = {port}
    ports = {node.name: port if node.name == graph.entry else _free_port(taken) for node in graph}
    services = []
    for node in graph:
        is_entry = node.name == graph.entry
        management_port = _free_port(taken)
        own_host = host if is_entry else "127.0.0.1"
        services.append(
            LocalService(
                name=node.name,
                address=f"http://{f'[{own_host}]' if ':' in own_host else own_host}:{ports[node.name]}",
                management_port=management_port,
                project=project,
                environ={
                    **variables[node.name],
                    environment.SERVICE: node.target,
                    environment.PROJECT: str(project.resolve()),
                    environment.HOST: own_host,
                    environment.PORT: str(ports[node.name]),
                    environment.MANAGEMENT_PORT: str(management_port),
                    **{
                        environment.peer_variable(p): f"http://127.0.0.1:{ports[p]}"
                        for p in graph.peers(node.name)
                    },
                },
            )
        )
    return tuple(services)


def _free_port(taken: set[int]) -> int:
    while True:
        port = random.choice(_PORTS)  # noqa: S311  # any port will do
        if port not in taken and _why_not_bound("127.0.0.1", port) is None:
            taken.add(port)
            return port


def _why_not_bound(host: str, port: int) -> str | None:
    """What keeps a server from listening there; None when nothing does."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            # Two may be bound at once while neither listens.
            probe.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"port {port} of {host} is in use"
        return f"{host}:{port}: {error.strerror}"
    return None


@dataclass
class _Running:
    service: LocalService
    process: subprocess.Popen[bytes]
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_LOG_TAIL))
    reader: threading.Thread | None = None


class LocalGraph:
    """The running processes of a graph; leaves nothing behind when the `with` block ends.

    Args:
        on_log: gets every line that a service writes, with the service's name.
    """

    def __init__(self, services: tuple[LocalService, ...], on_log: Callable[[str, str], None]) -> None:
        self._services = services
        self._on_log = on_log
        self._running: list[_Running] = []

    def __enter__(self) -> LocalGraph:
        for service in self._services:
            self._running.append(self._start(service))
        return self

    def __exit__(self, *_: object) -> None:
        # The entry first: what it still runs may need those that it calls.
        for running in reversed(self._running):
            self._stop(running)

    def wait_ready(self, timeout_s: float) -> None:
        """Return when every service is ready.

        Raises:
            NotHealthyError: one ended or took too long; shows the tail of its log.
        """
        deadline = time.monotonic() + timeout_s
        waiting = list(self._running)
        while waiting:
            waiting = [r for r in waiting if not is_ready(r.service.management_port, timeout_s=1.0)]
            self._raise_for_ended()
            if waiting and time.monotonic() > deadline:
                names = ", ".join(r.service.name for r in waiting)
                raise NotHealthyError(f"{names} not ready after {timeout_s:g} s", details=_tails(waiting))
            time.sleep(0.05)

    def wait(self) -> None:
        """Return never; a service that ends by itself is an error.

        Raises:
            NotHealthyError: shows the tail of its log.
        """
        while True:
            self._raise_for_ended()
            time.sleep(0.2)

    def _raise_for_ended(self) -> None:
        ended = [r for r in self._running if r.process.poll() is not None]
        for running in ended:
            if running.reader is not None:
                # So that its last words are there; a child of its own may hold the pipe for longer.
                running.reader.join(timeout=2)
            code = running.process.returncode
            raise NotHealthyError(
                f"{running.service.name} ended with exit code {code}", details=_tails([running])
            )

    def _start(self, service: LocalService) -> _Running:
        process = subprocess.Popen(
            [sys.executable, "-m", "bentoml", "--stop-with-stdin"],
            cwd=service.project,
            env={**os.environ, **service.environ},
            # Its end tells the service to stop, however this process ends.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches this process only, which then stops the services in order.
            start_new_session=True,
        )
        running = _Running(service, process)
        running.reader = threading.Thread(target=self._read_log, args=(running,), daemon=True)
        running.reader.start()
        return running

    def _read_log(self, running: _Running) -> None:
        assert running.process.stdout is not None  # noqa: S101  # a pipe
        for raw in running.process.stdout:
            # What a progress bar wrote over itself is not shown, as on a terminal.
            line = raw.decode(errors="replace").rstrip().rpartition("\r")[2]
            if line:
                running.tail.append(line + "\n")
                self._on_log(running.service.name, line)

    def _stop(self, running: _Running) -> None:
        running.process.terminate()
        try:
            running.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.wait()
        if running.reader is not None:
            running.reader.join(timeout=5)
        for pipe in (running.process.stdin, running.process.stdout):
            if pipe is not None:
                pipe.close()


def _tails(ended: list[_Running]) -> str:
    return "\n".join("".join(running.tail) for running in ended)
