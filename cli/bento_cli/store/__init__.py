"""The local store of Bentos: `$BENTOML_HOME/bentos/<name>/<version>/`."""

from __future__ import annotations

import errno
import fcntl
import fnmatch
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from bento_cli.errors import BentoError, InputError, NotFoundError, shown
from bento_cli.store.bento import MANIFEST, Bento, Tag, as_tag, content_digest, files_of, load_bento

_LATEST: Final = "latest"
_NEW_LATEST: Final = ".latest"
_AT_ONCE: Final = 8
# What a file system says that knows no locks.
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def bentoml_home() -> Path:
    """Where everything of this user is kept: `$BENTOML_HOME`, else `~/bentoml`."""
    return Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml")


class Store:
    """Bentos by tag. A version is there as a whole or not at all, whoever is killed and when.

    A Bento is made in `$BENTOML_HOME/tmp`, in a folder that its maker has a lock on, and moved to its place
    in one step. Folders there that nobody has a lock on are what is left of processes that were killed.
    """

    def __init__(self, home: Path | None = None) -> None:
        self._home = home or bentoml_home()
        self._folder = self._home / "bentos"

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """An empty folder on the store's file system, gone afterwards unless it was added."""
        with self._locked() as folder:
            _sweep(folder)
            try:
                path = Path(tempfile.mkdtemp(dir=folder))
            except OSError as error:
                raise _unusable(folder, error) from None
            held = _hold(path)
        path.chmod(0o755)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            if held is not None:
                os.close(held)

    def add(self, path: Path) -> tuple[Bento, bool]:
        """Move a finished folder into the store; the second value is False when its version was there.

        A version of which the machine's end has lost something is replaced.

        Raises:
            BentoError: that version is there with another content.
        """
        new = load_bento(path)
        target = self._folder / new.tag.name / new.tag.version
        if not target.exists():
            _flush(path)
        with self._locked() as folder:
            there = _readable(target)
            if there is not None:
                if there.manifest.digest != new.manifest.digest:
                    hint = f"choose another version, or `bento delete {new.tag}` first"
                    raise BentoError(f"{new.tag} is in the store with another content", hint=hint)
                if there.manifest.digest == content_digest(target):
                    self._mark_latest(new.tag)
                    return there, False
            if target.exists():
                _flush(path)
                target.rename(tempfile.mkdtemp(dir=folder))
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
            self._mark_latest(new.tag)
        _flush_one(target.parent)
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
        bentos = []
        for path in (
            self._folder / n / v for n in ([name] if name else self._names()) for v in self._versions(n)
        ):
            with suppress(NotFoundError):  # deleted since its name was read
                bentos.append(load_bento(path))
        return sorted(bentos, key=lambda bento: bento.manifest.creation_time, reverse=True)

    def matching(self, text: str) -> list[Bento]:
        """The Bentos that a text means: a tag's one, all of a name, or those whose tag fits a pattern.

        Raises:
            NotFoundError: there is none.
        """
        if ":" in text and not set(text) & set("*?["):
            return [self.get(text)]
        pattern = text if ":" in text else f"{text}:*"
        bentos = [bento for bento in self.bentos() if fnmatch.fnmatchcase(str(bento.tag), pattern)]
        if not bentos:
            hint = "`bento list` shows what is there"
            raise NotFoundError(f"no Bento is called {text!r} in {shown(self._folder)}", hint=hint)
        return bentos

    def delete(self, bento: Bento) -> None:
        """Remove a Bento; out of sight first, so that nobody finds half of it."""
        folder = self._folder / bento.tag.name
        with self.workspace() as workspace, self._locked():
            try:
                bento.path.rename(workspace / "deleted")
            except FileNotFoundError:
                raise NotFoundError(f"no Bento '{bento.tag}' in {shown(self._folder)} any more") from None
            remaining = self.bentos(bento.tag.name)
            if not remaining:
                for name in (_LATEST, _NEW_LATEST):
                    (folder / name).unlink(missing_ok=True)
                with suppress(OSError):  # somebody keeps something else in it
                    folder.rmdir()
            elif _read_latest(folder) == bento.tag.version:
                self._mark_latest(remaining[0].tag)

    @contextmanager
    def _locked(self) -> Iterator[Path]:
        """The folder of what is being made, while no other process changes what is where."""
        folder = self._home / "tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder, os.O_RDONLY)
        except OSError as error:
            raise _unusable(folder, error) from None
        try:
            _take(lock, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(lock)

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
        # Of one name, because only who has the lock writes it.
        temporary = self._folder / tag.name / _NEW_LATEST
        temporary.write_text(tag.version + "\n", encoding="utf-8")
        temporary.replace(temporary.with_name(_LATEST))


def _readable(folder: Path) -> Bento | None:
    """The Bento in a folder, where there is one and its manifest is whole."""
    try:
        return load_bento(folder)
    except (NotFoundError, InputError):
        return None


def _unusable(folder: Path, error: OSError) -> BentoError:
    return BentoError(f"{folder}: {error.strerror}", hint="BENTOML_HOME chooses another folder")


def _read_latest(folder: Path) -> str:
    try:
        return (folder / _LATEST).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def _hold(path: Path) -> int | None:
    """A lock on a folder, which ends with this process at the latest; None when it is another's, or gone."""
    try:
        held = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    if _take(held, fcntl.LOCK_EX | fcntl.LOCK_NB):
        return held
    os.close(held)
    return None


def _take(file: int, kind: int) -> bool:
    """Whether the lock on an open file was to be had."""
    try:
        fcntl.flock(file, kind)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove what is left of processes that were killed: the folders that nobody holds."""
    for path in (path for path in folder.iterdir() if path.is_dir()):
        held = _hold(path)
        if held is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(held)


def _flush(folder: Path) -> None:
    """Wait until the disk has all of a folder, so that no end of this machine leaves a version in pieces."""
    paths = list(files_of(folder))
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        list(pool.map(_flush_one, [*paths, *sorted({path.parent for path in paths})]))


def _flush_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
