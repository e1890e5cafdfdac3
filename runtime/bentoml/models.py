"""Models as attributes of a service: `model = bentoml.models.HuggingFaceModel("org/name")`.

On an instance the attribute is the path of a local folder. It is looked up when it is first asked for, in
`__init__` as a rule; on the class it is the model itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, overload

from bentoml.exceptions import MissingDependencyException, NotFound

_TAG: Final = re.compile(r"(?P<name>[a-z0-9][a-z0-9._-]*)(?::(?P<version>[A-Za-z0-9][A-Za-z0-9._-]*))?")


class Model:
    """What stands in the class: which model, not yet where it is."""

    def __init__(self) -> None:
        self._attribute: str | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self._attribute = name

    @overload
    def __get__(self, instance: None, owner: type) -> Model: ...

    @overload
    def __get__(self, instance: object, owner: type) -> str: ...

    def __get__(self, instance: object | None, owner: type) -> Model | str:
        if instance is None:
            return self
        path = self.resolve()
        if self._attribute is not None:
            # From then on the attribute is found in the instance.
            vars(instance)[self._attribute] = path
        return path

    def resolve(self) -> str:
        """The local folder that holds the model, which is brought there first where need be."""
        raise NotImplementedError


class HuggingFaceModel(Model):
    """A model of the Hugging Face hub, downloaded once into the cache of `huggingface_hub`.

    `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE` and the others of that package's variables have their meaning.
    """

    def __init__(
        self,
        model_id: str,
        revision: str = "main",
        endpoint: str | None = None,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
    ) -> None:
        """Name it; nothing is downloaded yet.

        Args:
            revision: a branch, a tag or a commit; only a commit stays the same for ever.
            endpoint: of a mirror of the hub.
            include: patterns of the files to have, all when not given.
            exclude: patterns of the files to leave out.
        """
        super().__init__()
        self.model_id = model_id
        self.revision = revision
        self.endpoint = endpoint
        self.include = None if include is None else list(include)
        self.exclude = None if exclude is None else list(exclude)

    def resolve(self) -> str:
        """The folder of the model's files.

        Raises:
            MissingDependencyException: `huggingface_hub` is not installed.
            OSError: it is neither in the cache nor to be had from the hub.
        """
        try:
            from huggingface_hub import snapshot_download
        except ImportError:
            raise MissingDependencyException(
                f"{self!r} needs the package `huggingface_hub`; add it to `python.packages` of bentofile.yaml"
            ) from None
        return snapshot_download(
            self.model_id,
            revision=self.revision,
            endpoint=self.endpoint,
            allow_patterns=self.include,
            ignore_patterns=self.exclude,
        )

    def __repr__(self) -> str:
        return f"HuggingFaceModel({self.model_id!r}, revision={self.revision!r})"


class BentoModel(Model):
    """A model of this machine's own store, `$BENTOML_HOME/models/<name>/<version>/`.

    A Bento does not hold it: where one runs, the store is a volume that somebody has mounted.
    """

    def __init__(self, tag: str) -> None:
        """Name it.

        Args:
            tag: `name:version`, or `name` for the latest one.

        Raises:
            ValueError: it is no tag.
        """
        super().__init__()
        found = _TAG.fullmatch(tag)
        if found is None:
            raise ValueError(f"{tag!r}: expected the tag of a model, `name` or `name:version`")
        self.tag = tag
        self._name, self._version = found["name"], found["version"] or "latest"

    def resolve(self) -> str:
        """The folder of the model's files.

        Raises:
            NotFound: the store does not hold it.
        """
        store = Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml") / "models" / self._name
        version = self._version
        # A file of the store names the latest one.
        if version == "latest" and (store / version).is_file():
            version = (store / version).read_text(encoding="utf-8").strip()
        is_version = _TAG.fullmatch(f"{self._name}:{version}") is not None
        if not is_version or not (store / version).is_dir():
            raise NotFound(f"no model {self.tag!r} in {store.parent}; BENTOML_HOME names another store")
        return str(store / version)

    def __repr__(self) -> str:
        return f"BentoModel({self.tag!r})"


def __getattr__(name: str) -> Any:
    hint = "" if name.startswith("_") else ": models are not saved here; files are loaded from where they are"
    raise AttributeError(f"module 'bentoml.models' has no attribute {name!r}{hint}")
