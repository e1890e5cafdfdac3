"""What the toolchain raises for people to read, each with the exit code of its command.

BentoError              1   anything that a message explains
├── InputError          3   problems of files: each with its place, all at once
│   └── DiscoveryError      of the services in a project's modules
├── NotFoundError       4   a Bento, a project or a deployment that is not there
├── EngineError         5   no engine, or an engine that failed
│   └── EntryError          a deployment cannot be entered as it should be
└── NotHealthyError     6   a service that did not become ready

2 is left to the command line's own usage errors. A bug is none of these and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


class BentoError(Exception):
    """An error that a person can act on.

    Args:
        message: what happened and where.
        hint: what to type or change, when there is something.
        details: output of something that failed, shown below the message as it is.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, details: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a file; `line` and `column` count from 1, `None` is the whole file."""

    path: Path
    line: int | None
    message: str
    column: int | None = None

    def __str__(self) -> str:
        return f"{shown(self.path, self.line)}: {self.message}"


class InputError(BentoError):
    """Everything that is wrong with the files of a project, in the order of the files' lines."""

    exit_code = 3

    def __init__(self, problems: Iterable[Problem], *, hint: str | None = None) -> None:
        self.problems: Sequence[Problem] = sorted(problems, key=lambda p: (str(p.path), p.line or 0))
        super().__init__("\n".join(_with_source(problem) for problem in self.problems), hint=hint)


class NotFoundError(BentoError):
    """What a command was told to use does not exist."""

    exit_code = 4


class EngineError(BentoError):
    """The container engine is missing, or what it was asked for failed."""

    exit_code = 5


class EntryError(EngineError):
    """The entry of a deployment cannot be had as it is wanted: its port is in use, or it does not run."""


class NotHealthyError(BentoError):
    """Services were started, and one of them did not become ready."""

    exit_code = 6


def shown(path: Path, line: int | None = None) -> str:
    """A place in a file as people read it: relative to the current folder where it lies below it."""
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return str(path) if line is None else f"{path}:{line}"


def nearest(name: str, known: Iterable[str], what: str) -> str:
    """The end of a message about a name that is not known: the one that was meant, or all there are."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f", did you mean `{near[0]}`?" if near else f"; {what}: {', '.join(names) or 'none'}"


def _with_source(problem: Problem) -> str:
    """The problem, and below it the line it speaks of with a caret."""
    text = str(problem)
    if problem.line is None or problem.column is None:
        return text
    try:
        source = problem.path.read_text(encoding="utf-8", errors="replace").splitlines()[problem.line - 1]
    except (OSError, IndexError):
        return text
    indent = len(source) - len(source.lstrip())
    caret = " " * max(0, problem.column - 1 - indent) + "^"
    return f"{text}\n    {source.strip()}\n    {caret}"
