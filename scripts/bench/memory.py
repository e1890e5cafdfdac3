"""Memory of the example's graph as it is served here, and how long it takes until it is ready."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.bench.serving import free_port

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "controlnet"
BENTO = [sys.executable, "-m", "bento_cli"]
ROUNDS = 3
GOAL_MB = 1200
GOAL_RATIO = 1.3


def main() -> None:
    try:
        import diffusers  # noqa: F401
    except ImportError:
        print("memory: not measured, the example's packages are not there; `make demo` installs them")
        return
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            **os.environ,
            "BENTOML_HOME": f"{folder}/home",
            "HF_HOME": str(ROOT / ".demo" / "huggingface"),
            "HF_HUB_OFFLINE": "1",
        }
        subprocess.run([sys.executable, str(EXAMPLE / "tiny_weights.py"), environ["HF_HOME"]], check=True)
        alone, graph, sizes = [], [], []
        for _ in range(ROUNDS):
            with ready(serve("service:SDXLControlNetService"), environ) as (seconds, _process):
                alone.append(seconds)
            with ready([*BENTO, "serve", str(EXAMPLE), "--port", str(free_port())], environ) as (
                seconds,
                process,
            ):
                graph.append(seconds)
                sizes.append(pss_mb(process.pid))
    ratio = statistics.median(graph) / statistics.median(alone)
    size = statistics.median(sizes)
    print(f"{'the example, 8 workers and 1':44}{'median':>10}{'goal':>8}")
    print(f"{'memory of all processes (PSS)':44}{size:7.0f} MB{GOAL_MB:5} MB   {verdict(size <= GOAL_MB)}")
    print(f"{'its GPU service alone, until it is ready':44}{statistics.median(alone):8.1f} s")
    print(f"{'the graph, until all of it is ready':44}{statistics.median(graph):8.1f} s")
    print(f"{'ratio':44}{ratio:10.2f}{GOAL_RATIO:8}   {verdict(ratio <= GOAL_RATIO)}")


def serve(what: str) -> list[str]:
    return [*BENTO, "serve", what, "--port", str(free_port())]


@contextmanager
def ready(command: list[str], environ: dict[str, str]) -> Iterator[tuple[float, subprocess.Popen[bytes]]]:
    """A graph that is ready, and after how many seconds it was; it is stopped at the end."""
    begun = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, cwd=EXAMPLE, env=environ, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
        assert process.stdout is not None
        try:
            if not process.stdout.readline():  # its table comes when every service is ready
                log.seek(0)
                sys.exit(f"the services did not start:\n{log.read().decode()[-3000:]}")
            yield time.monotonic() - begun, process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
            process.stdout.close()


def pss_mb(pid: int) -> float:
    """Memory of a process and all below it: what is shared counts once."""
    total_kb = 0
    for process in descendants(pid):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        total_kb += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kb / 1024


def descendants(pid: int) -> list[int]:
    found = [pid]
    for process in found:
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


def verdict(is_reached: bool) -> str:
    return "reached" if is_reached else "MISSED"
