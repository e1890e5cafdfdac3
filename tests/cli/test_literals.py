"""Values that the source says outright, and those that it computes."""

from __future__ import annotations

import ast

import pytest
from tests.cli.conftest import WriteProject

from bento_cli.literals import literal
from bento_cli.source import Project

SERVICE = """
    import os
    import settings
    from settings import TIMEOUT as FOREIGN, TRAFFIC as SHARED
    try:
        from fast import SIZE
    except ImportError:
        from settings import SIZE

    MINUTE = 60
    TRAFFIC = {"timeout": 30}
    ANNOTATED: int = 7
    MANY = os.cpu_count()
    TWICE = 1
    TWICE = 2
    CHANGED = {}
    CHANGED["a"] = 1
    EXTENDED = []
    EXTENDED.append(1)
    LOOP = [settings.LOOP]
    SHARED["max_concurrency"] = 1
    """
SETTINGS = """
    import service

    TIMEOUT = 90
    SIZE = 1
    TRAFFIC = {"timeout": TIMEOUT}
    LOOP = [service.LOOP]
    """


def value_of(write: WriteProject, expression: str) -> object:
    project = Project(write({"service.py": SERVICE, "settings.py": SETTINGS}))
    module = project.module("service")
    assert module is not None
    return literal(project, module, ast.parse(expression, mode="eval").body)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'a'", "a"),
        ("-1.5", -1.5),
        ("None", None),
        ("[1, (2, 3)]", [1, (2, 3)]),
        ("{1, 2}", {1, 2}),
        ("{'timeout': 60}", {"timeout": 60}),
        ("dict(timeout=60)", {"timeout": 60}),
        ("60 * 10 + 4 / 2 - 1", 601.0),
        ("2 * MINUTE", 120),
        ("{**TRAFFIC, 'max_concurrency': 5}", {"timeout": 30, "max_concurrency": 5}),
        ("dict(**TRAFFIC)", {"timeout": 30}),
        ("settings.TRAFFIC", {"timeout": 90}),
        ("ANNOTATED", 7),
        ("FOREIGN", 90),
    ],
)
def test_is_known(project: WriteProject, expression: str, expected: object) -> None:
    assert value_of(project, expression) == expected


@pytest.mark.parametrize(
    "expression",
    [
        *("MANY", "TWICE", "CHANGED", "EXTENDED", "LOOP", "unknown", "os.environ['A']", "int('5')"),
        *(
            "2 ** 8",
            "'a' * 3",
            "1 / 0",
            "{[1]: 2}",
            "{[1]}",
            "[*range(3)]",
            "{**MANY}",
            "{**MINUTE}",
            "f'{1}'",
        ),
    ],
)
def test_is_computed(project: WriteProject, expression: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # each has words of its own, which nobody reads
        value_of(project, expression)
