"""One worker process of a service: an instance of the class behind the shared public port."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from bentoml import _environment as environment
from bentoml._config import load_config
from bentoml._loader import load_service
from bentoml._logging import configure_logging
from bentoml._process.workers import WorkerTask
from bentoml._serving.application import Replica, create_app
from bentoml.exceptions import BentoMLConfigException, ImportServiceError, UnservableException

log = logging.getLogger("bentoml")


class _Reports:
    """The worker's end of the pipe: one JSON object a line."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)

    def send(self, **report: object) -> None:
        # A report is a snapshot that the next one replaces; a supervisor that is gone needs none.
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._descriptor, json.dumps(report).encode() + b"\n")


class _Server(uvicorn.Server):
    """Reports when the port listens: only then may the supervisor call the worker ready."""

    def __init__(self, app: ASGIApp, task: WorkerTask, reports: _Reports, backlog: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=backlog,
                timeout_graceful_shutdown=task.grace_s,
            )
        )
        self._reports = reports

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # The loop may close a socket that cannot listen, as another process does already, without a word.
        if not all(_listens(bound) for bound in sockets or ()):
            log.error("the port is in use by another process; choose another with %s", environment.PORT)
            self.started = False
            self.should_exit = True
        if self.started:
            self._reports.send(state="ready")


def _listens(bound: socket.socket) -> bool:
    return bound.fileno() != -1 and bool(bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def run_worker(task: WorkerTask) -> int:
    """Serve until told to stop; returns the exit code."""
    threading.Thread(target=_stop_with_the_supervisor, daemon=True).start()
    service = load_service(
        task.target,
        project=Path(task.project),
        absent=environment.names(environment.ABSENT_MODULES),
        service=task.service,
    )
    config = load_config(task.service, task.config)
    reports = _Reports(task.reports)
    app = create_app(service, Replica(config=config, workers=task.workers))
    server = _Server(app, task, reports, config.backlog)
    _run_on_fast_loop(server.serve(sockets=[socket.socket(fileno=task.socket)]))
    return 0 if server.started else 1


def _stop_with_the_supervisor() -> None:
    """Wait for the end of stdin: a pipe that only the supervisor holds, closed however it ends."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _run_on_fast_loop(main: Coroutine[Any, Any, None]) -> None:
    if sys.platform == "win32":
        asyncio.run(main)
        return
    import uvloop  # not to be had on Windows

    if sys.version_info >= (3, 12):
        asyncio.run(main, loop_factory=uvloop.new_event_loop)
    else:
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.run(main)


def main(argument: str) -> int:
    """Run the worker that the supervisor described."""
    task = WorkerTask(**json.loads(argument))
    configure_logging(f"{task.service}:{task.index}")
    try:
        return run_worker(task)
    except (BentoMLConfigException, ImportServiceError, UnservableException) as error:
        log.error("%s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
