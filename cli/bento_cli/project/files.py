"""Which files of a project belong to its Bento."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pathspec

from bento_cli.errors import InputError, Problem
from bento_cli.project.bentofile import FILE_NAME, Bentofile
from bento_cli.yaml_file import read_text

IGNORE_FILE = ".bentoignore"
_NEVER = (
    ".env",
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

    Raises:
        InputError: a `.bentoignore` holds what is no pattern, or a folder cannot be read.
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
        rules = [*rules, (folder, _ignore_rules(own))]
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError([Problem(folder, None, f"cannot be read: {error.strerror}")]) from None
    for entry in entries:
        path = Path(entry.path)
        suffix = "/" if entry.is_dir(follow_symlinks=False) else ""
        if entry.is_symlink() or _is_ignored(path, suffix, rules):
            continue
        if suffix:
            # Asked before going down: these folders may hold tens of thousands of files.
            if f"{entry.name}/" not in _NEVER:
                yield from _walk(root, path, rules)
        elif entry.is_file(follow_symlinks=False):
            yield path.relative_to(root)


def _ignore_rules(path: Path) -> pathspec.GitIgnoreSpec:
    problems = []
    lines = read_text(path).splitlines()
    for number, line in enumerate(lines, 1):
        try:
            pathspec.GitIgnoreSpec.from_lines([line])
        except ValueError:
            problems.append(Problem(path, number, f"{line!r} is no pattern as in a .gitignore"))
    if problems:
        raise InputError(problems)
    return pathspec.GitIgnoreSpec.from_lines(lines)


def _is_ignored(path: Path, suffix: str, rules: list[tuple[Path, pathspec.GitIgnoreSpec]]) -> bool:
    """Whether the rules leave a path out; those of the innermost folder that says something win."""
    for base, spec in reversed(rules):
        said = spec.check_file(f"{path.relative_to(base).as_posix()}{suffix}").include
        if said is not None:
            return said
    return False
