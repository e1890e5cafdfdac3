"""The models of this machine: `$BENTOML_HOME/models/<name>/<version>/`, whole folders that never change."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from bentoml.exceptions import BentoMLException, InvalidArgument, NotFound

MODEL_FILE: Final = "model.yaml"
_LATEST: Final = "latest"
_TAG: Final = re.compile(
    r"(?P<name>[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?)"
    r"(?::(?P<version>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?))?"
)
_VERSION_LENGTH: Final = 16
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, order=True)
class ModelTag:
    """`name:version` of a model; `version` is None for the latest one."""

    name: str
    version: str | None = None

    @classmethod
    def parse(cls, text: str) -> ModelTag:
        """The tag that a text is.

        Raises:
            ValueError: it is none.
        """
        found = _TAG.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r}: expected the tag of a model, `name` or `name:version`")
        version = found["version"]
        return cls(found["name"], None if version == _LATEST else version)

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}:{self.version}"


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What is said of a model, in its `model.yaml`.

    Args:
        module: what it was saved with, such as `bentoml.sklearn`.
        creation_time: as ISO 8601.
        digest: stands for all of its files.
    """

    name: str
    version: str
    module: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    signatures: Mapping[str, Any] = field(default_factory=dict)
    creation_time: str = ""
    digest: str = ""

    @property
    def tag(self) -> ModelTag:
        return ModelTag(self.name, self.version)

    @property
    def is_named(self) -> bool:
        """Whether name and version are such as a folder can have."""
        return _TAG.fullmatch(f"{self.name}:{self.version}") is not None

    def with_said(self, said: object) -> ModelInfo:
        """What a `model.yaml` says over this; what it says in another form is left out."""
        if not isinstance(said, dict):
            return self
        own = asdict(self)
        return replace(self, **{key: said[key] for key in own if type(said.get(key)) is type(own[key])})


class StoredModel(os.PathLike[str]):
    """A model in its folder; it is one wherever a path is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def path(self) -> str:
        """The folder of its files."""
        return str(self._folder)

    def path_of(self, item: str) -> str:
        """The path of one of its files."""
        return str(self._folder / item)

    @property
    def info(self) -> ModelInfo:
        """What is said of it; no more than its tag where another tool wrote that, as YAML."""
        return _read_info(self._folder)

    @property
    def tag(self) -> ModelTag:
        return self.info.tag

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"StoredModel({str(self.tag)!r}, path={self.path!r})"


class ModelStore:
    """Models by tag. A version is there as a whole or not at all."""

    def __init__(self, home: Path | None = None) -> None:
        self._home = home or Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml")
        self.folder = self._home / "models"

    def get(self, tag: str | ModelTag) -> StoredModel:
        """The model of `name`, `name:latest`, `name:version` or the beginning of a version.

        Raises:
            NotFound: there is none, or several versions begin like that.
            ValueError: it is no tag.
        """
        wanted = tag if isinstance(tag, ModelTag) else ModelTag.parse(tag)
        versions = self._versions(wanted.name)
        if wanted.version is None:
            latest = _read_latest(self.folder / wanted.name)
            found = [latest] if latest in versions else self._newest(wanted.name, versions)[:1]
        else:
            exact = [version for version in versions if version == wanted.version]
            found = exact or [version for version in versions if version.startswith(wanted.version)]
        if len(found) != 1:
            what = f"{len(found)} models begin like" if found else "no model"
            raise NotFound(
                f"{what} '{tag}' in {self.folder}; `bento models list` shows what is there, "
                "and BENTOML_HOME names another store"
            )
        return StoredModel(self.folder / wanted.name / found[0])

    def models(self, name: str | None = None) -> list[StoredModel]:
        """All models, or those of one name, the newest first."""
        names = [name] if name else self._names()
        found = [StoredModel(self.folder / n / version) for n in names for version in self._versions(n)]
        return sorted(found, key=lambda model: (model.info.creation_time, model.path), reverse=True)

    @contextmanager
    def creating(self, info: ModelInfo) -> Iterator[StoredModel]:
        """A folder to put a model's files into; it is in the store when the block ends without an error.

        Raises:
            BentoMLException: the version is there already, or its files cannot be kept.
        """
        with self.workspace() as folder:
            _write_info(folder, info)
            model = StoredModel(folder)
            yield model
            model._folder = Path(self.add(folder, info))

    def delete(self, tag: str | ModelTag) -> None:
        """Remove a model; out of sight first, so that nobody finds half of it.

        Raises:
            NotFound: there is none.
        """
        model = self.get(tag)
        found = model.tag
        with self.workspace() as folder:
            Path(model).rename(folder / "deleted")
        if _read_latest(self.folder / found.name) == found.version:
            self._mark_latest(found.name, self._newest(found.name, self._versions(found.name)))
        with suppress(OSError):  # other versions, or another process that is adding one
            (self.folder / found.name).rmdir()

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """An empty folder on the store's file system, gone afterwards.

        Its maker holds a lock on it, as on those of Bentos beside it: `bento build` removes the others.
        """
        temporary = self._home / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            with _locked(temporary):
                path = Path(tempfile.mkdtemp(dir=temporary))
                held.enter_context(_locked(path))
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)

    def add(self, folder: Path, info: ModelInfo) -> StoredModel:
        """Move a finished folder into the store, where that version is not there with the same files already.

        Raises:
            BentoMLException: it is there with others, or these cannot be kept.
        """
        info = replace(info, digest=files_digest(folder), creation_time=info.creation_time or _now())
        _write_info(folder, info)
        for path in folder.rglob("*"):
            # What a container's own user can read, whatever the umask of whoever made it.
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        folder.chmod(0o755)
        target = self.folder / info.name / info.version
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            if _read_info(target).digest != info.digest:
                raise BentoMLException(
                    f"{info.tag} is in the store with other files; `bento models delete {info.tag}` first, "
                    "or choose another version"
                ) from None
        self._mark_latest(info.name, [info.version])
        return StoredModel(target)

    def _names(self) -> list[str]:
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        return sorted(name for name in names if _TAG.fullmatch(name))

    def _versions(self, name: str) -> list[str]:
        folder = self.folder / name
        if not folder.is_dir():
            return []
        return sorted(
            path.name for path in folder.iterdir() if path.is_dir() and _TAG.fullmatch(f"x:{path.name}")
        )

    def _newest(self, name: str, versions: list[str]) -> list[str]:
        infos = [_read_info(self.folder / name / version) for version in versions]
        return [info.version for info in sorted(infos, key=lambda info: info.creation_time, reverse=True)]

    def _mark_latest(self, name: str, versions: list[str]) -> None:
        """Write down the first of some versions as the latest; with none there is no latest."""
        file = self.folder / name / _LATEST
        if not versions:
            file.unlink(missing_ok=True)
            return
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=".latest")
        with os.fdopen(descriptor, "w", encoding="utf-8") as text:
            text.write(versions[0] + "\n")
        Path(temporary).replace(file)


def new_version() -> str:
    """A version that no other model has, later ones after earlier ones of the same machine as a rule."""
    return base64.b32encode(uuid.uuid1().bytes).decode().lower()[:_VERSION_LENGTH]


def files_digest(folder: Path) -> str:
    """What stands for all files of a model, without what is said of it.

    Raises:
        BentoMLException: it holds a link, a device or the like, which no other machine has.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            if name != MODEL_FILE:
                digest.update(f"{name}\0{_file_digest(path)}\n".encode("utf-8", "surrogateescape"))
        elif not stat.S_ISDIR(mode):
            raise BentoMLException(f"{name} of the model is neither a file nor a folder")
    return f"sha256:{digest.hexdigest()}"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system that knows no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _read_info(folder: Path) -> ModelInfo:
    own = ModelInfo(name=folder.parent.name, version=folder.name)
    try:
        said = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return own
    info = own.with_said(said)
    return info if info.is_named else own


def _write_info(folder: Path, info: ModelInfo) -> None:
    try:
        # JSON is YAML too.
        text = json.dumps(asdict(info), indent=2)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"what is said of {info.tag} cannot be written: {error}") from None
    (folder / MODEL_FILE).write_text(text + "\n", encoding="utf-8")


def _read_latest(folder: Path) -> str:
    try:
        return (folder / _LATEST).read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
