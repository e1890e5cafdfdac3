"""A file as it arrives in a request."""

from __future__ import annotations

import io
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A part of a form, or a whole body, that is a file.

    Args:
        name: what the sender calls it; nothing to be trusted.
        content_type: what the sender says it is, without parameters.
    """

    file: BinaryIO
    name: str | None = None
    content_type: str | None = None

    @classmethod
    def of(
        cls, data: bytes | bytearray, *, name: str | None = None, content_type: str | None = None
    ) -> Upload:
        """An upload of bytes in memory."""
        return cls(file=io.BytesIO(data), name=name, content_type=content_type)

    def read(self) -> bytes:
        """All of it."""
        self.file.seek(0)
        return self.file.read()

    def save(self, folder: str) -> Path:
        """Write it into a folder, under a name that ends like the sender's."""
        # A new name with the old ending: what the sender chose never becomes part of a path.
        ending = re.search(r"[A-Za-z0-9_-]*(\.[A-Za-z0-9]{1,16}){0,2}$", Path(self.name or "").name)
        path = Path(folder) / f"{os.urandom(6).hex()}-{ending[0] if ending else ''}"
        self.file.seek(0)
        with path.open("xb") as target:
            shutil.copyfileobj(self.file, target)
        return path
