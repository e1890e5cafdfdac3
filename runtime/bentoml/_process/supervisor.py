"""The first process of a service: binds the ports, keeps the workers alive, answers probes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import closing
from pathlib import Path

from bentoml import _environment as environment
from bentoml._config import ServiceConfig
from bentoml._metrics_folder import metrics_folder
from bentoml._process.board import Board
from bentoml._process.crew import Crew, Times
from bentoml._process.management import ManagementServer
from bentoml._process.port import PublicPort, bound
from bentoml._process.processes import ForkedProcesses, FreshProcesses, Processes
from bentoml._process.task import LAME_DUCK_S, ServiceTask

log = logging.getLogger("bentoml")

GRACE_S = 30.0
"""How long a service may take to end after SIGTERM, the end of its own code included."""

STUCK_MARGIN_S = 30.0
"""How long the loop of a worker may be silent beyond `traffic.timeout`, before the worker is replaced."""


def times_of(
    config: ServiceConfig,
    *,
    stuck_margin_s: float = STUCK_MARGIN_S,
    grace_s: float = GRACE_S,
    lame_duck_s: float = LAME_DUCK_S,
) -> Times:
    """How long a service with this configuration is waited for."""
    return Times(
        stuck_after_s=config.traffic.timeout + stuck_margin_s, grace_s=grace_s, lame_duck_s=lame_duck_s
    )


class Supervisor:
    """Runs one service until SIGTERM, SIGINT or, where asked for, the end of stdin."""

    def __init__(
        self,
        task: ServiceTask,
        *,
        stop_at_end_of_stdin: bool = False,
        stuck_margin_s: float = STUCK_MARGIN_S,
        grace_s: float = GRACE_S,
        lame_duck_s: float = LAME_DUCK_S,
    ) -> None:
        self._task = task
        self._stop_at_end_of_stdin = stop_at_end_of_stdin
        self._times = times_of(
            task.config, stuck_margin_s=stuck_margin_s, grace_s=grace_s, lame_duck_s=lame_duck_s
        )
        self._stop_signal = signal.SIGTERM
        self._failed = False

    async def run(self) -> int:
        """Serve until told to stop; the exit code is 1 when the service could not start.

        Raises:
            BentoMLConfigException: a port cannot be bound; names the variable that sets it.
        """
        self._stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_by, number)
        if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # else it is to outlive its terminal
            loop.add_signal_handler(signal.SIGHUP, self._stop_by, signal.SIGTERM)
        if self._stop_at_end_of_stdin:
            loop.add_reader(0, self._read_lifeline)
        task = self._task
        with (
            bound(task.host, task.port, environment.PORT) as public,
            bound(task.management_host, task.management_port, environment.MANAGEMENT_PORT) as management,
            metrics_folder() as metrics,
            closing(Board.new(len(task.workers))) as board,
        ):
            processes = self._processes(metrics)
            self._crew = Crew(
                task,
                PublicPort(public, task.config.backlog, environment.PORT),
                board,
                processes,
                metrics=metrics,
                times=self._times,
                on_failure=self._fail,
            )
            server = ManagementServer(self, metrics if task.config.metrics.enabled else None)
            answering = asyncio.create_task(server.serve(sockets=[management]))
            self._crew.start()
            await self._stop.wait()
            await self._crew.stop(self._stop_signal)
            await processes.close()
            server.should_exit = True
            await answering
        return 1 if self._failed else 0

    @property
    def is_live(self) -> bool:
        """Whether the service works, or may still come to."""
        return not self._failed and self._crew.is_live

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken."""
        return not self._stop.is_set() and self._crew.is_ready

    def _processes(self, metrics: Path) -> Processes:
        environ = {**os.environ, environment.METRICS_DIRECTORY: str(metrics)}
        if len(self._task.workers) == 1:
            return FreshProcesses(environ)
        if sys.platform != "linux":
            log.info(
                "workers share no memory, each is started on its own: only Linux's processes can be forked"
            )
            return FreshProcesses(environ)
        # What packages read when they load has to be there in the process that loads them.
        common = set.intersection(*(set(plan.environ.items()) for plan in self._task.workers))
        return ForkedProcesses(
            self._task.target.partition(":")[0],
            self._task.project,
            environment.names(environment.ABSENT_MODULES),
            {**environ, **dict(common)},
        )

    def _fail(self) -> None:
        self._failed = True
        self._stop.set()

    def _stop_by(self, number: signal.Signals) -> None:
        if not self._stop.is_set():
            self._stop_signal = number
            self._stop.set()
        elif number == signal.SIGINT:  # somebody waits; whoever repeats a SIGTERM may just make sure
            self._crew.cut()

    def _read_lifeline(self) -> None:
        if not os.read(0, 4096):
            asyncio.get_running_loop().remove_reader(0)
            self._stop.set()
