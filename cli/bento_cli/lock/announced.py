"""A resolver that says when it is asked, as an answer may take a while."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bento_cli.lock import Question, Resolver


class Announced:
    """Says so once, before the first question."""

    def __init__(self, resolver: Resolver, say: Callable[[], None]) -> None:
        self._resolver = resolver
        self._waiting = [say]

    def resolve(self, question: Question) -> str:
        """What the resolver answers."""
        while self._waiting:
            self._waiting.pop()()
        return self._resolver.resolve(question)

    def exported(self, project: Path) -> str:
        """What the project holds already: nobody is asked."""
        return self._resolver.exported(project)
