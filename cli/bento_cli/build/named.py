"""Which project an argument of a command names, and which of its services."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bento_cli.errors import BentoError, NotFoundError
from bento_cli.project.bentofile import FILE_NAME, bentofile_for, is_service_string, read_bentofile
from bento_cli.project.pyproject import PYPROJECT
from bento_cli.project.source import Project
from bento_cli.store import Store
from bento_cli.yaml_file import YamlFile
from bentoml._loader import names_file, split_target
from bentoml.exceptions import ImportServiceError


@dataclass(frozen=True, kw_only=True)
class NamedProject:
    """A folder with modules, and what stands in it or on the command line of how it is built."""

    root: Path
    file: YamlFile


def find_project(text: str, *, folder: Path = Path()) -> NamedProject | None:
    """What a text names beside a Bento's tag: a project's folder, or a service; None where it is neither.

    Args:
        text: a folder or its bentofile; or `module:Class`, `path/file.py:Class` or `module`.
        folder: the project of which it names a service.

    Raises:
        NotFoundError: there is no such folder, or no project in it.
        BentoError: the file of a service is outside `folder`.
        InputError: its bentofile is no YAML, or its pyproject.toml no TOML.
    """
    path = Path(text)
    if is_service_string(text) and not path.is_dir() and (names_file(text) or _is_of(folder, text)):
        _require_inside(text, folder)
        return NamedProject(root=folder, file=bentofile_for(folder, text))
    if path.is_dir() or "/" in text or path.suffix in (".yaml", ".toml"):
        root = path.parent if path.name in (FILE_NAME, PYPROJECT) else path
        return NamedProject(root=root, file=read_bentofile(root))
    return None


def _is_of(folder: Path, text: str) -> bool:
    """Whether a text names a module there, and not a Bento: `iris:latest` may stand beside `iris.py`."""
    name, _, attribute = text.partition(":")
    module = Project(folder).module(name)
    if module is None:
        return False
    return not attribute or attribute.partition(".")[0] in module.bindings or not _is_bento(text)


def _is_bento(tag: str) -> bool:
    try:
        Store().get(tag)
    except NotFoundError:
        return False
    return True


def _require_inside(text: str, folder: Path) -> None:
    try:
        split_target(text, folder)
    except ImportServiceError as error:
        raise BentoError(
            f"service {error}", hint="go to the folder that its project's imports begin at"
        ) from None
