"""Files: a path travels as what stands there, and arrives in a folder of the receiver's."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Final

import ormsgpack

from bentoml.codec._extensions import Code, Sender, extension
from bentoml.exceptions import BadInput

Directory = str | PathLike[str] | Callable[[], str | PathLike[str]]

# What the sender calls a file never becomes part of a path; how the name ends may tell of its format.
_ENDING: Final = re.compile(r"[A-Za-z0-9_-]{0,64}(?:\.[A-Za-z0-9]{1,16}){0,2}\Z")


def encode_file(sender: Sender, path: Path) -> ormsgpack.Ext:
    return extension(Code.FILE, [path.name, sender.put(path.read_bytes())])


class Arrivals:
    """The files of one frame, which are written only when all of it has been read.

    Args:
        directory: where they are to be, or a function that is asked when the first one comes.
    """

    def __init__(self, directory: Directory | None) -> None:
        self._directory = directory
        self._folder: Path | None = None
        self._files: list[tuple[Path, memoryview]] = []

    def path_for(self, name: str, data: memoryview) -> Path:
        """Where the file will be."""
        if self._directory is None:
            raise BadInput("frame: a file, and there is no folder for it here")
        if self._folder is None:
            self._folder = Path(self._directory() if callable(self._directory) else self._directory)
        ending = _ENDING.search(name)
        path = self._folder / f"{secrets.token_hex(6)}-{ending[0] if ending else ''}"
        self._files.append((path, data))
        return path

    def write(self) -> None:
        for path, data in self._files:
            with path.open("xb") as file:
                file.write(data)
