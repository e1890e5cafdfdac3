"""Requests a second at a public JSON endpoint: one worker, 16 connections, each server in turn."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ROUNDS = 3
SECONDS = 4
CONNECTIONS = 16
SCRIPT = """
wrk.method = "POST"
wrk.body = '{"a": 2}'
wrk.headers["Content-Type"] = "application/json"
"""

UVICORN = ("-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--port", "{port}")
WITHOUT_LOG = ("--log-level", "warning", "--no-access-log")
QUIET = {"services": {"Adder": {"logging": {"access": {"enabled": False}}}}}
REFERENCE = ROOT / ".venv-reference" / "bin" / "python"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A server of the endpoint.

    Args:
        baseline: the contender that it is compared with, which logs as much as it does.
    """

    name: str
    command: tuple[str, ...]
    python: Path = Path(sys.executable)
    environ: Mapping[str, str] = field(default_factory=dict)
    baseline: str | None = None
    goal: float | None = None


CONTENDERS = (
    Contender(name="uvicorn alone, no access log", command=(*UVICORN, *WITHOUT_LOG, "plain:bare")),
    Contender(name="FastAPI, no access log", command=(*UVICORN, *WITHOUT_LOG, "plain:app")),
    Contender(
        name="this, no access log",
        command=("-m", "bentoml", "add:Adder"),
        environ={"BENTOML_CONFIG_OVERRIDES": json.dumps(QUIET)},
        baseline="FastAPI, no access log",
        goal=1.0,
    ),
    Contender(name="FastAPI, access log", command=(*UVICORN, "plain:app")),
    Contender(
        name="this, as it comes",
        command=("-m", "bentoml", "add:Adder"),
        baseline="FastAPI, access log",
        goal=1.0,
    ),
    Contender(
        name="the existing implementation, as it comes",
        command=("-m", "bentoml", "serve", "add:Adder", "--host", "127.0.0.1", "--port", "{port}"),
        python=REFERENCE,
        environ={"BENTOML_DO_NOT_TRACK": "True"},
        baseline="FastAPI, access log",
    ),
)


def main() -> None:
    if shutil.which("wrk") is None:
        print("serving: not measured, `wrk` is not there; Debian has it as a package of that name")
        return
    contenders = [contender for contender in CONTENDERS if contender.python.exists()]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        script = folder / "post.lua"
        script.write_text(SCRIPT)
        ports = {c.name: stack.enter_context(served(c, folder)) for c in contenders}
        rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
        for round_number in range(ROUNDS + 1):
            for name, port in ports.items():
                rate = measure(port, script, SECONDS if round_number else 1)
                if round_number:
                    rates[name].append(rate)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    print(f"{f'POST, JSON, one worker, {CONNECTIONS} connections':44}{'a second':>10}{'ratio':>8}   to")
    for contender in contenders:
        median = medians[contender.name]
        line = f"{contender.name:44}{median:10.0f}"
        if contender.baseline is not None:
            ratio = median / medians[contender.baseline]
            verdict = "" if contender.goal is None else " reached" if ratio >= contender.goal else " MISSED"
            goal = "" if contender.goal is None else f", goal {contender.goal:g}:{verdict}"
            line += f"{ratio:8.2f}   {contender.baseline}{goal}"
        print(line)
    print(f"medians of {ROUNDS} interleaved rounds of {SECONDS} s with wrk, server and load on a core each")


@contextmanager
def served(contender: Contender, folder: Path) -> Iterator[int]:
    """The port of a contender that answers; it is stopped at the end."""
    port = free_port()
    environ = {
        **os.environ,
        "BENTOML_HOME": str(folder / "home"),
        "BENTOML_HOST": "127.0.0.1",
        "BENTOML_PORT": str(port),
        "BENTOML_MANAGEMENT_PORT": str(free_port()),
        **contender.environ,
    }
    words = [word.format(port=port) for word in contender.command]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*on_core(0), str(contender.python), *words],
            cwd=HERE / "projects", env=environ, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(port, process, folder / "log")
        yield port
    finally:
        process.terminate()
        process.wait(60)


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    sys.exit(f"a server did not start:\n{log.read_text()[-3000:]}")


def measure(port: int, script: Path, seconds: int) -> float:
    command = [*on_core(1), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script)]
    output = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/add"], check=True, capture_output=True, text=True
    ).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"requests failed:\n{output}")
    found = re.search(r"Requests/sec:\s*([\d.]+)", output)
    return float(found[1]) if found else 0.0


def on_core(number: int) -> list[str]:
    """What pins a command to one core, where that can be done."""
    if shutil.which("taskset") is None or (os.cpu_count() or 1) < 2:
        return []
    return ["taskset", "-c", str(number)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
