"""What type checkers see of a call between services: the method itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "projects/typed-calls/service.py"


def expected() -> dict[int, str]:
    """By line, the type that is revealed there or that there is an error, as the source's comments say."""
    lines = enumerate(SOURCE.read_text().splitlines(), 1)
    return {number: line.rpartition("# ")[2] for number, line in lines if "  # " in line}


def run(module: str, *arguments: str | Path) -> str:
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments), str(SOURCE)],
        capture_output=True,
        text=True,
        check=False,  # there are errors
    ).stdout


def mypy(tmp_path: Path) -> Mapping[int, str]:
    output = run("mypy", "--strict", "--cache-dir", tmp_path)
    found = re.findall(r":(\d+): (?:(error)|note: Revealed type is \"(?:typing\.)?(.*)\")", output)
    return {int(number): error or revealed for number, error, revealed in found}


def basedpyright(tmp_path: Path) -> Mapping[int, str]:
    found = json.loads(run("basedpyright", "--outputjson"))["generalDiagnostics"]
    return {
        each["range"]["start"]["line"] + 1: "error"
        if each["severity"] == "error"
        else each["message"].rpartition(" is ")[2].strip('"')
        for each in found
    }


@pytest.mark.parametrize("checker", [mypy, basedpyright], ids=["mypy", "basedpyright"])
def test_calls_of_peers_are_typed(checker: Callable[[Path], Mapping[int, str]], tmp_path: Path) -> None:
    assert checker(tmp_path) == expected()
