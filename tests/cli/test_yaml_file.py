"""YAML files: what is refused, and where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from bento_cli.errors import InputError, NotFoundError
from bento_cli.yaml_file import YamlFile, load_yaml, parse_yaml, validate, without_problems


class Port(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: int = 3000
    protocol: str = "http"


class Server(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = ""
    ports: tuple[Port, ...] = ()
    hosts: dict[str, Port] = {}
    main: Port | None = None
    labels: dict[str, str] = {}


def parsed(text: str | bytes) -> YamlFile:
    return parse_yaml(text.encode() if isinstance(text, str) else text, Path("server.yaml"))


def refused(text: str | bytes) -> str:
    with pytest.raises(InputError) as caught:
        validate(parsed(text), Server)
    return caught.value.message


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        load_yaml(tmp_path / "server.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is a folder"):
        load_yaml(tmp_path)


def test_a_file_of_more_than_1_MiB_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("# " + "x" * (1 << 20), encoding="utf-8")

    with pytest.raises(InputError, match="more than the 1048576 bytes"):
        load_yaml(path)


def test_an_empty_file_says_nothing() -> None:
    assert parsed("").data == {}


def test_each_value_has_a_line() -> None:
    file = parsed("name: a\nports:\n  - number: 1\n  - number: 2\n")

    assert file.line_of(("ports", 1, "number")) == 4


def test_what_is_not_in_the_file_has_the_line_of_what_is_around_it() -> None:
    file = parsed("name: a\nports:\n  - number: 1\n")

    assert file.line_of(("ports", 0, "protocol")) == 3


def test_what_does_not_parse_is_shown_with_its_line() -> None:
    assert refused("name: a\nports: [1, 2\nmain: x\n").startswith("server.yaml:3: not YAML: ")


@pytest.mark.parametrize(
    "text", ["a: {b", "a: 'b", "\tname: x", "a: b: c", "- a\nb: c", "a: !!python/name:os.system x"]
)
def test_what_does_not_parse_is_refused(text: str) -> None:
    assert "not YAML: " in refused(text)


def test_a_second_document_is_refused() -> None:
    assert refused("name: a\n---\nname: b\n").startswith("server.yaml:2: not YAML: ")


def test_a_key_that_comes_twice_is_refused_where_it_comes_again() -> None:
    assert refused("main:\n  number: 1\n  number: 2\n") == "server.yaml:3: `number` stands here a second time"


def test_an_alias_is_refused_with_its_line() -> None:
    assert refused("name: &a x\nlabels: {b: *a}\n").startswith("server.yaml:2: the alias `*a`: write ")


def test_aliases_that_would_grow_huge_are_refused_at_once() -> None:
    text = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )

    assert refused(text * 1).startswith("server.yaml:2: the alias")


def test_bytes_that_are_no_utf_8_are_refused_with_their_line() -> None:
    assert refused(b"name: a\nlabels: {b: \xff}\n") == "server.yaml:2: not UTF-8: the byte 0xFF"


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert parsed(b"\xef\xbb\xbfname: a\n").data == {"name": "a"}


def test_a_control_character_is_refused_with_its_line() -> None:
    assert refused("name: a\nlabels: {b: \x01}\n") == (
        "server.yaml:2: not YAML: the character U+0001 cannot stand in it"
    )


def test_half_a_character_is_refused_with_its_line() -> None:
    assert refused('name: a\nlabels: {b: "\\ud83d"}\n').startswith("server.yaml:2: half of a surrogate pair")


def test_a_file_nested_deeper_than_anyone_writes_is_refused() -> None:
    assert refused("a: " + "[" * 100_000) == "server.yaml:1: nested more than 50 deep"


def test_a_date_that_is_none_is_refused() -> None:
    assert "a value cannot be read" in refused("name: 2026-02-31\n")


def test_a_list_is_no_mapping() -> None:
    assert refused("- a\n") == "server.yaml:1: expected keys and values, found a list"


def test_an_unknown_field_comes_with_the_nearest_name() -> None:
    assert refused("nmae: a\n") == "server.yaml:1: unknown field `nmae`, did you mean `name`?"


def test_an_unknown_field_far_from_any_name_comes_with_all_of_them() -> None:
    assert refused("main: {zzz: 1}\n") == "server.yaml:1: unknown field `main.zzz`; valid: number, protocol"


@pytest.mark.parametrize(
    "text", ["ports:\n  - nmuber: 1\n", "hosts:\n  nmuber: {nmuber: 1}\n", "main:\n  nmuber: 1\n"]
)
def test_an_unknown_field_inside_a_list_a_mapping_or_an_option_comes_with_the_nearest_name(text: str) -> None:
    assert refused(text).endswith("did you mean `number`?")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: 5", "`name`: expected text, found the number 5: write it in quotes"),
        ("name: yes", "`name`: expected text, found `true`: write it in quotes"),
        ("name:", "`name`: expected text, found nothing"),
        ("name: [a]", "`name`: expected text, found a list"),
        ("ports: http", "`ports`: expected a list, found the text 'http'"),
        ("ports: {a: b}", "`ports`: expected a list, found keys and values"),
        ("hosts: [a]", "`hosts`: expected keys and values, found a list"),
        ("labels: {1: a}", "`labels.1`: expected text, found the number 1: write it in quotes"),
        ("main: {number: many}", "`main.number`: input should be a valid integer"),
    ],
)
def test_a_value_of_another_kind_is_refused_in_the_words_of_yaml(text: str, expected: str) -> None:
    assert refused(text).startswith(f"server.yaml:1: {expected}")


def test_all_problems_come_at_once() -> None:
    assert refused("name: 5\nports:\n  - number: many\nother: 1\n").count("server.yaml:") == 3


def test_a_problem_points_at_the_key_or_the_item(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("name: a\nports:\n  - number: x\n", encoding="utf-8")

    with pytest.raises(InputError) as caught:
        validate(load_yaml(path), Server)

    assert caught.value.message.splitlines()[1:] == ["    - number: x", "      ^"]


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("name: a\nlabels: {b: 1, c: d}", {"name": "a", "labels": {"c": "d"}}),
        ("name: a\nhosts: {b: {number: 1, protocl: x}}", {"name": "a", "hosts": {"b": {"number": 1}}}),
        ("name: a\nports: [{number: 1}, {number: x}]", {"name": "a"}),
        ("name: [a]\nmain: 5\nprots: []", {}),
    ],
)
def test_what_is_right_is_left_of_a_file_with_problems(text: str, rest: object) -> None:
    assert without_problems(parsed(text), Server).data == rest
