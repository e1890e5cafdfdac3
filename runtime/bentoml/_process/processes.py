"""How worker processes come to be: each on its own, or forked from one that has imported their packages."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

log = logging.getLogger("bentoml")

T = TypeVar("T")


class WorkerProcess(Protocol):
    """A process that runs a worker."""

    @property
    def pid(self) -> int:
        """Its process id, for as long as `wait` has not returned."""
        ...

    def send_signal(self, number: int) -> None:
        """Signal it; one that has ended already hears nothing."""
        ...

    async def wait(self) -> int:
        """Its exit code, below zero the signal that ended it; returns when it is gone."""
        ...


class Processes(Protocol):
    """Starts workers."""

    async def start(self, descriptors: tuple[int, ...], environ: Mapping[str, str]) -> WorkerProcess:
        """A new process that runs `worker.main` with copies of these descriptors.

        Args:
            environ: variables of its own, over those that all workers have.

        Raises:
            OSError: the system has no more processes, or no memory.
        """
        ...

    async def close(self) -> None:
        """Give back what starting needs; workers that still run are not waited for."""
        ...


class FreshProcesses:
    """Starts each worker as a new Python.

    Args:
        environ: the variables that all workers have.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    async def start(self, descriptors: tuple[int, ...], environ: Mapping[str, str]) -> WorkerProcess:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bentoml._process.worker", json.dumps(descriptors),
            stdin=asyncio.subprocess.DEVNULL,
            env={**self._environ, **environ},
            pass_fds=descriptors,
        )  # fmt: skip
        return _Fresh(process)

    async def close(self) -> None:
        pass


class _Fresh:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def wait(self) -> int:
        return await self._process.wait()


class ForkedProcesses:
    """Forks workers from a nursery, and makes a new one when it dies; without one, starts each on its own.

    Args:
        module: the project's module that holds the service.
        absent: top-level modules that the service's image does not hold.
        environ: the variables that all workers have, those that packages read when they load among them.
    """

    def __init__(
        self, module: str, project: Path, absent: frozenset[str], environ: Mapping[str, str]
    ) -> None:
        self._task = {"module": module, "project": str(project), "absent": sorted(absent)}
        self._environ = environ
        self._is_launching = asyncio.Lock()
        self._nursery: _Nursery | None = None
        self._fresh: FreshProcesses | None = None

    async def start(self, descriptors: tuple[int, ...], environ: Mapping[str, str]) -> WorkerProcess:
        async with self._is_launching:
            if self._fresh is None and (self._nursery is None or self._nursery.is_gone):
                await self._launch()
        if self._fresh is not None:
            return await self._fresh.start(descriptors, environ)
        assert self._nursery is not None  # noqa: S101  # launched above
        return await self._nursery.start(descriptors, environ)

    async def _launch(self) -> None:
        self._nursery = _Nursery()
        try:
            await self._nursery.launch(self._task, self._environ)
        except _UnfitError as error:
            log.warning("workers share no memory, each is started on its own: %s", error)
            self._fresh = FreshProcesses(self._environ)

    async def close(self) -> None:
        if self._nursery is not None:
            await self._nursery.close()


class _UnfitError(Exception):
    """Nothing can be forked from this nursery, and why."""


class _Nursery:
    """The supervisor's side of a nursery: one JSON message a packet, both ways.

    Attributes:
        is_gone: whether it has ended, so that no more workers can be forked from it.
    """

    def __init__(self) -> None:
        self.is_gone = False
        self._channel, self._other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setblocking(False)
        self._process: asyncio.subprocess.Process | None = None
        self._prepared: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._forks = False
        self._numbers = itertools.count()
        self._born: dict[int, asyncio.Future[WorkerProcess]] = {}
        self._running: dict[int, _Forked] = {}

    async def launch(self, task: Mapping[str, object], environ: Mapping[str, str]) -> None:
        """Return when workers can be forked.

        Raises:
            _UnfitError: says why they cannot.
        """
        with self._other as other:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bentoml._process.nursery",
                json.dumps({**task, "channel": other.fileno()}),
                stdin=asyncio.subprocess.DEVNULL,
                env=environ,
                pass_fds=(other.fileno(),),
            )  # fmt: skip
        asyncio.get_running_loop().add_reader(self._channel, self._read)
        prepared = await self._prepared
        if "unfit" in prepared:
            raise _UnfitError(prepared["unfit"])
        self._forks = True
        log.info("workers are forked from one process, which %s", _has_imported(**prepared))

    async def start(self, descriptors: tuple[int, ...], environ: Mapping[str, str]) -> WorkerProcess:
        number = next(self._numbers)
        born: asyncio.Future[WorkerProcess] = asyncio.get_running_loop().create_future()
        self._born[number] = born
        order = json.dumps({"number": number, "environ": dict(environ)}).encode()
        socket.send_fds(self._channel, [order], list(descriptors))
        return await born

    async def close(self) -> None:
        """End it: at once while it prepares itself; else it ends when it sees that nobody orders any more."""
        asyncio.get_running_loop().remove_reader(self._channel)
        self._channel.close()
        if self._process is not None:
            if not self._forks and self._process.returncode is None:
                self._process.kill()
            await self._process.wait()

    def _read(self) -> None:
        try:
            data = self._channel.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._channel)
            self.is_gone = True
            self._burying = asyncio.create_task(self._bury())
            return
        match json.loads(data):
            case {"started": int(number), "pid": int(pid)}:
                worker = self._running[pid] = _Forked(pid)
                _settle(self._born.pop(number), worker)
            case {"refused": int(number), "reason": str(reason)}:
                _settle(self._born.pop(number), OSError(reason))
            case {"ended": int(pid), "code": int(code)}:
                self._running.pop(pid).code.set_result(code)
            case prepared:
                _settle(self._prepared, prepared)

    async def _bury(self) -> None:
        """End the workers of a nursery that has died: nobody else is told when one of them does."""
        assert self._process is not None  # noqa: S101  # it has spoken
        how = f"the process that workers are forked from ended with {ending(await self._process.wait())}"
        _settle(self._prepared, {"unfit": how})
        for born in self._born.values():
            _settle(born, ChildProcessError(how))
        if self._running:
            log.error("%s; they are ended too", how)
        for worker in self._running.values():
            worker.send_signal(signal.SIGKILL)
        for pid, worker in self._running.items():
            while not _is_gone(pid):  # noqa: ASYNC110  # no event tells of another's child
                await asyncio.sleep(0.01)
            worker.code.set_result(-signal.SIGKILL)


class _Forked:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def send_signal(self, number: int) -> None:
        # Its parent says so as soon as it has taken note of its end, so that the number is nobody else's.
        if not self.code.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait(self) -> int:
        return await asyncio.shield(self.code)


def _settle(future: asyncio.Future[T], outcome: T | Exception) -> None:
    """Tell whoever waits, unless that was cancelled; a worker that nobody waits for ends with its line."""
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _is_gone(pid: int) -> bool:
    with suppress(ChildProcessError):  # it is this process's own only where no other one adopts orphans
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _has_imported(shared: list[str], left_out: list[str]) -> str:
    text = f"has imported the runtime{''.join(f', {name}' for name in shared)}"
    if left_out:
        text += f"; each imports for itself, as not known to survive a fork: {', '.join(left_out)}"
    return text


def ending(code: int) -> str:
    """How a process ended."""
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
