"""Where the tasks of a service are kept."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bentoml import _environment as environment
from bentoml._environment import RESULT_STORE
from bentoml._serving.tasks.redis_store import RedisTaskStore
from bentoml._serving.tasks.sqlite_store import SQLiteTaskStore
from bentoml._serving.tasks.store import RETENTION_S, TaskStore
from bentoml.exceptions import BentoMLConfigException

_HOME: Final = "BENTOML_HOME"
_REDIS: Final = ("redis://", "rediss://", "unix://")


def store_from(
    service: str, environ: Mapping[str, str] = os.environ, *, retention_s: float = RETENTION_S
) -> TaskStore:
    """The store that `BENTOML_RESULT_STORE` names; a file of this service alone where it names none.

    Raises:
        BentoMLConfigException: tasks cannot be kept there.
        MissingDependencyException: it is Redis, and the package for it is not installed.
    """
    place = environ.get(RESULT_STORE, "")
    if place.startswith(_REDIS):
        return RedisTaskStore(place, service=service, retention_s=retention_s)
    if "://" in place:
        scheme = place.partition("://")[0]
        raise BentoMLConfigException(
            f"{RESULT_STORE}: no store is known for `{scheme}://`, expected a file or {', '.join(_REDIS)}"
        )
    path = Path(place) if place else default_file(service, environ)
    if path.is_dir():
        example = path / "tasks.db"
        raise BentoMLConfigException(f"{RESULT_STORE}: {path} is a folder, expected a file such as {example}")
    return SQLiteTaskStore(path, service=service, retention_s=retention_s)


def default_file(service: str, environ: Mapping[str, str]) -> Path:
    """`$BENTOML_HOME/tasks/`, else a folder of this user in the one for temporary files, holds it.

    Its name is the same after a restart, and another for another project or port: two deployments of a
    service on one machine must not run each other's tasks.

    Raises:
        BentoMLConfigException: none can be made there, or others can reach what is in its place.
    """
    home = environ.get(_HOME)
    folder = Path(home) / "tasks" if home else _private_folder()
    project = Path(environ.get(environment.PROJECT) or Path.cwd()).resolve()
    deployment = f"{project}\n{environment.port(environ)}"
    digest = hashlib.sha256(deployment.encode()).hexdigest()[:12]
    return folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', service)}-{digest}.db"


def _private_folder() -> Path:
    """A folder that no other user made beforehand, or can look into."""
    user = os.getuid()
    try:
        folder = Path(tempfile.gettempdir()) / f"bentoml-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        message = f"no folder for tasks can be made: {error}; set {RESULT_STORE} to keep them elsewhere"
        raise BentoMLConfigException(message) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user or stat.S_IMODE(found.st_mode) & 0o077:
        raise BentoMLConfigException(
            f"{folder}: expected a folder of this user alone; set {RESULT_STORE} to keep tasks elsewhere"
        )
    return folder
