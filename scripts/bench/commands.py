"""How long the commands take: medians of interleaved runs, beside the goals."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "controlnet"
ROUNDS = 15

# name → command, and the goal in seconds for its median
CASES: dict[str, tuple[list[str], float | None]] = {
    "the interpreter alone": ([sys.executable, "-c", "pass"], None),
    "bento --help": ([str(Path(sys.executable).parent / "bento"), "--help"], 0.15),
    "bento build, the example": (
        [str(Path(sys.executable).parent / "bento"), "build", str(EXAMPLE), "-q"],
        0.4,
    ),
}


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        environ = {**os.environ, "BENTOML_HOME": home}
        # Bytecode is written in the first round, which is not counted.
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        times: dict[str, list[float]] = {name: [] for name in CASES}
        for round_number in range(ROUNDS + 1):
            for name, (command, _) in CASES.items():
                started = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True, env=environ)
                if round_number:
                    times[name].append(time.perf_counter() - started)
    print(f"{'':28}{'median':>9}{'best':>9}{'goal':>9}   medians of {ROUNDS} interleaved runs")
    for name, (_, goal) in CASES.items():
        median, best = statistics.median(times[name]), min(times[name])
        verdict = "" if goal is None else "   reached" if median <= goal else "   MISSED"
        print(f"{name:28}{median:8.3f}s{best:8.3f}s{'' if goal is None else f'{goal:8.2f}s'}{verdict}")


if __name__ == "__main__":
    main()
