"""Versions of programs, as they print them."""

from __future__ import annotations

import re

from bento_cli.errors import EngineError

Version = tuple[int, int]


def version_in(text: str) -> Version | None:
    """The first version in what a program prints; None when there is none."""
    match = re.search(r"v?(\d+)\.(\d+)\.\d+", text)
    return (int(match[1]), int(match[2])) if match else None


def require_version(what: str, found: Version | None, least: Version, *, install: str) -> None:
    """Refuse a program that is missing or too old.

    Args:
        install: what to do where it is missing.

    Raises:
        EngineError: says which version is needed.
    """
    if found is None:
        raise EngineError(f"{what} is missing", hint=install)
    if found < least:
        texts = [".".join(map(str, version)) for version in (found, least)]
        raise EngineError(f"{what} {texts[0]} is too old, {texts[1]} is needed", hint=f"update {what}")
