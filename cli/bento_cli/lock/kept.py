"""Locks that were made before: a question that was asked once has the same answer ever after."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Final

from bento_cli.errors import BentoError
from bento_cli.lock import Question, Resolver
from bento_cli.lock.settings import Settings

_FORMAT: Final = 2  # of what is kept; another one makes all locks anew


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
        path = self._folder / f"{self._key(asked)}.txt"
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

    def _key(self, asked: dict[str, object]) -> str:
        text = json.dumps([_FORMAT, asked, self._settings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def _settings(self) -> dict[str, str]:
        return Settings(os.environ).deciding()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
