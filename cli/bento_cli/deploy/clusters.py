"""Clusters: the named places that have deployments, kept in `$BENTOML_HOME/clusters.yaml`."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import yaml
from pydantic import AfterValidator, Field

from bento_cli.deploy.instance_types import InstanceType
from bento_cli.errors import BentoError, NotFoundError, nearest
from bento_cli.store import bentoml_home
from bento_cli.yaml_file import FileModel, load_yaml, validate

FILE_NAME: Final = "clusters.yaml"

# The engine that `docker` reaches by itself: the one cluster that is always there.
DEFAULT: Final = "default"


def cluster_name(text: str) -> str:
    """A name that a folder and a variable can have.

    Raises:
        ValueError: it is none.
    """
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", text) is None:
        raise ValueError(f"{text!r} is no name of a cluster: use letters, digits, `-` and `_`")
    return text


def registry_name(text: str) -> str:
    """Where images can be pushed to: a host, with the beginning of a repository if wanted.

    Raises:
        ValueError: it is none.
    """
    if re.fullmatch(r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-][a-z0-9]+)*)*", text) is None:
        raise ValueError(f"{text!r} is no registry, such as `registry.example:5000/team`")
    return text


class Cluster(FileModel):
    """One place.

    Args:
        docker_context: of the `docker` command, which knows how its engine is reached; the current one when
            not given.
        registry: through which images travel there; without one they are built on its engine.
        instance_types: that it has, over the documented ones.
    """

    docker_context: str | None = None
    registry: Annotated[str, AfterValidator(registry_name)] | None = None
    instance_types: dict[str, InstanceType] = Field(default={})


class _File(FileModel):
    current: str | None = None
    clusters: dict[Annotated[str, AfterValidator(cluster_name)], Cluster] = Field(default={})


class Clusters:
    """Those that this user knows.

    Args:
        home: `$BENTOML_HOME` when not given.
    """

    def __init__(self, home: Path | None = None) -> None:
        self._home = home or bentoml_home()
        self._path = self._home / FILE_NAME

    def all(self) -> dict[str, Cluster]:
        """All of them by name, the one that is always there first.

        Raises:
            InputError: everything that is wrong with the file.
        """
        return {DEFAULT: Cluster(), **self._read().clusters}

    @property
    def current(self) -> str:
        """The one that is meant where nobody names one."""
        return self._read().current or DEFAULT

    def get(self, name: str) -> Cluster:
        """The cluster of that name.

        Raises:
            NotFoundError: there is none.
        """
        clusters = self.all()
        if name not in clusters:
            raise NotFoundError(
                f"no cluster {name!r}{nearest(name, clusters, 'clusters')}",
                hint=f"bento cluster add {name} --docker-context CONTEXT",
            )
        return clusters[name]

    def home_of(self, name: str) -> Path:
        """The folder that holds what is kept of a cluster's deployments."""
        return self._home if name == DEFAULT else self._home / "clusters" / name

    def add(self, name: str, cluster: Cluster) -> None:
        """Keep a cluster, or what is said of one now.

        Raises:
            BentoError: that is no name which it can have.
        """
        try:
            cluster_name(name)
        except ValueError as error:
            raise BentoError(str(error)) from None
        if name == DEFAULT:
            raise BentoError(
                f"the cluster {DEFAULT!r} is always the engine that `docker` reaches by itself",
                hint="choose another name; `bento cluster use NAME` makes it the one that is meant",
            )
        file = self._read()
        self._write(file.model_copy(update={"clusters": {**file.clusters, name: cluster}}))

    def use(self, name: str) -> None:
        """Have it meant where nobody names one.

        Raises:
            NotFoundError: there is none.
        """
        self.get(name)
        self._write(self._read().model_copy(update={"current": None if name == DEFAULT else name}))

    def remove(self, name: str) -> None:
        """Forget a cluster; what runs there runs on.

        Raises:
            NotFoundError: there is none.
            BentoError: it is the one that is always there.
        """
        self.get(name)
        if name == DEFAULT:
            raise BentoError(f"the cluster {DEFAULT!r} is always there")
        file = self._read()
        others = {other: cluster for other, cluster in file.clusters.items() if other != name}
        current = None if file.current == name else file.current
        self._write(_File(current=current, clusters=others))

    def _read(self) -> _File:
        if not self._path.exists():
            return _File()
        return validate(load_yaml(self._path), _File)

    def _write(self, file: _File) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(file.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
        descriptor, temporary = tempfile.mkstemp(dir=self._home, prefix=f".{FILE_NAME}-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as written:
            written.write(text)
        Path(temporary).replace(self._path)


class _InstanceTypes(FileModel):
    instance_types: dict[str, InstanceType]


def load_instance_types(path: Path) -> Mapping[str, InstanceType]:
    """The instance types of a file: `instance_types:`, and below it each by its name.

    Raises:
        NotFoundError: there is no such file.
        InputError: everything that is wrong with it.
    """
    return validate(load_yaml(path), _InstanceTypes).instance_types
