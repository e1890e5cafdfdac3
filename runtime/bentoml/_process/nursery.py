"""`python -m bentoml._process.nursery`: the process that the workers of a service are forked from.

It imports what all of them need and what can go on in a child: the runtime, and those installed packages of
the project that `preload` knows. Their memory is then there once. It runs nothing, not a line of the
project, has one thread, and leaves the GPU alone; before a package counts as shared, it looks whether that
is still true.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from bentoml._process import worker
from bentoml._process.preload import SharedImports, shared_imports

# What the runtime imports only once it serves.
_SERVING = (
    "httptools",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.auto",
    "uvloop",
)


@dataclass(frozen=True, kw_only=True)
class NurseryTask:
    """What the supervisor tells the nursery, as JSON on its command line.

    Args:
        module: the project's module that holds the service.
        absent: top-level modules that the service's image does not hold.
        channel: descriptor of the socket to the supervisor.
        restless: packages that were imported, and found to keep a thread or a file open.
    """

    module: str
    project: str
    absent: tuple[str, ...]
    channel: int
    restless: tuple[str, ...] = ()

    def as_argument(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Order:
    """A worker to fork: its number, its variables, and the descriptors that it takes over."""

    number: int
    environ: Mapping[str, str]
    descriptors: worker.Descriptors


def main(argument: str) -> int:
    """Prepare, then fork; in a forked process, the exit code of the worker that it has become."""
    task = NurseryTask(**json.loads(argument))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(
            number, _ignore
        )  # a terminal's Ctrl-C is the supervisor's, and so is this process's end
    gc.disable()  # what is allocated before the fork stays; looking for garbage would write to its pages
    channel = socket.socket(fileno=task.channel)
    problem = _share(task, channel)
    if problem is not None:
        channel.send(json.dumps({"unfit": problem}).encode())
        return 0
    gc.collect()
    gc.freeze()
    order = _fork_on_order(channel)
    return 0 if order is None else _run_worker(order)


def _ignore(number: int, frame: FrameType | None) -> None:
    pass


def _share(task: NurseryTask, channel: socket.socket) -> str | None:
    """Import what the workers share, and tell the supervisor; else say why nothing can be forked."""
    project = Path(task.project)
    with _without_project(project):
        for name in _SERVING:
            with suppress(ImportError):
                importlib.import_module(name)
        if not _is_at_rest(channel):
            return "the runtime's own packages keep threads or files open"
        found = shared_imports(task.module, project, frozenset(task.absent))
        shared = _import_all(found, task, channel)
    hidden = sorted(_own_names(project) & sys.modules.keys())
    if hidden:
        return f"the project has a module of its own named {hidden[0]!r}, as a package that is shared"
    report = {"shared": shared, "left_out": [*found.left_out, *task.restless]}
    channel.send(json.dumps(report).encode())
    return None


def _import_all(found: SharedImports, task: NurseryTask, channel: socket.socket) -> list[str]:
    """Import what can be shared: the packages that were."""
    shared: list[str] = []
    for statement in found.shared:
        package = statement.package
        if package in task.restless:
            continue
        with suppress(Exception):  # whatever it is, the worker that imports it meets it again and says so
            importlib.__import__(statement.module, fromlist=statement.names)
            if package not in shared:
                shared.append(package)
        if not _is_at_rest(channel):
            # It cannot be unloaded again.
            anew = replace(task, restless=(*task.restless, package))
            command = [sys.executable, "-m", "bentoml._process.nursery", anew.as_argument()]
            os.execv(sys.executable, command)  # noqa: S606  # this program, once more
    return shared


def _is_at_rest(channel: socket.socket) -> bool:
    """Whether a child of this process would have all that its parent has: no thread, no open file or device.

    A child that ends at once is forked first: libraries that can be forked stop their threads for it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads: whether there are any is the question
        pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    threads = [path.name for path in Path("/proc/self/task").iterdir()]
    opened = {int(path.name) for path in Path("/proc/self/fd").iterdir()} - {0, 1, 2, channel.fileno()}
    # The folder that lists them was open itself, and is no more.
    return len(threads) == 1 and not any(map(_is_open, opened))


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@contextmanager
def _without_project(project: Path) -> Iterator[None]:
    """While open, no import finds a module of the project."""
    path = sys.path[:]
    sys.path[:] = [entry for entry in path if Path(entry or ".").resolve() not in (project, project / "src")]
    try:
        yield
    finally:
        sys.path[:] = path


def _own_names(project: Path) -> set[str]:
    """The names under which the project's modules are imported, but for those that Python's own have."""
    files = [file for root in (project, project / "src") for file in root.glob("*.py")]
    folders = [file.parent for root in (project, project / "src") for file in root.glob("*/__init__.py")]
    return {path.stem for path in (*files, *folders)} - sys.stdlib_module_names - {"bentoml"}


def _fork_on_order(channel: socket.socket) -> Order | None:
    """Fork a worker for each order: the order, in the child; None in the nursery, when no more can come."""
    with channel, _ended_children() as ended:
        while True:
            ready, _, _ = select.select([channel, ended], [], [])
            with suppress(BrokenPipeError, ConnectionResetError):  # seen as the channel's end below
                if ended in ready:
                    ended.recv(4096)
                    _report_ended(channel)
                if channel in ready:
                    order = _next_order(channel)
                    if order is None or _fork(order, channel):
                        return order


def _next_order(channel: socket.socket) -> Order | None:
    data, descriptors, _, _ = socket.recv_fds(channel, 1 << 16, len(worker.Descriptors._fields))
    if not data:
        return None
    order = json.loads(data)
    return Order(order["number"], order["environ"], worker.Descriptors(*descriptors))


def _fork(order: Order, channel: socket.socket) -> bool:
    """Whether this is the child."""
    try:
        pid = os.fork()
    except OSError as error:
        channel.send(json.dumps({"refused": order.number, "reason": error.strerror}).encode())
    else:
        if pid == 0:
            return True
        channel.send(json.dumps({"started": order.number, "pid": pid}).encode())
    for descriptor in order.descriptors:
        os.close(descriptor)
    return False


def _report_ended(channel: socket.socket) -> None:
    with suppress(ChildProcessError):  # there is none left
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            channel.send(json.dumps({"ended": pid, "code": code}).encode())


@contextmanager
def _ended_children() -> Iterator[socket.socket]:
    """A socket that can be read when a child has ended; not so in a child that leaves the block."""
    readable, written = socket.socketpair()
    with readable, written:
        for end in (readable, written):
            end.setblocking(False)
        signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        try:
            yield readable
        finally:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _run_worker(order: Order) -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.environ.update(order.environ)
    gc.enable()
    _seed_anew()
    return worker.main(order.descriptors)


def _seed_anew() -> None:
    """Random numbers of this process's own: those of a fork would be the same in each."""
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy"].random.seed()
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.seed()  # each GPU's own is made when it is first used


if __name__ == "__main__":
    worker.leave(main(sys.argv[1]))
