"""What `@bentoml.service` says of an argument that is not what it should be."""

from __future__ import annotations

from typing import Any

import pytest

import bentoml


def declared(**arguments: Any) -> bentoml.Service[Any]:
    class Iris: ...

    service: bentoml.Service[Any] = bentoml.service(**arguments)(Iris)
    return service


@pytest.mark.parametrize(
    ("env", "problem"),
    [
        ({"name": "A", "vale": "1"}, "unknown key `vale`, did you mean `value`?"),
        ({"name": "A", "secret": "1"}, "unknown key `secret`, expected name, value, stage"),
        ({"value": "1"}, "needs a `name`"),
        ({"name": "HF TOKEN"}, "`name`: expected letters, digits and `_`, no digit first, found 'HF TOKEN'"),
        ({"name": 1}, "`name`: expected letters, digits and `_`, no digit first, found 1"),
        ({"name": "A", "value": 1}, "`value`: expected a text, found a value of type int"),
        ({"name": "A", "stage": "run"}, "`stage`: expected one of all, build, runtime, found 'run'"),
        ("A", """expected a mapping such as {"name": "HF_TOKEN"}, found 'A'"""),
    ],
)
def test_a_variable_that_is_none_is_named_by_the_service_and_its_index(env: object, problem: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # its whole text is compared
        declared(envs=[{"name": "FIRST"}, env])

    assert str(caught.value) == f"Iris: `envs[1]`: {problem}"


def test_all_problems_of_all_variables_are_told_at_once() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # its whole text is compared
        declared(envs=[{"nam": "A"}, {"name": "B", "value": None}, {"name": "C", "value": 3}])

    assert str(caught.value).splitlines() == [
        "Iris:",
        "  `envs[0]`: unknown key `nam`, did you mean `name`?",
        "  `envs[0]`: needs a `name`",
        "  `envs[2]`: `value`: expected a text, found a value of type int",
    ]


def test_a_key_of_a_variable_that_is_none_is_as_good_as_not_there() -> None:
    assert declared(envs=[{"name": "A", "value": None, "stage": None}]).envs == ({"name": "A"},)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"envs": {"A": "1"}}, "`envs`: expected a list of mappings, found {'A': '1'}"),
        ({"labels": ["owner"]}, "`labels`: expected a mapping of names to texts, found ['owner']"),
        ({"labels": {"owner": 1}}, "`labels`: expected a text for each name, found 'owner': 1"),
        ({"cmd": "vllm serve"}, "`cmd`: expected a list of words, found 'vllm serve'"),
        ({"cmd": ["serve", 8000]}, "`cmd`: expected a list of words, found ['serve', 8000]"),
        ({"cmd": []}, "`cmd`: expected a list of words, found []"),
    ],
)
def test_an_argument_of_another_kind_is_refused(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # its whole text is compared
        declared(**arguments)

    assert str(caught.value) == f"Iris: {problem}"
