"""Forms in which pip takes a requirement, and the one that names its distribution."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)

# What an image's build looks at, where it finds the wheels of the project.
WHEELS_FOLDER: Final = "/build/wheels"

_REPOSITORY: Final = re.compile(r"(git|hg|svn|bzr)\+[a-z]+://\S+")
_ARCHIVE: Final = re.compile(r"https?://\S+")
_OWN_PROJECT: Final = re.compile(r"\.(\[[^\]]*\])?/?")
_LOCAL: Final = re.compile(r"(?:[\w.-]+(?:\[[^\]]*\])?\s*@\s*)?file:(.+)|(\.{0,2}/.*|[^@\s]+\.whl)")


def with_name(text: str) -> str:
    """A requirement as `name @ url` where it is a URL alone; others as they are.

    Raises:
        ValueError: it is one that no image can be made with, or that does not say its name.
    """
    requirement, marker = _without_marker(text)
    if _OWN_PROJECT.fullmatch(requirement):
        raise ValueError(
            f"{text!r}: the project itself is in every image; list what it requires, which are the "
            "`dependencies` of pyproject.toml where nothing else is listed, and `python.extras` of it"
        )
    if found := _REPOSITORY.fullmatch(requirement):
        if found[1] != "git":
            raise ValueError(f"{text!r}: images are made of repositories of git alone; name an archive of it")
        return f"{_name_of_repository(requirement)} @ {requirement}{marker}"
    if _ARCHIVE.fullmatch(requirement):
        return f"{_name_of_archive(requirement, text)} @ {requirement}{marker}"
    return text


def local_wheel(text: str, root: Path, folder: Path) -> tuple[str, Path] | None:
    """A wheel of the project as `name==version`, and where it is; None for a requirement of another form.

    Args:
        folder: what the path starts from.

    Raises:
        ValueError: it is no wheel, or none of the project.
    """
    requirement, marker = _without_marker(text)
    found = _LOCAL.fullmatch(requirement)
    if found is None or _OWN_PROJECT.fullmatch(requirement):
        return None
    path = (folder / unquote(urlsplit(found[1]).path if found[1] else found[2])).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ValueError(f"{text!r} leads out of the project, and no image can be made with it")
    if path.suffix != ".whl":
        raise ValueError(
            f"{text!r}: of the project's own files images take wheels; `uv build --wheel` makes one of a "
            "folder or an archive, and what only needs to be imported needs no requirement"
        )
    if not path.is_file():
        raise ValueError(f"{text!r}: there is no such file")
    try:
        name, version, _, _ = parse_wheel_filename(path.name)
    except InvalidWheelFilename:
        message = f"{text!r}: expected the name of a wheel, such as `mine-1.0-py3-none-any.whl`"
        raise ValueError(message) from None
    return f"{name}=={version}{marker}", path.relative_to(root.resolve())


def is_wheel(file: str) -> bool:
    """Whether a file is called as wheels are."""
    try:
        parse_wheel_filename(file)
    except InvalidWheelFilename:
        return False
    return True


def build_packages(requirements: Iterable[str]) -> tuple[str, ...]:
    """Packages of Debian that these are installed with."""
    return ("git",) if any(re.search(r"@\s*git\+", line) for line in requirements) else ()


def _without_marker(text: str) -> tuple[str, str]:
    requirement, semicolon, marker = text.strip().partition(" ;")
    return requirement.strip(), f" ;{marker}" if semicolon else ""


def _name_of_repository(url: str) -> str:
    """What its fragment says, else what it is called; a resolver refuses a name that is not its own."""
    said = re.search(r"[#&]egg=([\w.-]+(?:\[[^\]]*\])?)", url)
    last = urlsplit(url).path.rstrip("/").rpartition("/")[2].partition("@")[0]
    return said[1] if said else last.removesuffix(".git")


def _name_of_archive(url: str, text: str) -> str:
    file = unquote(urlsplit(url).path.rpartition("/")[2])
    try:
        return parse_wheel_filename(file)[0] if file.endswith(".whl") else parse_sdist_filename(file)[0]
    except (InvalidWheelFilename, InvalidSdistFilename):
        raise ValueError(f"{text!r} does not say what it is: write `NAME @ {url}`") from None
