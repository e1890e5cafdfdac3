"""Small projects, written by the test that needs them."""

from __future__ import annotations

import hashlib
import os
import textwrap
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bento_cli.errors import InputError, Problem
from bento_cli.project.bentofile import Bentofile, read_bentofile
from bento_cli.project.discovery import Discovery, discover
from bento_cli.project.slicing import Slice, slice_service
from bento_cli.project.source import Project
from bento_cli.requirements import runtime_requirements
from bento_cli.yaml_file import YamlFile, validate

PROJECTS = Path(__file__).parents[1] / "projects"
EXAMPLE = Path(__file__).parents[2] / "examples" / "controlnet"

Files = Mapping[str, str]
WriteProject = Callable[[Files], Path]
Discover = Callable[..., Discovery]
Problems = Callable[..., list[str]]
SliceOf = Callable[..., Slice]
BentofileProblems = Callable[[str], list[str]]
AddWheel = Callable[..., str]

RUNTIME = sorted(Requirement(line).name for line in runtime_requirements())


def load_bentofile(root: Path) -> tuple[Bentofile, YamlFile]:
    """The bentofile in a folder, checked, and the file that it is from."""
    file = read_bentofile(root)
    return validate(file, Bentofile), file


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteProject:
    """`project({"service.py": "..."})`: a folder with these files, which is the current one from then on."""
    root = tmp_path / "project"

    def write(files: Files) -> Path:
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        monkeypatch.chdir(root)
        return root

    return write


@pytest.fixture
def discovered(project: WriteProject) -> Discover:
    """`discovered({"service.py": "..."}, "service:Entry")`: what is found in such a project."""

    def find(files: Files, service: str = "service:Entry") -> Discovery:
        root = project(files)
        return discover(Project(root), service, lambda message: Problem(root / "bentofile.yaml", 1, message))

    return find


@pytest.fixture
def problems(discovered: Discover) -> Problems:
    """`problems({"service.py": "..."})`: all that is wrong with such a project's services."""

    def find(files: Files, service: str = "service:Entry") -> list[str]:
        with pytest.raises(InputError) as caught:
            discovered(files, service)
        return [str(problem) for problem in caught.value.problems]

    return find


@pytest.fixture
def sliced(discovered: Discover) -> SliceOf:
    """`sliced({"service.py": "..."}, "Entry")`: the slice of one service of such a project."""

    def slice_of(files: Files, service: str = "Entry", entry: str = "service:Entry") -> Slice:
        discovery = discovered(files, entry)
        return slice_service(Project(Path.cwd()), discovery, service)

    return slice_of


@pytest.fixture
def bentofile_problems(project: WriteProject) -> BentofileProblems:
    """All that is wrong with a bentofile of that text."""

    def find(text: str) -> list[str]:
        with pytest.raises(InputError) as caught:
            load_bentofile(project({"bentofile.yaml": text}))
        return [str(problem) for problem in caught.value.problems]

    return find


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, of which uv knows alone: nothing of this machine's settings."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


@pytest.fixture
def add_wheel(wheels: Path) -> AddWheel:
    """`add_wheel("numpy", "2.1", "six")`: there is such a wheel from then on, which needs six; its hash."""

    def write(name: str, version: str, *requires: str) -> str:
        path = wheels / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        with zipfile.ZipFile(path, "w") as archive:
            metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
            archive.writestr(f"{info}/METADATA", metadata)
            archive.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{info}/RECORD", "")
        return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"

    return write


@pytest.fixture
def runtime_wheels(add_wheel: AddWheel) -> None:
    """What the runtime needs is there, in versions that nobody else has."""
    for name in RUNTIME:
        add_wheel(name.replace("-", "_"), "99.0")


@pytest.fixture
def no_index(wheels: Path, runtime_wheels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever builds looks for packages among these wheels alone."""
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
