"""`bento config explain`: every value of a configuration, and which place has the last word on it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.cli.conftest import WriteProject
from typer.testing import CliRunner

from bento_cli.build import plan_build
from bento_cli.build.writing import write_bento
from bento_cli.commands.config import app
from bento_cli.errors import BentoError, InputError, NotFoundError
from bento_cli.explained import Layer, explain
from bento_cli.store import Store

FILES = {
    "bentofile.yaml": "service: service:Entry\n",
    "service.py": """
    import bentoml

    @bentoml.service
    class Leaf: ...

    @bentoml.service(traffic={"timeout": 30, "max_concurrency": 4}, workers=2)
    class Entry:
        leaf = bentoml.depends(Leaf)
    """,
    "config.yaml": """
    services:
      Entry:
        config_overrides:
          traffic:
            timeout: 90
          resources: {memory: 1Gi}
    """,
}

Explain = Callable[..., dict[str, tuple[object, str]]]


@pytest.fixture
def explained(project: WriteProject) -> Explain:
    """`explained("Entry", "traffic")`: the value of each key, and where it comes from."""
    project(FILES)

    def find(*arguments: str) -> dict[str, tuple[object, str]]:
        result = CliRunner().invoke(app, ["explain", *arguments, "-o", "json"], catch_exceptions=False)
        return {key: (found["value"], found["from"]) for key, found in json.loads(result.stdout).items()}

    return find


def test_a_value_comes_from_the_last_place_that_says_it(explained: Explain) -> None:
    line = '{"services": {"Entry": {"config_overrides": {"threads": 3}}}}'

    found = explained("Entry", "-f", "config.yaml", "--config-dict", line)

    assert {key: value for key, value in found.items() if value[1] != "default"} == {
        "traffic.timeout": (90.0, "config.yaml:5"),
        "traffic.max_concurrency": (4, "@service service.py:6"),
        "resources.memory": (2**30, "config.yaml:6"),
        "workers": (2, "@service service.py:6"),
        "threads": (3, "--config-dict"),
    }


def test_every_key_has_a_value(explained: Explain) -> None:
    found = explained("Leaf")

    assert found["traffic.timeout"] == (60.0, "default")
    assert len(found) > 80


def test_one_key_or_a_section_may_be_asked_for(explained: Explain) -> None:
    assert list(explained("Entry", "workers")) == ["workers"]
    assert {key.partition(".")[0] for key in explained("Entry", "traffic")} == {"traffic"}


def test_what_stands_under_a_value_is_told(project: WriteProject) -> None:
    project(FILES)

    result = CliRunner().invoke(app, ["explain", "Entry", "traffic.timeout", "-f", "config.yaml"])

    assert result.stdout.splitlines()[1].split("  ")[-1].strip() == "@service service.py:6"


def test_a_place_that_says_none_has_it_be_as_by_default() -> None:
    layers = [
        Layer(source=lambda _: "@service", values={"traffic": {"timeout": 5}, "workers": 2}),
        Layer(source=lambda _: "file", values={"traffic": None, "workers": None}),
    ]

    values = {value.key: (value.value, value.source, value.over) for value in explain("Entry", layers)}

    assert values["traffic.timeout"] == (60.0, "file", ("@service",))
    assert values["workers"] == (1, "file", ("@service",))


def test_what_is_secret_is_not_shown() -> None:
    said = {
        "ssl": {"enabled": True, "certfile": "c.pem", "keyfile_password": "hunter2"},
        "tracing": {"otlp": {"http": {"headers": {"authorization": "hunter2"}}}},
    }

    values = {value.key: value.value for value in explain("E", [Layer(source=lambda _: "file", values=said)])}

    assert "hunter2" not in str(values)
    assert (values["ssl.certfile"], values["ssl.keyfile_password"]) == ("c.pem", "********")


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["Entri"], NotFoundError, "no service 'Entri', did you mean `Entry`?"),
        (["Entry", "trafic"], NotFoundError, "no key 'trafic', did you mean `traffic`?"),
        (["Entry", "traffic.timout"], NotFoundError, "did you mean `traffic.timeout`?"),
        (
            ["Entry", "--config-dict", '{"services": {"Entry": {"config_overrides": {"workers": "x"}}}}'],
            InputError,
            "--config-dict: `workers`: expected a number above 0",
        ),
        (
            ["Entry", "--config-dict", '{"services": {"Other": {}}}'],
            InputError,
            "--config-dict: no service 'Other'",
        ),
    ],
)
def test_what_is_not_there_is_told_with_the_nearest(
    project: WriteProject, arguments: list[str], kind: type[BentoError], message: str
) -> None:
    project(FILES)

    with pytest.raises(kind) as caught:
        CliRunner().invoke(app, ["explain", *arguments], catch_exceptions=False)

    assert message in str(caught.value)


def test_a_bento_is_explained_as_its_project_is(
    project: WriteProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project(FILES)
    monkeypatch.setenv("BENTOML_HOME", str(root / "home"))
    bento, _ = write_bento(plan_build(root), Store())

    result = CliRunner().invoke(app, ["explain", "Entry", "workers", "--bento", str(bento.tag)])

    assert result.stdout.splitlines()[1].split() == ["workers", "2", "@service"]
