from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from bentoml._process.failure import reason
from bentoml.exceptions import BentoMLConfigException, BentoMLException, ImportServiceError


def raised(call: Callable[[], object]) -> BaseException:
    with pytest.raises((SyntaxError, ValueError, ZeroDivisionError)) as caught:
        call()
    return caught.value


def run(file: Path, text: str) -> Callable[[], object]:
    """Runs a file of the project, from code that is none of it."""
    file.write_text(textwrap.dedent(text))
    return lambda: exec(compile(file.read_text(), file, "exec"), {})


@pytest.mark.parametrize("kind", [BentoMLConfigException, ImportServiceError])
def test_what_is_said_in_words_needs_no_traceback(kind: type[BentoMLException], tmp_path: Path) -> None:
    assert reason(kind("`workers`: expected a number"), tmp_path) == "`workers`: expected a number"


def test_a_traceback_begins_with_the_code_of_the_project(tmp_path: Path) -> None:
    file = tmp_path / "service.py"
    error = raised(run(file, "def load():\n    raise ValueError('no weights')\nload()"))

    assert reason(error, tmp_path).splitlines()[:3] == [
        "its own code failed",
        "Traceback (most recent call last):",
        f'  File "{file}", line 3, in <module>',
    ]


def test_a_file_that_is_no_python_is_shown_where_it_is_not(tmp_path: Path) -> None:
    text = reason(raised(run(tmp_path / "service.py", "x = (")), tmp_path)

    assert f'  File "{tmp_path}/service.py", line 1' in text
    assert "Traceback" not in text


def test_an_error_of_none_of_the_project_keeps_its_whole_traceback(tmp_path: Path) -> None:
    assert "in raised\n" in reason(raised(lambda: 1 // 0), tmp_path)
