"""One worker process of a service: an instance of the class behind the shared public port."""

from __future__ import annotations

import asyncio
import atexit
import faulthandler
import inspect
import json
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from bentoml import _environment as environment
from bentoml._config import load_config
from bentoml._hooks import hooks_of
from bentoml._loader import load_service
from bentoml._logging import configure_logging
from bentoml._process.board import Board, SharedAdmission
from bentoml._process.failure import reason
from bentoml._process.lifespan import lifespan
from bentoml._process.line import STACKS_SIGNAL, WorkerEnd
from bentoml._process.server import WorkerServer
from bentoml._process.task import WorkerTask
from bentoml._service import Service
from bentoml._serving.application import Application, Replica, create_app


class Descriptors(NamedTuple):
    """What a worker takes over from its supervisor: the line to it, the public port, the replica's board."""

    line: int
    port: int
    board: int


def main(descriptors: Descriptors) -> int:
    """Serve until told to stop; the exit code is 1 when that did not start or end well."""
    signal.signal(signal.SIGINT, _ignore)  # a terminal's Ctrl-C: the supervisor knows what to make of it
    faulthandler.register(STACKS_SIGNAL, file=2, all_threads=True)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # what the project runs is not to hold them open
    line = WorkerEnd(descriptors.line)
    try:
        task = line.read_task()
    except EOFError:
        return 0
    configure_logging(f"{task.service}:{task.index}")
    line.follow(task.grace_s)
    try:
        _run(task, line, descriptors)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever it is, the supervisor says it for all
        line.report("failed", reason(error, Path(task.project)))
        return 1
    return 0


def leave(code: int) -> NoReturn:
    """End this process once what is registered for its end has run, and without taking the interpreter apart.

    That takes seconds where much is loaded, and writes to every page that workers share.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _ignore(number: int, frame: FrameType | None) -> None:
    pass


def _run(task: WorkerTask, line: WorkerEnd, descriptors: Descriptors) -> None:
    service = load_service(
        task.target,
        project=Path(task.project),
        absent=environment.names(environment.ABSENT_MODULES),
        service=task.service,
    )
    config = load_config(task.service, task.config)
    board = Board(descriptors.board, task.workers)
    admission = SharedAdmission(board, task.index, config.traffic.max_concurrency)
    replica = Replica(
        config=config,
        worker_index=task.index,
        admission=admission,
        fail=partial(leave, 1),
    )
    app = create_app(service, replica)
    server = WorkerServer(
        app,
        config,
        beat=partial(board.beat, task.index),
        grace_s=task.grace_s,
        largest_frame=app.largest_frame,
        least_elsewhere=partial(board.least_elsewhere, task.index),
    )
    line.report("imported")
    if line.may_begin.result():
        _run_deployment_hooks(service)
        line.report("deployed")
    port = socket.socket(fileno=descriptors.port)
    _run_on_fast_loop(_serve(app, server, line, port, board, task))


def _run_deployment_hooks(service: Service[Any]) -> None:
    for name in hooks_of(service.inner, "on_deployment"):
        result = getattr(service.inner, name)()
        if inspect.iscoroutine(result):
            asyncio.run(result)


async def _serve(
    app: Application,
    server: WorkerServer,
    line: WorkerEnd,
    port: socket.socket,
    board: Board,
    task: WorkerTask,
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(_Threads(thread_name_prefix="asyncio"))
    async with lifespan(app) as state:
        line.report("loaded")
        await asyncio.wrap_future(line.may_listen)
        complaints = await _hear_complaints(app, board, task.index)

        def drain(lame_duck_s: float) -> None:
            server.drain(lame_duck_s)
            app.must_end_within(task.grace_s)

        loop.add_signal_handler(signal.SIGTERM, drain, task.lame_duck_s)
        loop.add_signal_handler(signal.SIGINT, drain, 0.0)
        asyncio.wrap_future(line.must_cut).add_done_callback(lambda _: server.cut())
        await server.serve_on(port, state, on_ready=partial(line.report, "ready"))
        if complaints is not None:
            complaints.cancel()


async def _hear_complaints(app: Application, board: Board, index: int) -> asyncio.Task[None] | None:
    """Show on the board what a service says of itself, from before its first request on."""
    if not app.speaks_for_itself:
        return None

    async def ask() -> None:
        is_live, is_ready = await app.is_live_and_ready()
        board.complain(index, is_live=is_live, is_ready=is_ready)

    async def ask_again_and_again() -> None:
        while True:
            await asyncio.sleep(1.0)
            await ask()

    await ask()
    return asyncio.create_task(ask_again_and_again())


class _Threads(ThreadPoolExecutor):
    """The loop's own threads, which it would wait for at its end: one that outlasts its request is left."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=cancel_futures)


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


if __name__ == "__main__":
    leave(main(Descriptors(*json.loads(sys.argv[1]))))
