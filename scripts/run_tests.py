"""The test suite: everything, or all but what this machine has no means for, which is then told.

In CI all of it is required. Arguments go to pytest; without any, the container scenarios, which mostly wait
for an engine, run beside the other tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Need:
    """Something that the tests with a marker cannot do without.

    Args:
        tests: what those tests are, for a person.
        remedy: how to get what is missing.
    """

    marker: str
    is_there: Callable[[], bool]
    tests: str
    remedy: str


def engine_answers() -> bool:
    try:
        command = ["docker", "info"]
        return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


NEEDS = (
    Need(
        marker="docker",
        is_there=engine_answers,
        tests="container scenarios, for want of an engine",
        remedy="`make testbed` gives a bare Debian machine one, and any Docker Engine will do",
    ),
    Need(
        marker="podman",
        is_there=lambda: all(map(shutil.which, ("podman", "buildah"))),
        tests="builds by podman and buildah, for want of the two",
        remedy="Debian has them as `podman` and `buildah`",
    ),
    Need(
        marker="reference",
        is_there=(ROOT / ".venv-reference" / "bin" / "python").exists,
        tests="comparisons with the existing implementation",
        remedy="`make test` installs it in .venv-reference",
    ),
    Need(
        marker="redis",
        is_there=lambda: shutil.which("redis-server") is not None,
        tests="tests of tasks in Redis, for want of a server",
        remedy="Debian has it as `redis-server`",
    ),
)


def main() -> int:
    command = [sys.executable, "-m", "pytest", *sys.argv[1:]]
    missing = [need for need in NEEDS if not need.is_there()]
    if missing and os.environ.get("CI"):
        for need in missing:
            print(f"CI runs all tests, and cannot run {need.tests}: {need.remedy}")
        return 1
    absent = [f"not {need.marker}" for need in missing]
    if sys.argv[1:] or "not docker" in absent:
        selection = ["-m", " and ".join(absent)] if absent else []
        code = subprocess.run([*command, *selection], check=False).returncode
    else:
        code = side_by_side(command, absent)
    for need in missing:
        print(f"not run: {count(need.marker)} {need.tests}; {need.remedy}")
    return code


def side_by_side(command: list[str], absent: list[str]) -> int:
    """Run the container scenarios beside the other tests, and show what they wrote once those are through."""
    scenarios, others = ([*command, "-m", " and ".join([part, *absent])] for part in ("docker", "not docker"))
    with tempfile.TemporaryFile("w+") as output:
        beside = subprocess.Popen([*scenarios, "-p", "no:cacheprovider"], stdout=output, stderr=output)
        code = subprocess.run(others, check=False).returncode
        code = beside.wait() or code
        output.seek(0)
        print(f"\nthe container scenarios, beside them:\n{output.read()}", flush=True)
    return code


def count(marker: str) -> int:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", marker]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return sum("::" in line for line in listed.splitlines())


if __name__ == "__main__":
    sys.exit(main())
