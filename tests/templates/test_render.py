"""Text out of data: each value stays data in the language it stands in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import jinja2
import pytest
import yaml

from bento_templates import (
    TemplateValueError,
    comment,
    docker_command,
    docker_list,
    docker_value,
    docker_word,
    label_key,
    one_line,
    render,
    yaml_key,
    yaml_value,
)

BREAKS = ["\n", "\r", "\0", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"]


def test_a_value_that_a_template_was_not_given_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="'containers' is undefined"):
        render("compose/compose.cpu.yaml.j2")


def test_a_value_that_is_given_is_not_read_as_a_template() -> None:
    text = render("compose/compose.cpu.yaml.j2", containers=["{{ 1 + 1 }}"])

    assert '"{{ 1 + 1 }}"' in text


@pytest.mark.parametrize(
    "name",
    [
        f"docker/{name}.j2"
        for name in ("packages", "runtime", "system", "user", "environment", "sources", "Dockerfile")
    ],
)
def test_a_part_of_a_dockerfile_needs_an_image(name: str) -> None:
    with pytest.raises(jinja2.UndefinedError):
        render(name)


def test_a_file_that_says_the_same_each_time_needs_nothing() -> None:
    assert render("docker/dockerignore.j2").splitlines()[1] == "*"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", '""'),
        ("plain", '"plain"'),
        ("a b", '"a b"'),
        ('say "hi"', r'"say \"hi\""'),
        ("C:\\", r'"C:\\"'),
        ("$HOME", r'"\$HOME"'),
        ("'x' `y` #z", "\"'x' `y` #z\""),
    ],
)
def test_a_value_of_a_dockerfile_is_quoted(value: str, expected: str) -> None:
    assert docker_value(value) == expected


@pytest.mark.parametrize("filter_", [docker_value, one_line, label_key])
@pytest.mark.parametrize("line_break", BREAKS)
def test_a_line_break_is_refused(filter_: Callable[[str], str], line_break: str) -> None:
    with pytest.raises(TemplateValueError, match="found a line break or a NUL"):
        filter_(f"a{line_break}b")


def test_a_line_break_in_a_list_is_refused() -> None:
    with pytest.raises(TemplateValueError):
        docker_list(["a", "b\nRUN x"])


@pytest.mark.parametrize("line_break", BREAKS)
def test_a_command_is_one_line_of_json_whatever_breaks_its_own(line_break: str) -> None:
    if line_break == "\0":
        with pytest.raises(TemplateValueError, match="found a NUL"):
            docker_command(["a\0b"])
        return
    text = docker_command(["/bin/sh", "-c", f"a{line_break}b\\"])

    assert len(text.splitlines()) == 1
    assert json.loads(text) == ["/bin/sh", "-c", f"a{line_break}b\\"]


def test_half_a_character_is_refused() -> None:
    with pytest.raises(TemplateValueError, match="surrogate"):
        one_line("\ud83d")


def test_what_is_longer_than_a_line_of_a_dockerfile_is_refused() -> None:
    assert len(docker_value("\\" * 30_000)) < 65_535
    with pytest.raises(TemplateValueError, match="at most 30000"):
        one_line("x" * 30_001)


@pytest.mark.parametrize("key", ["", "a=b"])
def test_a_labels_key_that_a_builder_splits_is_refused(key: str) -> None:
    with pytest.raises(TemplateValueError, match="expected a label's key"):
        label_key(key)


def test_a_list_is_written_as_json() -> None:
    assert json.loads(docker_list(["a b", '"', "é"])) == ["a b", '"', "é"]


@pytest.mark.parametrize(
    "word", ["python:3.11-slim", "registry:5000/a/b@sha256:00", "libgl1=1:2.3~x+y", "/opt/bento"]
)
def test_a_word_stands_as_it_is(word: str) -> None:
    assert docker_word(word) == word


@pytest.mark.parametrize(
    "word", ["", "a b", "a\tb", "a;b", "$A", "a&&b", "`a`", "a|b", "a#b", "a\\", '"a"', "a\u00a0b", *BREAKS]
)
def test_what_is_no_single_word_is_refused(word: str) -> None:
    with pytest.raises(TemplateValueError, match="as one word"):
        docker_word(word)


@pytest.mark.parametrize("line_break", BREAKS)
def test_a_comment_stays_on_its_line(line_break: str) -> None:
    assert comment(f"a{line_break}RUN b") == "a RUN b"


TEXTS = [
    "",
    "yes",
    "1",
    "a: b",
    "- a",
    "#x",
    "é😀",
    "\n",
    "\x00",
    "\x7f\x85\u2028\ufeff\uffff",
    "\"'\\",
    "{{ x }}",
]


@pytest.mark.parametrize("value", [*TEXTS, TEXTS, {"a": "b"}, 5, True, None])
def test_a_value_reads_back_from_yaml(value: object) -> None:
    assert yaml.safe_load(yaml_value(value)) == value


def test_compose_finds_no_variable_in_a_value() -> None:
    assert yaml_value({"$key": ["$HOME", "$$"]}) == '{"$key": ["$$HOME", "$$$$"]}'


@pytest.mark.parametrize("key", ["control-net", "BENTOML_PEER_A", "org.example.label", "A1"])
def test_a_plain_key_has_no_quotes(key: str) -> None:
    assert yaml_key(key) == key


@pytest.mark.parametrize(
    "key", ["", "on", "No", "NULL", "true", "y", "1", "1e3", "-a", "a b", "a:", "$a", "é", "\n", "~", "<<"]
)
def test_any_key_reads_back_from_yaml(key: str) -> None:
    assert yaml.safe_load(f"{yaml_key(key)}: x") == {key: "x"}


def test_templates_end_with_a_line_break_and_have_no_blank_lines_in_a_row() -> None:
    text = render("compose/compose.cpu.yaml.j2", containers=["a", "b"])

    assert text.endswith("\n")
    assert not re.search(r"\n\n\n", text)
