"""Names that services and Bentos have elsewhere."""

from __future__ import annotations

import pytest

from bento_cli.names import compose_project, is_bento_name, is_bento_version, kebab_case, snake_case, words


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ControlNet", ["control", "net"]),
        ("SDXLControlNetService", ["sdxl", "control", "net", "service"]),
        ("Llama3Chat", ["llama3", "chat"]),
        ("snake_case_name", ["snake", "case", "name"]),
        ("with-dash", ["with", "dash"]),
        ("HTTPServer2XX", ["http", "server2", "xx"]),
        ("_Private", ["private"]),
        ("__", []),
    ],
)
def test_a_name_falls_into_its_words(name: str, expected: list[str]) -> None:
    assert words(name) == expected


def test_a_container_is_named_in_kebab_case() -> None:
    assert kebab_case("SDXLControlNetService") == "sdxl-control-net-service"


def test_a_bento_is_named_in_snake_case() -> None:
    assert snake_case("ControlNet") == "control_net"


def test_a_compose_project_has_no_dot() -> None:
    assert compose_project("my.bento") == "my-bento"


@pytest.mark.parametrize("name", ["a", "control_net", "my.bento-2", "x" * 63])
def test_a_bento_may_be_named(name: str) -> None:
    assert is_bento_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "Upper", "a--b", "a..b", "-a", "a-", "a.", "_a", "a/b", "a:b", "x" * 64, "é", "a\n", "--help"],
)
def test_a_bento_may_not_be_named(name: str) -> None:
    assert not is_bento_name(name)


@pytest.mark.parametrize("version", ["1", "1.0.0", "2026-11-22", "a_b--c..d", "mzhvrbf6quiuyn4v"])
def test_a_version_may_be(version: str) -> None:
    assert is_bento_version(version)


@pytest.mark.parametrize(
    "version", ["", "latest", "V1", "1.", ".1", "..", "-1", "1-", "a/b", "a:b", "1\n", "x" * 64, "1+2"]
)
def test_a_version_may_not_be(version: str) -> None:
    assert not is_bento_version(version)
