"""In what two revisions of a deployment differ, as their files say it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bento_cli.deploy.revisions import History, Revision

# Names of variables whose values are for few eyes: a difference is shown to more.
_SECRET: Final = re.compile(
    r"""^(?P<name>\s+["']?\w*(?:TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY)\w*["']?:\s*)"""
    r"(?P<value>\S.*)$",
    re.IGNORECASE,
)
_HIDDEN: Final = "********"


def difference(history: History, before: Revision, after: Revision, *, shows_secrets: bool = False) -> str:
    """A unified diff of all files of the two; empty where they are the same.

    Args:
        shows_secrets: the values of variables that are named like secrets; where they are hidden, those that
            differ have numbers.
    """
    old, new = history.folder_of(before.number), history.folder_of(after.number)
    masks: dict[str, str] | None = None if shows_secrets else {}
    lines: list[str] = []
    for name in sorted({*_files(old), *_files(new)}):
        lines += difflib.unified_diff(
            _lines(old / name, masks),
            _lines(new / name, masks),
            f"revision {before.number}: {name}",
            f"revision {after.number}: {name}",
            lineterm="",
        )
    return "\n".join(lines)


def _lines(path: Path, masks: dict[str, str] | None) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return lines if masks is None else [_masked(line, masks) for line in lines]


def _files(folder: Path) -> Iterator[str]:
    """The files that were rendered: neither what is written of the revision nor its secrets."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in ("revision.json", ".env"):
            yield name


def _masked(line: str, masks: dict[str, str]) -> str:
    """The line without a secret; `masks` is what stands for those that were met before."""
    match = _SECRET.match(line)
    if match is None:
        return line
    number = len(masks) + 1
    return match["name"] + masks.setdefault(match["value"], f"{_HIDDEN} ({number})")
