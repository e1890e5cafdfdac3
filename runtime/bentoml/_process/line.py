"""The line between the supervisor and one of its workers: a socket, with one JSON object a line.

The supervisor sends the worker's task, and then a word whenever the worker may go on. The worker reports how
far it is, or why it cannot start. Each side learns from the line's end that the other is gone.

    worker      supervisor
    imported    deploy, for the first of all workers, or begin
    deployed                                        # after `deploy`, when the hooks have run
    loaded      listen
    ready       cut                                 # where what runs is not to be waited for
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict
from typing import Final, Literal, TypedDict

from bentoml._process.task import WorkerTask

STACKS_SIGNAL: Final = signal.SIGQUIT
"""Makes a worker write the stacks of all its threads to the log, whatever they are busy with."""

State = Literal["imported", "deployed", "loaded", "ready", "failed"]
Word = Literal["deploy", "begin", "listen", "cut"]


class Report(TypedDict):
    """What a worker says of itself; `reason` is empty unless it failed."""

    state: State
    reason: str


class SupervisorEnd:
    """The line as the supervisor holds it; never waits."""

    def __init__(self, task: WorkerTask) -> None:
        self._socket, self._other = socket.socketpair()
        self._socket.setblocking(False)
        self._socket.sendall(json.dumps(asdict(task)).encode() + b"\n")
        self._unread = b""

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def workers_end(self) -> int:
        """The descriptor to pass on to the worker."""
        return self._other.fileno()

    def was_passed_on(self) -> None:
        """Close this process's copy of the worker's end, so that the worker alone holds it."""
        self._other.close()

    def say(self, word: Word) -> None:
        """Let the worker go on; one that has ended is noticed elsewhere."""
        with suppress(OSError):
            self._socket.sendall(f"{word}\n".encode())

    def read(self) -> list[Report] | None:
        """The reports that have come; None when no more can."""
        try:
            data = self._socket.recv(1 << 16)
        except BlockingIOError:
            return []
        except ConnectionResetError:
            data = b""
        if not data:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        self._socket.close()
        self._other.close()


class WorkerEnd:
    """The line as the worker holds it.

    Attributes:
        may_begin: done when an instance may be made; whether `on_deployment` is to run first, and here.
        may_listen: done when the port is open.
        must_cut: done when requests are to be cut off.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._lines = self._socket.makefile("rb")
        self.may_begin: Future[bool] = Future()
        self.may_listen: Future[None] = Future()
        self.must_cut: Future[None] = Future()

    def read_task(self) -> WorkerTask:
        """What to run.

        Raises:
            EOFError: the supervisor is gone.
        """
        line = self._lines.readline()
        if not line:
            raise EOFError
        return WorkerTask(**json.loads(line))

    def follow(self, grace_s: float) -> None:
        """Listen to the supervisor from now on; when it is gone, end within the grace period."""
        threading.Thread(target=self._follow, args=(grace_s,), daemon=True, name="line").start()

    def report(self, state: State, reason: str = "") -> None:
        """Tell the supervisor; one that is gone need not know."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(json.dumps(Report(state=state, reason=reason)).encode() + b"\n")

    def _follow(self, grace_s: float) -> None:
        with suppress(ConnectionResetError):
            for line in self._lines:
                match line.decode().strip():
                    case "deploy" | "begin" as word:
                        self.may_begin.set_result(word == "deploy")
                    case "listen":
                        self.may_listen.set_result(None)
                    case "cut":
                        self.must_cut.set_result(None)
        os.kill(os.getpid(), signal.SIGTERM)
        # Without a supervisor nobody else ends a worker that does not come to an end.
        time.sleep(grace_s)
        os.kill(os.getpid(), signal.SIGKILL)
