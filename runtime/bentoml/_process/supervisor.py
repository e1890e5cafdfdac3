"""The first process of a service: binds the ports, keeps the workers alive, answers probes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.types import Receive, Scope, Send

from bentoml import _environment as environment
from bentoml._config import ServiceConfig
from bentoml._process.workers import WorkerPlan, WorkerTask
from bentoml.exceptions import BentoMLConfigException

log = logging.getLogger("bentoml")

GRACE_S = 30
"""How long running requests may go on after SIGTERM, before they are cut off."""

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_PROVEN_AFTER_S = 60.0  # a worker that lived this long starts again after the first pause


@dataclass(frozen=True, kw_only=True)
class ServiceTask:
    """What a supervisor runs.

    Args:
        declared: the configuration with all layers merged, as the workers get it.
        host: the interface of the public port.
    """

    target: str
    service: str
    config: ServiceConfig
    declared: Mapping[str, object]
    project: Path
    workers: tuple[WorkerPlan, ...]
    host: str
    port: int
    management_port: int

    @property
    def management_host(self) -> str:
        """Every interface, as probes from outside a container need it; loopback stays loopback."""
        is_loopback = self.host in ("localhost", "::1") or self.host.startswith("127.")
        return "127.0.0.1" if is_loopback else "0.0.0.0"  # noqa: S104


@dataclass
class _Worker:
    plan: WorkerPlan
    process: asyncio.subprocess.Process
    started_at: float = field(default_factory=time.monotonic)
    is_ready: bool = False


class Supervisor:
    """Runs one service until SIGTERM, SIGINT or, where asked for, the end of stdin."""

    def __init__(self, task: ServiceTask, *, stop_at_end_of_stdin: bool = False) -> None:
        self._task = task
        self._stop_at_end_of_stdin = stop_at_end_of_stdin
        self._workers: dict[int, _Worker] = {}
        self._was_ready = False
        self._failed = False

    async def run(self) -> int:
        """Serve until told to stop; the exit code is 1 when the service could not start.

        Raises:
            BentoMLConfigException: a port cannot be bound; names the variable that sets it.
        """
        self._stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        if self._stop_at_end_of_stdin:
            loop.add_reader(0, self._read_lifeline)
        with (
            _bound(self._task.host, self._task.port, environment.PORT) as public,
            _bound(
                self._task.management_host, self._task.management_port, environment.MANAGEMENT_PORT
            ) as management,
        ):
            probes = _ProbeServer(self)
            answering = asyncio.create_task(probes.serve(sockets=[management]))
            keepers = [asyncio.create_task(self._keep_or_fail(plan, public)) for plan in self._task.workers]
            await self._stop.wait()
            public.close()  # connections are refused again as soon as no worker takes them
            await self._stop_workers(keepers)
            probes.should_exit = True
            await answering
        return 1 if self._failed else 0

    @property
    def is_live(self) -> bool:
        """Whether the service works, or may still come to."""
        return not self._failed

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken: some worker is ready, busy ones too, and none is told to stop."""
        return not self._stop.is_set() and any(worker.is_ready for worker in self._workers.values())

    async def _keep_or_fail(self, plan: WorkerPlan, public: socket.socket) -> None:
        try:
            await self._keep(plan, public)
        except Exception:  # a service without its keeper would go on without a worker, and without a word
            log.exception("worker %d can no longer be kept; the service stops", plan.index)
            self._failed = True
            self._stop.set()

    async def _keep(self, plan: WorkerPlan, public: socket.socket) -> None:
        """Start a worker, and start it again when it ends, until the service stops."""
        pause_s = _FIRST_PAUSE_S
        while not self._stop.is_set():
            worker = await self._start(plan, public)
            if self._stop.is_set():  # while it was being started, so that nobody has told it
                _end(worker)
            code = await worker.process.wait()
            lived_s = time.monotonic() - worker.started_at
            if self._stop.is_set():
                return
            if not self._was_ready:
                log.error(
                    "%s cannot start: its first worker ended with %s", self._task.service, _ending(code)
                )
                self._failed = True
                self._stop.set()
                return
            if lived_s > _PROVEN_AFTER_S:
                pause_s = _FIRST_PAUSE_S
            log.error(
                "worker %d ended with %s after %.0f s; starting it again in %.1f s",
                plan.index, _ending(code), lived_s, pause_s,
            )  # fmt: skip
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _start(self, plan: WorkerPlan, public: socket.socket) -> _Worker:
        read_end, write_end = os.pipe()
        task = WorkerTask(
            target=self._task.target,
            service=self._task.service,
            config=dict(self._task.declared),
            project=str(self._task.project),
            index=plan.index,
            workers=len(self._task.workers),
            socket=public.fileno(),
            reports=write_end,
            grace_s=GRACE_S,
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bentoml._process.worker",
            task.as_argument(),
            stdin=asyncio.subprocess.PIPE,
            env={**os.environ, **plan.environ},
            pass_fds=(public.fileno(), write_end),
        )
        os.close(write_end)
        worker = self._workers[plan.index] = _Worker(plan, process)
        asyncio.get_running_loop().add_reader(read_end, self._read_reports, read_end, worker)
        return worker

    def _read_reports(self, descriptor: int, worker: _Worker) -> None:
        data = os.read(descriptor, 65536)
        if not data:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)
            worker.is_ready = False
            return
        # Being ready is all that a worker reports.
        if not worker.is_ready:
            worker.is_ready = True
            self._announce()

    def _announce(self) -> None:
        """Say that the first worker takes requests, and when all of them do."""
        ready = sum(worker.is_ready for worker in self._workers.values())
        wanted = len(self._task.workers)
        where = f"http://{self._task.host}:{self._task.port}"
        if not self._was_ready or ready == wanted:
            log.info("%s ready on %s (%d of %d workers)", self._task.service, where, ready, wanted)
        self._was_ready = True

    async def _stop_workers(self, keepers: list[asyncio.Task[None]]) -> None:
        """Ask every worker to finish what it runs; after the grace period, end those that have not."""
        for worker in self._workers.values():
            _end(worker)
        _, late = await asyncio.wait(keepers, timeout=GRACE_S + 2)
        for worker in self._workers.values():
            if worker.process.returncode is None:
                log.warning("worker %d runs on after %d s and is killed", worker.plan.index, GRACE_S)
                worker.process.kill()
        for keeper in late:
            await keeper

    def _read_lifeline(self) -> None:
        if not os.read(0, 4096):
            asyncio.get_running_loop().remove_reader(0)
            self._stop.set()


def _end(worker: _Worker) -> None:
    """Tell a worker to finish; one that is still loading runs nothing, and would not hear it until done."""
    with suppress(ProcessLookupError):
        worker.process.send_signal(signal.SIGTERM if worker.is_ready else signal.SIGKILL)


class _ProbeServer(uvicorn.Server):
    """Answers `/livez`, `/readyz` and `/healthz` for the service, whatever its workers are busy with."""

    def __init__(self, supervisor: Supervisor) -> None:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            checks = {
                "/livez": supervisor.is_live,
                "/readyz": supervisor.is_ready,
                "/healthz": supervisor.is_ready,
            }
            status = {None: 404, True: 200, False: 503}[checks.get(scope["path"])]
            headers = [(b"content-type", b"text/plain"), (b"content-length", b"1")]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b"\n"})

        super().__init__(uvicorn.Config(answer, lifespan="off", log_config=None, access_log=False))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals are the supervisor's: this server answers until the last worker has ended.
        yield


@contextmanager
def _bound(host: str, port: int, variable: str) -> Iterator[socket.socket]:
    """A socket that is bound and does not listen: until something does, connections are refused."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, port))
        except OSError as error:
            raise BentoMLConfigException(
                f"{host}:{port}: {error.strerror}; choose another port with {variable}"
            ) from None
        yield bound


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
