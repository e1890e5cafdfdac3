"""What was deployed under a name: every revision with its files, and the secrets that they share."""

from __future__ import annotations

import datetime
import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bento_cli.deploy.spec import DeploymentSpec
from bento_cli.errors import BentoError, NotFoundError, shown
from bento_cli.store import bentoml_home
from bentoml._environment import DEPLOYMENT_SECRET

Status = Literal["applying", "active", "replaced", "failed"]

_ABOUT: Final = "revision.json"
_VARIABLES: Final = ".env"
_LOCK: Final = "lock"


class Revision(BaseModel):
    """One state that a deployment was to be in.

    Args:
        cause: what brought it about, as people say it.
        status: `applying` until all of it runs; `failed` where it did not come to.
        replicas: how many of each service there are to be.
        config: what the configuration file said.
        reason: why it failed.
        ran: whether all of it was ready once, whatever became of it.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    created: datetime.datetime
    cause: str
    status: Status
    spec: DeploymentSpec
    replicas: dict[str, int]
    config: dict[str, Any] = {}
    reason: str = ""
    ran: bool = False


class History:
    """The revisions of one deployment, in a folder of this machine."""

    def __init__(self, name: str, home: Path | None = None) -> None:
        self.name = name
        self.home = home or bentoml_home()
        self.folder = deployments_folder(home) / name
        self._revisions = self.folder / "revisions"

    @property
    def exists(self) -> bool:
        """Whether anything was deployed under the name."""
        return self._revisions.is_dir() and any(self._numbers())

    def folder_of(self, number: int) -> Path:
        """Where the files of a revision are."""
        return self._revisions / str(number)

    def all(self) -> list[Revision]:
        """Every revision, the oldest first."""
        return [self.get(number) for number in self._numbers()]

    def get(self, number: int) -> Revision:
        """One revision.

        Raises:
            NotFoundError: there is none of that number.
            BentoError: what is written of it cannot be read.
        """
        path = self.folder_of(number) / _ABOUT
        try:
            return Revision.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            known = ", ".join(map(str, self._numbers())) or "none"
            raise NotFoundError(f"{self.name} has no revision {number}; revisions: {known}") from None
        except ValidationError as error:
            raise BentoError(f"{shown(path)}: it is no revision as this version writes it: {error}") from None

    def last(self) -> Revision | None:
        """The newest revision, whatever became of it."""
        numbers = self._numbers()
        return self.get(numbers[-1]) if numbers else None

    def active(self) -> Revision | None:
        """The one that runs, or ran until another began to take its place."""
        newest = self.all()[::-1]
        active = next((revision for revision in newest if revision.status == "active"), None)
        # One that ran, and was to have other numbers of replicas when that was cut off, runs all the same.
        return active or next((r for r in newest if r.status == "applying" and r.ran), None)

    def add(self, revision: Revision, files: Mapping[str, str]) -> None:
        """Keep a revision with its files, all of it at once."""
        folder = self.folder_of(revision.number)
        # Readable for this user alone: the values of variables stand in these files.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        texts = {**files, _VARIABLES: self._variables(), _ABOUT: revision.model_dump_json(indent=2)}
        for name, text in texts.items():  # what it is comes last: until then it is not there
            (folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(folder / name, text)

    def note(self, revision: Revision, **changes: Any) -> Revision:
        """Keep what became of a revision."""
        changed = revision.model_copy(update=changes)
        _write(self.folder_of(revision.number) / _ABOUT, changed.model_dump_json(indent=2))
        return changed

    def forget(self) -> None:
        """Remove all that is kept of the deployment."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the deployment from this machine meanwhile.

        Raises:
            BentoError: somebody does, who is named.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise BentoError(
                    f"{self.name} is being changed by {holder}", hint="try again when that has ended"
                ) from None
            file.truncate(0)
            file.write(f"process {os.getpid()} since {datetime.datetime.now().astimezone():%H:%M:%S}")
            file.flush()
            yield
            file.truncate(0)

    def set_variable(self, name: str, value: str | None) -> None:
        """Keep a value that no rendered file holds, for the revisions from now on; None forgets it."""
        values = self.variables()
        values.pop(name, None)
        if value is not None:
            values[name] = value
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self.folder / _VARIABLES, "".join(f'{key}="{_quoted(v)}"\n' for key, v in values.items()))

    def variables(self) -> dict[str, str]:
        """Those values."""
        try:
            text = (self.folder / _VARIABLES).read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        pairs = re.findall(r'^([A-Z][A-Z0-9_]*)="((?:[^"\\]|\\.)*)"$', text, re.MULTILINE)
        return {key: re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], value) for key, value in pairs}

    def _variables(self) -> str:
        if DEPLOYMENT_SECRET not in self.variables():
            self.set_variable(DEPLOYMENT_SECRET, secrets.token_hex(32))
        return (self.folder / _VARIABLES).read_text(encoding="utf-8")

    def _numbers(self) -> list[int]:
        if not self._revisions.is_dir():
            return []
        folders = (path for path in self._revisions.iterdir() if path.name.isdigit())
        return sorted(int(path.name) for path in folders if (path / _ABOUT).is_file())


def deployments_folder(home: Path | None = None) -> Path:
    """Where the files of all deployments are kept."""
    return (home or bentoml_home()) / "deployments"


def deployed_names(home: Path | None = None) -> list[str]:
    """The deployments that this machine knows of."""
    folder = deployments_folder(home)
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [name for name in names if History(name, home).exists]


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("\n", "\\n")


def _write(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).replace(path)
