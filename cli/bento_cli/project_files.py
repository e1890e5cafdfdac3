"""Which files of a project belong to its Bento."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pathspec

from bento_cli.bentofile import FILE_NAME, Bentofile

IGNORE_FILE = ".bentoignore"
_NEVER = (
    ".git/",
    ".venv/",
    "venv/",
    "__pycache__/",
    ".DS_Store",
    ".mypy_cache/",
    ".pytest_cache/",
    ".ruff_cache/",
)


def project_files(root: Path, bentofile: Bentofile) -> list[Path]:
    """Paths below `root`, relative to it and sorted, that `include` and no ignore rule match.

    `.bentoignore` files hold gitignore rules for their own folder and what is below it. Links are left
    out: what they lead to may be anywhere.
    """
    include = pathspec.GitIgnoreSpec.from_lines(bentofile.include)
    exclude = pathspec.GitIgnoreSpec.from_lines((*_NEVER, *bentofile.exclude))
    found = [
        path for path in _walk(root, root, []) if include.match_file(path) and not exclude.match_file(path)
    ]
    if (root / FILE_NAME).is_file() and Path(FILE_NAME) not in found:
        found.append(Path(FILE_NAME))
    return sorted(found)


def _walk(root: Path, folder: Path, rules: list[tuple[Path, pathspec.GitIgnoreSpec]]) -> Iterator[Path]:
    own = folder / IGNORE_FILE
    if own.is_file():
        rules = [
            *rules,
            (folder, pathspec.GitIgnoreSpec.from_lines(own.read_text(encoding="utf-8").splitlines())),
        ]
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        path = Path(entry.path)
        suffix = "/" if entry.is_dir(follow_symlinks=False) else ""
        if entry.is_symlink() or any(
            spec.match_file(f"{path.relative_to(base)}{suffix}") for base, spec in rules
        ):
            continue
        if suffix:
            # Asked before going down: these folders may hold tens of thousands of files.
            if f"{entry.name}/" not in _NEVER:
                yield from _walk(root, path, rules)
        elif entry.is_file(follow_symlinks=False):
            yield path.relative_to(root)
