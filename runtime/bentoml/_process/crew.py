"""The crew of a replica: its workers, kept alive until they are told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bentoml._process.board import Board
from bentoml._process.line import STACKS_SIGNAL, Report, SupervisorEnd
from bentoml._process.port import PublicPort
from bentoml._process.processes import Processes, WorkerProcess, ending
from bentoml._process.task import END_S, LAME_DUCK_S, ServiceTask, WorkerTask
from bentoml._process.workers import WorkerPlan
from bentoml.exceptions import BentoMLConfigException

log = logging.getLogger("bentoml")

_STACKS_S: Final = 1.0  # for a stuck worker to write the stacks of its threads
_EARLIER_S: Final = 0.1
_LATE_S: Final = 2.0  # for what a worker has to end by, before it is killed


@dataclass(frozen=True, kw_only=True)
class Times:
    """How long a crew waits for what.

    Args:
        stuck_after_s: how long the loop of a worker may be silent.
        grace_s: how long a worker may take to end.
        lame_duck_s: how long requests are still taken after SIGTERM.
        tick_s: how often stuck workers are looked for.
        first_pause_s: before a worker is started again; it doubles with each one that does not last.
        proven_after_s: what dies after so long did not die of its start, and is started again soon.
    """

    stuck_after_s: float
    grace_s: float
    lame_duck_s: float = LAME_DUCK_S
    tick_s: float = 1.0
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    proven_after_s: float = 5.0


@dataclass
class _Worker:
    plan: WorkerPlan
    process: WorkerProcess
    line: SupervisorEnd
    waits_to_begin: bool = False
    may_listen: bool = False
    is_ready: bool = False
    reason: str = ""  # why it cannot start
    beats: int = 0
    silent_s: float = 0.0


class Crew:
    """The workers of one replica.

    Args:
        metrics: the folder where they keep their metrics.
        on_failure: called when there is no sense in going on; the log says why.
    """

    def __init__(
        self,
        task: ServiceTask,
        port: PublicPort,
        board: Board,
        processes: Processes,
        *,
        metrics: Path,
        times: Times,
        on_failure: Callable[[], None],
    ) -> None:
        self._task = task
        self._port = port
        self._board = board
        self._processes = processes
        self._metrics = metrics
        self._times = times
        self._on_failure = on_failure
        self._workers: dict[int, _Worker] = {}
        self._killing: asyncio.TimerHandle | None = None
        self._was_ready = False
        self._is_stopping = False
        self._is_cut = False
        self._is_deploying = False
        self._is_deployed = False

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken: some worker is ready, busy ones too, and none is told to stop."""
        return not self._is_stopping and any(
            worker.is_ready and self._board.says_ready(index) for index, worker in self._workers.items()
        )

    @property
    def is_live(self) -> bool:
        """Whether there is a worker whose service does not say that it is not live."""
        serving = [index for index, worker in self._workers.items() if worker.is_ready]
        return not serving or any(self._board.says_live(index) for index in serving)

    def start(self) -> None:
        """Start all workers, and keep them from now on."""
        self._keepers = {
            plan.index: asyncio.create_task(self._keep_or_fail(plan)) for plan in self._task.workers
        }
        self._watching = asyncio.create_task(self._watch())

    async def stop(self, number: int) -> None:
        """Ask every worker to finish what it runs; after the grace period, end those that have not.

        Args:
            number: the signal that says how: SIGTERM, or SIGINT where nobody else is to be considered.
        """
        self._is_stopping = True
        self._watching.cancel()
        loop = asyncio.get_running_loop()
        # A moment before workers take no more, or connections would wait where nobody takes them; and here,
        # since a worker whose loop is blocked has the port open for as long as that lasts.
        is_considerate = number == signal.SIGTERM
        shut_after_s = max(0.0, self._times.lame_duck_s - _EARLIER_S) if is_considerate else 0.0
        shutting = loop.call_later(shut_after_s, self._port.shut)
        for index, keeper in self._keepers.items():
            worker = self._workers.get(index)
            if worker is None:
                keeper.cancel()  # while it starts one, or pauses before it does
            else:
                # One that is still loading runs nothing, and would not hear it until done.
                worker.process.send_signal(number if worker.is_ready else signal.SIGKILL)
        self._killing = loop.call_later(self._times.grace_s + _LATE_S, self._kill)
        await asyncio.wait(self._keepers.values())
        self._killing.cancel()
        shutting.cancel()

    def cut(self) -> None:
        """Where the crew stops, let it do so without finishing requests; its workers end as ever."""
        if self._killing is None or self._is_cut:
            return
        self._is_cut = True
        log.warning("told to stop once more: requests that still run are cut off")
        for worker in self._workers.values():
            worker.line.say("cut")
        loop = asyncio.get_running_loop()
        due = min(self._killing.when(), loop.time() + END_S + _LATE_S)
        self._killing.cancel()
        self._killing = loop.call_at(due, self._kill)

    def _kill(self) -> None:
        for worker in self._workers.values():
            log.warning("worker %d does not end and is killed", worker.plan.index)
            worker.process.send_signal(signal.SIGKILL)

    async def _keep_or_fail(self, plan: WorkerPlan) -> None:
        try:
            await self._keep(plan)
        except Exception:  # a service without its keeper would go on without a worker, and without a word
            log.exception("worker %d can no longer be kept; the service stops", plan.index)
            self._fail()

    def _fail(self) -> None:
        self._is_stopping = True
        self._on_failure()

    async def _keep(self, plan: WorkerPlan) -> None:
        """Start a worker, and start it again when it ends, until the service stops."""
        times = self._times
        pause_s = times.first_pause_s
        clock = asyncio.get_running_loop().time
        while True:
            started_at = clock()
            ended, reason = await self._run(plan)
            lived_s = clock() - started_at
            if self._is_stopping:
                return
            if not self._was_ready:
                reason = reason or f"its first worker {ended}"
                log.error("%s cannot start: %s", self._task.service, reason)
                self._fail()
                return
            if lived_s > times.proven_after_s and not reason:
                pause_s = times.first_pause_s
            if reason:
                log.error("worker %d cannot start; trying again in %.1f s: %s", plan.index, pause_s, reason)
            else:
                log.error(
                    "worker %d %s after %.0f s; starting it again in %.1f s",
                    plan.index, ended, lived_s, pause_s,
                )  # fmt: skip
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, times.longest_pause_s)

    async def _run(self, plan: WorkerPlan) -> tuple[str, str]:
        """How a worker ended, and why it could not start, if it could not."""
        loop = asyncio.get_running_loop()
        line = SupervisorEnd(self._worker_task(plan))
        descriptors = (line.workers_end, self._port.fileno(), self._board.descriptor)
        try:
            try:
                process = await self._processes.start(descriptors, plan.environ)
            except OSError as error:
                return "was not started", f"no process for it: {error.strerror or error}"
            line.was_passed_on()
            worker = self._workers[plan.index] = _Worker(plan, process, line)
            loop.add_reader(line.fileno(), self._read_reports, worker)
            code = await process.wait()
            self._read_reports(worker)  # its last words may still wait
        finally:
            loop.remove_reader(line.fileno())
            line.close()
        self._bury(worker)
        return f"ended with {ending(code)}", worker.reason

    def _worker_task(self, plan: WorkerPlan) -> WorkerTask:
        return WorkerTask(
            target=self._task.target,
            service=self._task.service,
            config=dict(self._task.declared),
            project=str(self._task.project),
            index=plan.index,
            workers=len(self._task.workers),
            grace_s=self._times.grace_s,
            lame_duck_s=self._times.lame_duck_s,
        )

    def _bury(self, worker: _Worker) -> None:
        """Forget what a worker was doing when it ended; its callers too, if nobody is left to accept them."""
        del self._workers[worker.plan.index]
        self._board.clear(worker.plan.index)
        if self._is_stopping:
            return
        if not any(other.may_listen for other in self._workers.values()):
            self._port.shut()
        from bentoml._serving import metrics  # loads Prometheus' client, which most supervisors never need

        metrics.forget(self._metrics, worker.process.pid)

    def _read_reports(self, worker: _Worker) -> None:
        reports = worker.line.read()
        if reports is None:
            asyncio.get_running_loop().remove_reader(worker.line.fileno())
            worker.is_ready = False
        for report in reports or ():
            self._hear(worker, report)

    def _hear(self, worker: _Worker, report: Report) -> None:
        match report["state"]:
            case "imported" if self._is_deployed:
                worker.line.say("begin")
            case "imported" if self._is_deploying:
                worker.waits_to_begin = True
            case "imported":
                self._is_deploying = True
                worker.line.say("deploy")
            case "deployed":
                self._is_deployed = True
                for other in self._workers.values():
                    if other.waits_to_begin:
                        other.line.say("begin")
            case "loaded":
                self._let_listen(worker)
            case "ready":
                worker.is_ready = True
                self._announce()
            case "failed" if worker.is_ready:
                log.error("worker %d did not end well: %s", worker.plan.index, report["reason"])
            case "failed":
                worker.reason = report["reason"]

    def _let_listen(self, worker: _Worker) -> None:
        try:
            self._port.open()
        except BentoMLConfigException as error:
            log.error("%s", error)
            self._fail()
            return
        worker.may_listen = True
        worker.line.say("listen")

    def _announce(self) -> None:
        """Say that the first worker takes requests, and when all of them do."""
        ready = sum(worker.is_ready for worker in self._workers.values())
        wanted = len(self._task.workers)
        if not self._was_ready or ready == wanted:
            log.info(
                "%s ready on %s (%d of %d workers)", self._task.service, self._task.address, ready, wanted
            )
        self._was_ready = True

    async def _watch(self) -> None:
        """Replace workers whose loop is stuck; busy ones, whose loop a request blocks, are left alone."""
        clock = asyncio.get_running_loop().time
        last_tick = clock()
        tick_s = self._times.tick_s
        while True:
            await asyncio.sleep(tick_s)
            now = clock()
            # Silence counts as far as it was listened to: where all processes were paused, none was silent.
            listened_s = min(now - last_tick, 2 * tick_s)
            last_tick = now
            for worker in list(self._workers.values()):
                beats = self._board.beats(worker.plan.index)
                is_silent = worker.is_ready and beats == worker.beats  # while it loads no loop runs
                worker.silent_s = worker.silent_s + listened_s if is_silent else 0.0
                worker.beats = beats
                if worker.silent_s > self._times.stuck_after_s:
                    await self._end_stuck(worker)

    async def _end_stuck(self, worker: _Worker) -> None:
        log.error(
            "worker %d is stuck, its loop has not run for %.0f s; the stacks of its threads:",
            worker.plan.index, worker.silent_s,
        )  # fmt: skip
        worker.process.send_signal(STACKS_SIGNAL)
        await asyncio.sleep(_STACKS_S)
        worker.process.send_signal(signal.SIGKILL)
        worker.silent_s = 0.0
