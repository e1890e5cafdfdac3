"""What is installed, and that the runtime works without the rest."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from bento_cli.requirements import runtime_requirements
from bentoml import __version__
from bentoml._requirements import RUNTIME_REQUIREMENTS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "bento_cli",
        "bento_templates",
        "bentoml",
    }


@pytest.mark.parametrize(
    "path",
    [
        "bento_cli/data/images.json",
        "bento_templates/docker/Dockerfile.j2",
        "bentoml/py.typed",
        "bentoml/_serving/page/docs.js",
    ],
)
def test_the_wheel_holds_what_is_not_python(wheel: zipfile.ZipFile, path: str) -> None:
    assert path in wheel.namelist()


def test_the_versions_agree() -> None:
    assert metadata.version("bento-toolchain") == __version__


def test_every_requirement_of_the_runtime_has_its_range_in_the_metadata() -> None:
    assert len(runtime_requirements()) == len(RUNTIME_REQUIREMENTS)


def test_the_runtime_serves_without_the_toolchain(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """An image holds the package `bentoml` alone; what it imports must not reach beyond."""
    for name in wheel.namelist():
        if name.startswith("bentoml/"):
            wheel.extract(name, tmp_path)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in sys.argv[2:]:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import bentoml, bentoml.__main__, bentoml._probe\n"
        "import bentoml._process.worker, bentoml._process.describe\n"
        "print(bentoml.__file__)"
    )

    toolchain = ["bento_cli", "bento_templates", "docker", "jinja2", "rich", "typer", "yaml"]

    command = [sys.executable, "-c", program, str(tmp_path), *toolchain]
    result = subprocess.run(command, capture_output=True, text=True, check=True)

    assert result.stdout.strip() == str(tmp_path / "bentoml" / "__init__.py")
