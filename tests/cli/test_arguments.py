"""What a Bento is filled in with: from where, and what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import BentofileProblems, WriteProject
from typer.testing import CliRunner

from bento_cli.arguments import argument_value, as_arguments, load_arguments
from bento_cli.build.building import built
from bento_cli.commands._options import given_arguments
from bento_cli.commands.build import app as build
from bento_cli.console import Console
from bento_cli.errors import BentoError, InputError, NotFoundError
from bento_cli.store import Store

Write = Callable[[str, str], Path]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """`written("a.yaml", "x: 1")`: a file in the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return Path(name)

    return write


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20", 20),
        ("-1.5e3", -1500.0),
        ("true", True),
        ("null", None),
        ('{"a": [1]}', {"a": [1]}),
        ("[1, 2]", [1, 2]),
        ('"20"', "20"),
        ("large", "large"),
        ("", ""),
        ("True", "True"),
        ("007", "007"),
        ("1.0.0", "1.0.0"),
        ("NaN", "NaN"),
        ("1e999", "1e999"),
        ("[1", "[1"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_value_of_the_command_line_is_what_it_says_as_json_else_text(text: str, value: object) -> None:
    assert argument_value(text) == value


def test_a_file_is_yaml_or_json(written: Write) -> None:
    files = [written("a.yaml", "size: small\nsteps: 20\n"), written("b.json", '{\n\t"steps": 1e3\n}')]

    assert load_arguments(files) == {"size": "small", "steps": 1000.0}


def test_the_command_line_wins_over_files_and_later_ones_over_earlier_ones(written: Write) -> None:
    files = [written("a.yaml", "a: 1\nb: 1\nc: 1\nd: 1\n"), written("b.yaml", "b: 2\nc: 2\nd: 2\n")]

    assert given_arguments(["c=3", "d=3", "d=4"], files) == {"a": 1, "b": 2, "c": 3, "d": 4}


@pytest.mark.parametrize("pair", ["size", "=small", ""])
def test_what_is_no_pair_is_refused(pair: str) -> None:
    with pytest.raises(BentoError, match="expected `key=value`"):
        given_arguments([pair], None)


@pytest.mark.parametrize("name", ["none.yaml", "none.json"])
def test_a_file_that_is_not_there_is_not_found(written: Write, name: str) -> None:
    written("other.yaml", "")

    with pytest.raises(NotFoundError, match=f"{name}: no such file"):
        load_arguments([Path(name)])


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.yaml", "- 1", "a.yaml:1: expected keys and values, found a list"),
        ("a.yaml", "x: 1\nx: 2", "a.yaml:2: `x` stands here a second time"),
        ("a.yaml", "x: 1\ny: .inf", "a.yaml:2: `y`: inf is no number that JSON has"),
        ("a.yaml", "x:\n  when: 2026-01-01", "a.yaml:1: `x`: `2026-01-01` is no value that JSON has"),
        ("a.yaml", "x: {1: a}", "a.yaml:1: `x`: the key 1 is no text: write it in quotes"),
        ("a.yaml", "1: a", "a.yaml:1: `1`: the key 1 is no text: write it in quotes"),
        ("a.json", "{\n  'x': 1}", "a.json:2: not JSON: Expecting property name enclosed in double quotes"),
        ("a.json", "[]", "a.json:1: expected an object of names and values"),
        ("a.json", '{"x": NaN}', "a.json: `x`: nan is no number that JSON has"),
        ("a.json", "[" * 100_000, "a.json: nested more than 50 deep"),
        ("a.json", '{"x": ' + "[" * 60 + "]" * 60 + "}", "a.json: `x`: nested more than 50 deep"),
    ],
)
def test_what_a_file_cannot_say_comes_with_its_place(
    written: Write, name: str, text: str, problem: str
) -> None:
    with pytest.raises(InputError) as caught:
        load_arguments([written(name, text)])

    assert str(caught.value.problems[0]).startswith(problem)


def test_all_values_that_json_cannot_hold_are_named() -> None:
    with pytest.raises(BentoError) as caught:
        as_arguments({"good": 1, "half": "\ud83d", "set": {1}})

    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "argument `half`",
        "argument `set`",
    ]


def test_what_a_bentofile_cannot_say_comes_with_its_line(bentofile_problems: BentofileProblems) -> None:
    text = "service: a:B\nargs:\n  size: small\n  day: 2026-01-01\n"

    assert bentofile_problems(text) == [
        "bentofile.yaml:4: `args.day`: `2026-01-01` is no value that JSON has: write it in quotes"
    ]


PROJECT = {
    "bentofile.yaml": "service: service:Entry\nargs: {size: small, steps: 20, seed: 1}\n",
    "service.py": "import bentoml\n@bentoml.service\nclass Entry: ...\n",
    "file.yaml": "steps: 30\nseed: 2\n",
}


def test_the_command_line_wins_over_a_file_and_that_over_the_bentofile(
    project: WriteProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    project(PROJECT)

    result = CliRunner().invoke(build, [".", "--arg", "seed=3", "--arg-file", "file.yaml", "--no-lock"])

    assert result.exit_code == 0
    assert Store().get("entry").manifest.args == {"size": "small", "steps": 30, "seed": 3}


def test_a_bento_is_not_deployed_with_other_arguments_than_it_was_built_with() -> None:
    with pytest.raises(BentoError, match="entry:latest is built already, with arguments of its own"):
        built("entry:latest", Console(quiet=True), arguments={"size": "small"})
