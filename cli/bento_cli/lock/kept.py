"""Locks that were made before: a question that was asked once has the same answer ever after."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from bento_cli.errors import BentoError
from bento_cli.lock import Question, Resolver

_FORMAT: Final = 1  # of what is kept; another one makes all locks anew
# Settings of uv that say who somebody is or how fast uv works, and not what it finds.
_WITHOUT_EFFECT: Final = ("_USERNAME", "_PASSWORD", "_TOKEN", "_DIR", "_TIMEOUT", "_RETRIES", "_PROGRESS")


class KeptLocks:
    """Answers of a resolver, one file for each question; a file is there as a whole or not at all.

    Args:
        is_renewed: whether everything is asked again, for versions that appeared since.
    """

    def __init__(self, folder: Path, resolver: Resolver, *, is_renewed: bool = False) -> None:
        self._folder = folder
        self._resolver = resolver
        self._is_renewed = is_renewed

    def resolve(self, question: Question) -> str:
        """The answer that is kept, else the resolver's, which is kept from then on."""
        return self._kept(asdict(question), lambda: self._resolver.resolve(question))

    def exported(self, project: Path) -> str:
        """The same for the `uv.lock` of a project."""
        files = [project / "uv.lock", project / "pyproject.toml"]
        return self._kept({"files": list(map(_digest, files))}, lambda: self._resolver.exported(project))

    def _kept(self, asked: dict[str, object], answer: Callable[[], str]) -> str:
        path = self._folder / f"{_key(asked)}.txt"
        if not self._is_renewed:
            try:
                return path.read_text(encoding="utf-8")
            except FileNotFoundError:
                pass
        text = answer()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=".lock")
        except OSError as error:
            hint = "BENTOML_HOME chooses another folder"
            raise BentoError(f"{self._folder}: {error.strerror}", hint=hint) from None
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
        return text


def _key(asked: dict[str, object]) -> str:
    settings = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("UV_") and not name.endswith(_WITHOUT_EFFECT)
    }
    text = json.dumps([_FORMAT, asked, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
