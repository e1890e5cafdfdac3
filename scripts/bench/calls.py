"""What a call between two services costs: one graph on several implementations, beside an exchange by hand.

The caller measures its own calls, so that no public request is among them; only the echo over two hops is
driven from outside. Each contender runs alone, one after the other, in each of the rounds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import httpx

from scripts.bench.serving import REFERENCE, ROOT, UVICORN, WITHOUT_LOG, free_port

PROJECTS = Path(__file__).resolve().parent / "projects"
RAY = ROOT / ".venv-ray" / "bin" / "python"
FLOOR = "exchange by hand: the floor"
TEXT = "0123456789" * 1000
SCRIPT = f"""
wrk.method = "POST"
wrk.body = '{json.dumps({"text": TEXT})}'
wrk.headers["Content-Type"] = "application/json"
"""


class Failure(Exception):
    """Why there is no figure."""


Outcome: TypeAlias = float | Failure
Results: TypeAlias = dict[str, dict[str, Outcome]]
"""Case → contender → the median of its rounds."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """An implementation of the graph.

    Args:
        callee: the command of the service that is called, where the caller's does not start it.
        is_judged: the goals are its own.
    """

    name: str
    caller: tuple[str, ...]
    callee: tuple[str, ...] | None = None
    python: Path = Path(sys.executable)
    environ: Mapping[str, str] = field(default_factory=dict)
    is_judged: bool = False


def as_asgi(name: str, module: str, python: Path = Path(sys.executable)) -> Contender:
    """Two applications, under the server that this project has too."""
    server = (*UVICORN, *WITHOUT_LOG)
    caller, callee = (*server, f"calls.{module}:caller"), (*server, f"calls.{module}:callee")
    return Contender(name=name, caller=caller, callee=callee, python=python)


QUIET = {name: {"logging": {"access": {"enabled": False}}} for name in ("Caller", "Callee")}
SERVE = ("serve", "calls.service:Caller", "--host", "127.0.0.1", "--port", "{port}")

CONTENDERS = (
    as_asgi(FLOOR, "floor"),
    Contender(
        name="this, no access log",
        caller=("-m", "bento_cli", *SERVE),
        environ={"BENTOML_CONFIG_OVERRIDES": json.dumps({"services": QUIET})},
        is_judged=True,
    ),
    Contender(name="this, as it comes", caller=("-m", "bento_cli", *SERVE), is_judged=True),
    Contender(
        name="the existing implementation, as it comes",
        caller=("-m", "bentoml", *SERVE),
        python=REFERENCE,
        environ={"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Contender(
        name="Ray Serve, as it comes",
        caller=("-m", "calls.ray_graph", "{port}"),
        python=RAY,
        environ={"RAY_USAGE_STATS_ENABLED": "0"},
    ),
    as_asgi("FastAPI and httpx, no access log", "over_httpx"),
    as_asgi("FastAPI and aiohttp, no access log", "over_aiohttp", RAY),
)


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a figure is to be, given the floor's."""

    words: str
    is_reached: Callable[[float, float], bool]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Something that is measured.

    Args:
        measure: its figure for the caller that answers at a URL.
    """

    name: str
    unit: str
    measure: Callable[[str], float]
    goal: Goal | None = None


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is done for a figure."""

    rounds: int = 3
    calls: int = 1000
    batches: int = 50
    arrays: int = 20
    items: int = 10_000
    streams: int = 3
    connections: tuple[int, ...] = (1, 16, 64)
    load_s: int = 2


def cases(effort: Effort) -> tuple[Case, ...]:
    """All that is measured, in the order of the table."""
    twice = Goal(words="at most 2 x the floor", is_reached=lambda ours, floor: ours <= 2 * floor)
    half = Goal(words="at least half the floor", is_reached=lambda ours, floor: ours >= floor / 2)
    ten_ms = Goal(words="at most 10 ms", is_reached=lambda ours, _: ours <= 10)
    return (
        Case(name="small call, alone", unit="ms", measure=duration("small", 1, effort.calls), goal=twice),
        Case(name="small calls, 32 at once", unit="/s", measure=rate("small", 32, effort.batches), goal=half),
        *(
            Case(
                name=f"10 kB echo over two hops, {connections} connection{'s' if connections > 1 else ''}",
                unit="/s",
                measure=load(connections, effort.load_s),
            )
            for connections in effort.connections
        ),
        Case(name="1 MiB array there and back", unit="ms", measure=duration("array", 1, effort.arrays)),
        Case(
            name="8 MiB array there and back",
            unit="ms",
            measure=duration("array", 8, effort.arrays),
            goal=ten_ms,
        ),
        Case(
            name=f"stream of {effort.items} items",
            unit="/s",
            measure=rate("stream", effort.items, effort.streams),
        ),
    )


def main() -> None:
    effort = Effort()
    table = cases(effort)
    for line in lines(table, CONTENDERS, results(table, CONTENDERS, effort.rounds)):
        print(line)
    print(
        f"medians of {effort.rounds} interleaved rounds, each contender alone; one failed round is a failure"
    )


def results(table: Sequence[Case], contenders: Sequence[Contender], rounds: int) -> Results:
    """The outcome of each case for each contender; one that failed once has failed."""
    found: dict[tuple[str, str], list[Outcome]] = {}
    for _ in range(rounds):
        for contender in contenders:
            for case, outcome in zip(table, outcomes(table, contender), strict=True):
                found.setdefault((case.name, contender.name), []).append(outcome)
    return {
        case.name: {other.name: summary(found[case.name, other.name]) for other in contenders}
        for case in table
    }


def outcomes(table: Sequence[Case], contender: Contender) -> list[Outcome]:
    """One round of a contender."""
    if not contender.python.exists():
        environment = contender.python.relative_to(ROOT).parts[0]
        return [Failure(f"not measured, {environment} is not there")] * len(table)
    try:
        with served(contender) as url:
            return [outcome(case, url) for case in table]
    except Failure as failure:
        return [failure] * len(table)


def outcome(case: Case, url: str) -> Outcome:
    try:
        return case.measure(url)
    except Failure as failure:
        return failure


def summary(rounds: Sequence[Outcome]) -> Outcome:
    """The median, or the first reason in place of it."""
    figures = []
    for one in rounds:
        if isinstance(one, Failure):
            return one
        figures.append(one)
    return statistics.median(figures)


def lines(table: Sequence[Case], contenders: Sequence[Contender], found: Results) -> Iterator[str]:
    """The table as it is printed."""
    yield f"{'calls between two services':44}{'median':>12}{'to floor':>10}   goal"
    for case in table:
        yield case.name
        floor = found[case.name].get(FLOOR)
        for contender in contenders:
            figure = found[case.name][contender.name]
            yield f"  {contender.name:42}{in_words(case, contender, figure, floor)}"


def in_words(case: Case, contender: Contender, figure: Outcome, floor: Outcome | None) -> str:
    if isinstance(figure, Failure):
        return f"  {figure}"
    digits = 0 if figure >= 100 else 1 if figure >= 10 else 3
    text = f"{figure:9.{digits}f} {case.unit}"
    if not isinstance(floor, float):
        return text
    text += f"{figure / floor:10.2f}"
    if case.goal is not None and contender.is_judged:
        verdict = "reached" if case.goal.is_reached(figure, floor) else "MISSED"
        text += f"   {case.goal.words}: {verdict}"
    return text


def duration(case: str, size: int, times: int) -> Callable[[str], float]:
    """The median of what the caller measures, in ms."""
    return lambda url: 1000 * statistics.median(seconds(url, case, size, times))


def rate(case: str, size: int, times: int) -> Callable[[str], float]:
    """How many a second, of `size` that are done each time."""

    def measure(url: str) -> float:
        return size / statistics.median(seconds(url, case, size, times))

    return measure


def seconds(url: str, case: str, size: int, times: int) -> list[float]:
    """What the caller measured.

    Raises:
        Failure: its calls failed, or it does not answer.
    """
    measured = post(f"{url}/measure", {"case": case, "size": size, "times": times}).json()
    if "failure" in measured:
        raise Failure(f"fails: {one_line(measured['failure'])}")
    return [float(each) for each in measured["seconds"]]


def load(connections: int, duration_s: int) -> Callable[[str], float]:
    """Requests a second that wrk gets answered over so many connections."""

    def measure(url: str) -> float:
        if shutil.which("wrk") is None:
            raise Failure("not measured, `wrk` is not there")
        check_echo(url)
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(SCRIPT)
            script.flush()
            command = ["wrk", "-t1", f"-c{connections}", f"-d{duration_s}s", "-s", script.name, f"{url}/echo"]
            output = subprocess.run(command, check=False, capture_output=True, text=True).stdout
        wrong = re.search(r"(Non-2xx.*|Socket errors: .*|unable to connect.*)", output)
        found = re.search(r"Requests/sec:\s*([\d.]+)", output)
        if wrong is not None or found is None:
            raise Failure(f"fails: {wrong[0] if wrong else 'wrk counted nothing'}{of_all(output)}")
        return float(found[1])

    return measure


def check_echo(url: str) -> None:
    """One request before the many: what comes back is what was sent.

    Raises:
        Failure: it is not.
    """
    if TEXT not in post(f"{url}/echo", {"text": TEXT}).text:
        raise Failure("fails: another text comes back")


def post(url: str, body: Mapping[str, object]) -> httpx.Response:
    """The caller's answer.

    Raises:
        Failure: it gives none, or says that something is wrong.
    """
    try:
        response = httpx.post(url, json=body, timeout=120, trust_env=False)
    except httpx.HTTPError as error:
        raise Failure(f"fails: the caller gives no answer: {error}") from error
    if response.status_code != 200:
        raise Failure(f"fails: {response.status_code}, {one_line(response.text)}")
    return response


def of_all(output: str) -> str:
    """How many requests wrk made, to set its failures against."""
    found = re.search(r"(\d+) requests in", output)
    return f" of {found[1]} requests" if found else ""


def one_line(text: str) -> str:
    """The beginning of a message, to stand in a table."""
    words = " ".join(text.split())
    return words if len(words) <= 160 else words[:159] + "…"


@contextmanager
def served(contender: Contender) -> Iterator[str]:
    """The URL of a contender's caller, whose calls are answered; all of it is stopped at the end.

    Raises:
        Failure: it does not come so far.
    """
    ports = {"caller": free_port(), "callee": free_port()}
    with ExitStack() as stack:
        # Not named after anything: Ray's sockets are below it, and a socket's path must be short.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environ = {
            **os.environ,
            "BENTOML_HOME": str(folder),
            "RAY_TMPDIR": str(folder),
            "CALLEE_URL": f"http://127.0.0.1:{ports['callee']}",
            **contender.environ,
        }
        if contender.python != Path(sys.executable):
            environ.pop(
                "PYTHONPATH", None
            )  # it may lead to this project, in place of what is installed there
        processes = []
        for role, command in (("callee", contender.callee), ("caller", contender.caller)):
            if command is not None:
                words = [str(contender.python), *(word.format(port=ports[role]) for word in command)]
                processes.append(stack.enter_context(running(words, environ, folder / "log")))
        url = f"http://127.0.0.1:{ports['caller']}"
        wait_for_call(url, processes, folder / "log")
        yield url


@contextmanager
def running(
    command: Sequence[str], environ: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is told to stop at the end, and with it what it may have left of its own."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, cwd=PROJECTS, env=environ, stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_call(url: str, processes: Sequence[subprocess.Popen[bytes]], log: Path) -> None:
    """Wait until the caller has called."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and all(process.poll() is None for process in processes):
        try:
            seconds(url, "small", 1, 1)
        except Failure:
            time.sleep(0.05)
        else:
            return
    last = (log.read_text(errors="replace").split("\n\n")[-1].splitlines() or ["nothing in its log"])[-1]
    raise Failure(f"fails: did not start: {one_line(last)}")
