from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from bentoml._process.preload import Import, SharedImports, shared_imports


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path


def read(project: Path, files: Mapping[str, str], *, absent: frozenset[str] = frozenset()) -> SharedImports:
    for name, text in files.items():
        file = project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    return shared_imports("service", project, absent)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import numpy", Import("numpy")),
        ("import numpy as np", Import("numpy")),
        ("import numpy.linalg", Import("numpy.linalg")),
        ("from PIL import Image, ImageOps as ops", Import("PIL", ("Image", "ImageOps"))),
        ("from numpy import *", Import("numpy")),
        ("try:\n    import numpy\nexcept ImportError:\n    numpy = None", Import("numpy")),
        ("with bentoml.importing():\n    import numpy", Import("numpy")),
        ("class Iris:\n    import numpy", Import("numpy")),
        ("if True:\n    pass\nelse:\n    import numpy", Import("numpy")),
    ],
)
def test_a_known_package_that_a_module_imports_while_it_loads_is_shared(
    project: Path, statement: str, expected: Import
) -> None:
    assert read(project, {"service.py": statement}).shared == [expected]


@pytest.mark.parametrize(
    "statement",
    [
        "import json",
        "import bentoml",
        "import not_installed_anywhere",
        "def load():\n    import numpy",
        "async def load():\n    import numpy",
        "if TYPE_CHECKING:\n    import numpy",
        "if typing.TYPE_CHECKING:\n    import numpy",
        "from . import numpy",
        "import numpy is no Python",
    ],
)
def test_what_loads_nothing_of_a_package_is_not(project: Path, statement: str) -> None:
    assert read(project, {"service.py": statement}) == SharedImports()


def test_a_package_that_is_not_known_to_survive_a_fork_is_named(project: Path) -> None:
    found = read(project, {"service.py": "import pytest, numpy\nfrom pytest import raises"})

    assert found == SharedImports([Import("numpy")], ["pytest"])


def test_modules_of_the_project_are_followed(project: Path) -> None:
    found = read(
        project,
        {
            "service.py": "from models import load\nimport steps.resize",
            "models/__init__.py": "from .weights import read\nfrom . import labels",
            "models/weights.py": "import torch\nfrom ..outside import nothing",
            "models/labels.py": "import yaml\nimport service",
            "src/steps/resize.py": "import cv2",
        },
    )

    assert [statement.module for statement in found.shared] == ["torch", "yaml", "cv2"]


def test_a_module_of_the_project_hides_an_installed_one(project: Path) -> None:
    assert read(project, {"service.py": "import cv2, numpy", "cv2.py": ""}).shared == [Import("numpy")]


def test_what_is_absent_from_the_image_is_not_shared(project: Path) -> None:
    files = {"service.py": "import torch, numpy"}

    assert read(project, files, absent=frozenset({"torch"})).shared == [Import("numpy")]


def test_nothing_of_the_project_is_run(project: Path) -> None:
    read(project, {"service.py": "import models\nraise SystemExit", "models.py": "raise SystemExit"})
