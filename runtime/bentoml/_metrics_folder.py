"""The folder in which the workers of one replica count what `/metrics` adds up."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PREFIX: Final = "bentoml-metrics-"


@contextmanager
def metrics_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder that is this process's own until the block ends; one that a killed process left is removed.

    Args:
        parent: where it is made; where this machine keeps what is temporary when not given.
    """
    remove_left_metrics(parent)
    folder, lock = _new_metrics(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a worker that was killed late may still write to it
        os.close(lock)


def remove_left_metrics(parent: Path | None = None) -> None:
    """Remove the folders of metrics whose process has ended without doing so."""
    for folder in (parent or Path(tempfile.gettempdir())).glob(f"{_PREFIX}*"):
        lock = _locked(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _new_metrics(parent: Path | None) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        lock = _locked(folder)
        # Before it was locked, another process may have taken it for one that was left, and removed it.
        if lock is not None:
            if folder.exists():
                return folder, lock
            os.close(lock)


def _locked(folder: Path) -> int | None:
    """A descriptor that locks the folder until it is closed; None where that is another's, or it is gone.

    However a process ends, the kernel gives its locks back.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
