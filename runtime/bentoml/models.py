"""Models: which ones a service holds, and the store of this machine.

    class Summarizer:
        weights = bentoml.models.HuggingFaceModel("org/name")     # the path of a folder, on an instance
        classifier = bentoml.models.BentoModel("classifier:v2")   # a model of the store, with `.path`

On an instance the attribute is what was asked for. It is looked up when it is first asked for, in `__init__`
as a rule; on the class it is the model's name. `bento build` reads these, and the images of the services that
name a model hold it, unless the bentofile says that it comes when they start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from bentoml import _environment as environment
from bentoml._model_store import ModelInfo, ModelStore, ModelTag, StoredModel, new_version
from bentoml.exceptions import MissingDependencyException

__all__ = [
    "BentoModel",
    "HuggingFaceModel",
    "Model",
    "ModelInfo",
    "ModelTag",
    "StoredModel",
    "create",
    "delete",
    "export_model",
    "get",
    "import_model",
    "list",
]

T = TypeVar("T", str, StoredModel)


class Model(Generic[T]):
    """What stands in the class: which model, not yet where it is."""

    def __init__(self) -> None:
        self._attribute: str | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self._attribute = name

    @overload
    def __get__(self, instance: None, owner: type) -> Model[T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> Model[T] | T:
        if instance is None:
            return self
        model = self.resolve()
        if self._attribute is not None:
            # From then on the attribute is found in the instance.
            vars(instance)[self._attribute] = model
        return model

    def resolve(self) -> T:
        """The model on this machine, where it is brought first if need be."""
        raise NotImplementedError


class HuggingFaceModel(Model[str]):
    """A model of the Hugging Face hub: on an instance, the folder of its files.

    An image that holds it needs nothing else. Elsewhere it is downloaded once into the cache of
    `huggingface_hub`, whichever process comes first, and the variables of that package have their meaning:
    `HF_HOME`, `HF_TOKEN`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`.
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
            revision: a branch, a tag or a commit; a Bento has the commit that it was when it was built.
            endpoint: of a mirror of the hub.
            include: patterns of the files to have, all when not given.
            exclude: patterns of the files to leave out.
        """
        super().__init__()
        self.model_id = model_id
        self.revision = revision
        self.endpoint = endpoint
        self.include = None if include is None else [*include]
        self.exclude = None if exclude is None else [*exclude]

    def resolve(self) -> str:
        """The folder of the model's files.

        Raises:
            MissingDependencyException: it is not here yet, and `huggingface_hub` is not installed.
            OSError: it is neither in the cache nor to be had from the hub.
        """
        place = environment.model_places().get(f"{self.model_id}@{self.revision}", environment.ModelPlace())
        if place.path is not None:
            return place.path
        try:
            from huggingface_hub import snapshot_download
        except ImportError:
            raise MissingDependencyException(
                f"{self!r} needs the package `huggingface_hub`; add it to `python.packages` of bentofile.yaml"
            ) from None
        return snapshot_download(
            self.model_id,
            revision=place.revision or self.revision,
            endpoint=self.endpoint,
            allow_patterns=self.include,
            ignore_patterns=self.exclude,
        )

    def __repr__(self) -> str:
        return f"HuggingFaceModel({self.model_id!r}, revision={self.revision!r})"


class BentoModel(Model[StoredModel]):
    """A model of this machine's store: on an instance, the model with its `path`, `tag` and `info`."""

    def __init__(self, tag: str) -> None:
        """Name it.

        Args:
            tag: `name:version`, or `name` for the latest one.

        Raises:
            ValueError: it is no tag.
        """
        super().__init__()
        ModelTag.parse(tag)
        self.tag = tag

    def resolve(self) -> StoredModel:
        """The model in its folder.

        Raises:
            NotFound: neither this image nor the store holds it.
        """
        return get(self.tag)

    def __repr__(self) -> str:
        return f"BentoModel({self.tag!r})"


def get(tag: str | ModelTag) -> StoredModel:
    """A model by its tag: of this service's image, else of the store.

    Args:
        tag: `name:version`, the beginning of a version, or `name` for the latest one.

    Raises:
        NotFound: neither holds it, or several versions begin like that.
        ValueError: it is no tag.
    """
    wanted = ModelTag.parse(str(tag))
    place = environment.model_places().get(str(wanted))
    if place is not None and place.path is not None:
        return StoredModel(Path(place.path))
    if place is not None and place.revision is not None:
        wanted = ModelTag.parse(place.revision)
    return ModelStore().get(wanted)


@contextmanager
def create(
    name: str | ModelTag,
    *,
    module: str = "",
    labels: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    signatures: Mapping[str, Any] | None = None,
) -> Iterator[StoredModel]:
    """A new model: `with create("name") as model:` gives a folder, `model.path`, to put its files into.

    It is in the store when the block ends, and not when that raises an error.

    Args:
        name: `name`, which gets a version of its own, or `name:version`.
        module: what it is saved with.
        labels: texts to find it by.
        options: what loading it needs to know.
        metadata: anything else that JSON can hold.

    Raises:
        ValueError: `name` is no tag.
        BentoMLException: that version is in the store, or the files are not such as can be kept.
    """
    tag = ModelTag.parse(str(name))
    info = ModelInfo(
        name=tag.name,
        version=tag.version or new_version(),
        module=module,
        labels=labels or {},
        options=options or {},
        metadata=metadata or {},
        signatures=signatures or {},
    )
    with ModelStore().creating(info) as model:
        yield model


def delete(tag: str | ModelTag) -> None:
    """Remove a model from the store; images and Bentos that hold it stay as they are.

    Raises:
        NotFound: there is none.
    """
    ModelStore().delete(tag)


def export_model(tag: str | ModelTag, path: str | os.PathLike[str], output_format: str | None = None) -> str:
    """Write a model of the store to an archive, and return where that is.

    Args:
        path: of the file, or the folder in which it gets the model's name.
        output_format: `bentomodel`, `tar`, `gz`, `bz2`, `xz`, `zip` or `folder`; what the file's name says
            when not given.

    Raises:
        NotFound: there is no such model.
        MissingDependencyException: the toolchain is not installed, as in an image.
    """
    from bentoml._toolchain import export_model as export

    return export(get(tag), path, output_format)


def import_model(path: str | os.PathLike[str], input_format: str | None = None) -> StoredModel:
    """Put the model of an archive or a folder into the store.

    Args:
        input_format: part of this interface; a file says itself how it was packed.

    Raises:
        BentoMLException: it is no archive of a model, or one with paths that lead out of it.
        MissingDependencyException: the toolchain is not installed, as in an image.
    """
    from bentoml._toolchain import import_model as import_

    return import_(path)


def list(tag: str | ModelTag | None = None) -> Sequence[StoredModel]:  # noqa: A001  # the name that users know
    """All models of the store, or those of one name or tag, the newest first."""
    wanted = None if tag is None else ModelTag.parse(str(tag))
    found = ModelStore().models(None if wanted is None else wanted.name)
    return [model for model in found if wanted is None or wanted.version in (None, model.tag.version)]


def __getattr__(name: str) -> Any:
    hint = (
        "" if name.startswith("_") else ": `create` gives a folder, to which a framework saves its own files"
    )
    raise AttributeError(f"module 'bentoml.models' has no attribute {name!r}{hint}")
