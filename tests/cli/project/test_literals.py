"""Values that the source says outright, and those that it computes."""

from __future__ import annotations

import ast
from collections.abc import Mapping

import pytest
from tests.cli.conftest import WriteProject

from bento_cli.project.literals import image, literal
from bento_cli.project.source import Project
from bentoml.images import Image

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
        ("'a' + 'b'", "ab"),
        ("[1] + [*(2, 3)]", [1, 2, 3]),
        ("(1,) + (2,)", (1, 2)),
        ("TRAFFIC | {'max_concurrency': 5}", {"timeout": 30, "max_concurrency": 5}),
        ("f'{MINUTE}s'", "60s"),
        ("settings.TRAFFIC['timeout']", 90),
        ("[1, 2][-1]", 2),
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
            "[*TRAFFIC]",
            "f'{1.5:.2f}'",
            "f'{MANY}'",
            "f'{None}'",
            "{'a': 1}['b']",
            "[1][1]",
            "'a'[0]",
            "[] + ()",
            "'a' + 1",
        ),
    ],
)
def test_is_computed(project: WriteProject, expression: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # each has words of its own, which nobody reads
        value_of(project, expression)


ARGUMENTS = """
    import bentoml
    import typing
    from models import Model

    given = bentoml.use_arguments()
    args = bentoml.use_arguments(Model)
    changed = bentoml.use_arguments()
    changed.size = 2
    """
MODELS = """
    import bentoml, pydantic
    from typing import Annotated, Literal, Optional

    STEPS = 20

    class Model(pydantic.BaseModel):
        \"\"\"Fields and properties.\"\"\"

        size: int = 1
        name: str
        scale: float = 0.5
        steps: Optional[int] = STEPS
        token: str | None = None
        seed: int = pydantic.Field(alias="size")
        other: Annotated[int, pydantic.Field(alias="size")] = 1
        kind: Literal["a", "b"] = "a"
        mode: Literal["c"] | int = 0
        tags: list[str] = ["x"]

        @property
        def twice(self) -> int:
            return 2 * self.size

        @pydantic.model_serializer
        def serialize(self):
            return {}
    """
CHANGED_MODEL = """
    import bentoml, pydantic

    class Model(pydantic.BaseModel):
        size: int = 1
        {}

    args = bentoml.use_arguments(Model)
    """


def argument_of(write: WriteProject, expression: str, arguments: Mapping[str, object]) -> object:
    root = write({"service.py": ARGUMENTS + "import models", "models.py": MODELS})
    project = Project(root, arguments)
    module = project.module("service")
    assert module is not None
    return literal(project, module, ast.parse(expression, mode="eval").body)


@pytest.mark.parametrize(
    ("expression", "arguments", "expected"),
    [
        ("given.size", {"size": [1]}, [1]),
        ("given.options['size']", {"options": {"size": 2}}, 2),
        ("f'{args.name}-{args.size}'", {"name": "small"}, "small-1"),
        ("args.size", {"size": 4}, 4),
        ("args.scale", {}, 0.5),
        ("args.scale", {"scale": 2}, 2.0),
        ("args.steps", {}, 20),
        ("args.steps", {"steps": None}, None),
        ("args.token", {"token": "x"}, "x"),
        ("args.kind", {"kind": "b"}, "b"),
        ("args.mode", {"mode": "c"}, "c"),
        ("args.tags", {}, ["x"]),
    ],
)
def test_an_argument_is_known(
    project: WriteProject, expression: str, arguments: Mapping[str, object], expected: object
) -> None:
    value = argument_of(project, expression, arguments)

    assert (type(value), value) == (type(expected), expected)


@pytest.mark.parametrize(
    ("expression", "arguments"),
    [
        ("given.size", {}),
        ("given", {"given": 1}),
        ("args.name", {}),
        # Pydantic may make something else of these, or refuse them.
        ("args.size", {"size": "4"}),
        ("args.size", {"size": True}),
        ("args.seed", {"seed": 1}),
        ("args.tags", {"tags": []}),
        ("args.other", {"size": 2}),
        ("args.kind", {"kind": "c"}),
        ("args.twice", {}),
        ("args.missing", {"missing": 1}),
        ("changed.size", {"size": 1}),
    ],
)
def test_an_argument_is_computed(
    project: WriteProject, expression: str, arguments: Mapping[str, object]
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # each has words of its own, which nobody reads
        argument_of(project, expression, arguments)


@pytest.mark.parametrize(
    "statement",
    [
        "@pydantic.field_validator('size')\n        def twice(cls, value): return 2 * value",
        "def model_post_init(self, context): self.size = 2",
        "def __init__(self, **given): super().__init__(size=2)",
        "model_config = pydantic.ConfigDict(alias_generator=str.upper)",
        "model_config: dict = {'alias_generator': str.upper}",
        "model_config = {'alias_generator': str.upper}",
        "size = 2",
        "size: int = 2",
        "if True:\n            size: int = 2",
    ],
)
def test_a_model_that_may_change_its_arguments_is_computed(project: WriteProject, statement: str) -> None:
    found = Project(project({"service.py": CHANGED_MODEL.format(statement)}))
    module = found.module("service")
    assert module is not None

    with pytest.raises(ValueError):  # noqa: PT011  # each has words of its own, which nobody reads
        literal(found, module, ast.parse("args.size", mode="eval").body)


IMAGES = """
    import bentoml
    from bentoml.images import Image

    PACKAGES = ["numpy", "torch"]
    image = bentoml.images.Image(python_version="3.11").python_packages(*PACKAGES).run("a; b")
    told = Image("debian")
    told.system_packages("git")
    told.requirements_file("more.txt")
    changed = Image()
    changed.base_image = "debian"
    twice = Image()
    twice = twice.run("a")
    if PACKAGES:
        asked = Image()
        asked.run("a")
    """


def image_of(write: WriteProject, expression: str) -> Image:
    project = Project(write({"images.py": IMAGES, "service.py": "import bentoml, images, os"}))
    module = project.module("service")
    assert module is not None
    return image(project, module, ast.parse(expression, mode="eval").body)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("bentoml.images.Image(distro='alpine')", Image(distro="alpine")),
        ("bentoml.images.PythonImage().uv_lock()", Image().uv_lock()),
        ("images.image", Image(python_version="3.11").python_packages("numpy", "torch").run("a; b")),
        ("images.told", Image("debian").system_packages("git").requirements_file("more.txt")),
    ],
)
def test_an_image_is_known(project: WriteProject, expression: str, expected: Image) -> None:
    assert image_of(project, expression) == expected


@pytest.mark.parametrize(
    "expression",
    [
        *("images.changed", "images.twice", "images.asked", "images.missing", "bentoml.images.Other()"),
        *("bentoml.images.Image(os.environ['A'])", "bentoml.images.Image().run(os.environ['A'])"),
        "bentoml.images.Image(**images.told)",
        *("bentoml.images.Image().run(command='a')", "None", "bentoml.images.Image"),
    ],
)
def test_an_image_is_computed(project: WriteProject, expression: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # each has words of its own, which nobody reads
        image_of(project, expression)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("bentoml.images.Image(python='3.11')", "unexpected keyword argument 'python'"),
        ("bentoml.images.Image().run(5)", "`run\\(\\)` takes text, found \\[5\\]"),
        ("bentoml.images.Image().run('a', 'b')", "takes 2 positional arguments"),
    ],
)
def test_an_image_is_not_given_what_it_does_not_take(
    project: WriteProject, expression: str, expected: str
) -> None:
    with pytest.raises(TypeError, match=expected):
        image_of(project, expression)
