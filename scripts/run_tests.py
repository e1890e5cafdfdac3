"""The test suite: everything, or all but the container scenarios where no engine answers.

In CI an engine is required. Arguments go to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys


def main() -> int:
    command = [sys.executable, "-m", "pytest", *sys.argv[1:]]
    if engine_answers():
        return subprocess.run(command, check=False).returncode
    if os.environ.get("CI"):
        print("no container engine answers, and CI runs the container scenarios: `make testbed` starts one")
        return 1
    code = subprocess.run([*command, "-m", "not docker"], check=False).returncode
    print(
        f"not run: {count_scenarios()} container scenarios, for want of an engine; "
        "`make testbed` gives a bare Debian machine one, and any Docker Engine will do"
    )
    return code


def engine_answers() -> bool:
    try:
        return (
            subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=30).returncode == 0
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


def count_scenarios() -> int:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "docker"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return sum("::" in line for line in listed.splitlines())


if __name__ == "__main__":
    sys.exit(main())
