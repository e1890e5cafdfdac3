"""The local store of Bentos: `$BENTOML_HOME/bentos/<name>/<version>/`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from bento_cli.bento import MANIFEST, Bento, Tag, as_tag, load_bento
from bento_cli.errors import BentoError, NotFoundError, shown

_LATEST: Final = "latest"


def bentoml_home() -> Path:
    """Where everything of this user is kept: `$BENTOML_HOME`, else `~/bentoml`."""
    return Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml")


class Store:
    """Bentos by tag. A version is there as a whole or not at all."""

    def __init__(self, home: Path | None = None) -> None:
        self._home = home or bentoml_home()
        self._folder = self._home / "bentos"

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """An empty folder on the store's file system, gone afterwards unless it was added."""
        folder = self._home / "tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            hint = "BENTOML_HOME chooses another folder"
            raise BentoError(f"{folder}: {error.strerror}", hint=hint) from None
        path = Path(tempfile.mkdtemp(dir=folder))
        path.chmod(0o755)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def add(self, path: Path) -> tuple[Bento, bool]:
        """Move a finished folder into the store; the second value is False when its version was there.

        Raises:
            BentoError: that version is there with another content.
        """
        new = load_bento(path)
        target = self._folder / new.tag.name / new.tag.version
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.rename(target)
        except OSError:
            if not (target / MANIFEST).is_file():
                raise
            there = load_bento(target)
            if there.manifest.digest != new.manifest.digest:
                hint = f"choose another version, or `bento delete {new.tag}` first"
                raise BentoError(f"{new.tag} is in the store with another content", hint=hint) from None
            self._mark_latest(new.tag)
            return there, False
        self._mark_latest(new.tag)
        return Bento(target, new.manifest), True

    def get(self, text: str) -> Bento:
        """The Bento of `name`, `name:latest`, `name:version` or the beginning of a version.

        Raises:
            NotFoundError: there is none, or several versions begin like that.
        """
        parsed = as_tag(text)
        if parsed is None:
            raise NotFoundError(f"{text!r} is no tag of a Bento, such as `control_net:latest`")
        name, version = parsed
        if version is None:
            return load_bento(self._folder / name / self._latest(name))
        versions = [found for found in self._versions(name) if found == version] or [
            found for found in self._versions(name) if found.startswith(version)
        ]
        if len(versions) != 1:
            what = "no Bento" if not versions else f"{len(versions)} Bentos begin like"
            hint = "`bento list` shows what is there"
            raise NotFoundError(f"{what} {text!r} in {shown(self._folder)}", hint=hint)
        return load_bento(self._folder / name / versions[0])

    def bentos(self, name: str | None = None) -> list[Bento]:
        """All Bentos, or those of one name, the newest first."""
        names = [name] if name else self._names()
        bentos = [load_bento(self._folder / n / version) for n in names for version in self._versions(n)]
        return sorted(bentos, key=lambda bento: bento.manifest.creation_time, reverse=True)

    def delete(self, bento: Bento) -> None:
        """Remove a Bento; out of sight first, so that nobody finds half of it."""
        tag = bento.tag
        folder = self._folder / tag.name
        with self.workspace() as workspace:
            try:
                bento.path.rename(workspace / "deleted")
            except FileNotFoundError:
                raise NotFoundError(f"no Bento '{tag}' in {shown(self._folder)} any more") from None
        remaining = self.bentos(tag.name)
        if not remaining:
            (folder / _LATEST).unlink(missing_ok=True)
            with suppress(OSError):  # another process is adding one at this moment
                folder.rmdir()
        elif _read_latest(folder) == tag.version:
            self._mark_latest(remaining[0].tag)

    def _names(self) -> list[str]:
        return sorted(path.name for path in self._folder.iterdir()) if self._folder.is_dir() else []

    def _versions(self, name: str) -> list[str]:
        folder = self._folder / name
        if not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir() if (path / MANIFEST).is_file())

    def _latest(self, name: str) -> str:
        version = _read_latest(self._folder / name)
        if version in self._versions(name):
            return version
        bentos = self.bentos(name)
        if not bentos:
            hint = "`bento build PROJECT` makes one, `bento list` shows what is there"
            raise NotFoundError(f"no Bento {name!r} in {shown(self._folder)}", hint=hint)
        return bentos[0].tag.version

    def _mark_latest(self, tag: Tag) -> None:
        folder = self._folder / tag.name
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".latest")
        with os.fdopen(descriptor, "w") as file:
            file.write(tag.version + "\n")
        Path(temporary).replace(folder / _LATEST)


def _read_latest(folder: Path) -> str:
    try:
        return (folder / _LATEST).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
