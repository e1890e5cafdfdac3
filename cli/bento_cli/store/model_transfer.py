"""Models of the store on their way to and from other machines, as one file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from bento_cli.errors import BentoError, InputError, NotFoundError, Problem, shown
from bento_cli.store.archive import Form, Limits, form_of, unpack, write_archive
from bento_cli.yaml_file import load_yaml
from bentoml._model_store import MODEL_FILE, ModelInfo, ModelStore, StoredModel

SUFFIX: Final = ".bentomodel"
"""Of a file that holds a model: a tar.xz."""

_SUFFIX_FORM: Final[Form] = "xz"
_FORMS: Final[dict[str, Form]] = {
    "bentomodel": _SUFFIX_FORM, "tar": "tar", "gz": "gz", "bz2": "bz2", "xz": "xz", "zip": "zip",
}  # fmt: skip
_FOLDER: Final = "folder"
# A file of weights is large and hardly smaller when it is packed.
_LIMITS: Final = Limits(total=1 << 40)


def export_model(model: StoredModel, path: str, output_format: str | None = None) -> Path:
    """Write a model into one file, or a folder, and say where that is.

    Args:
        path: of the file, or the folder in which it gets the model's name.
        output_format: how it is packed, or `folder`; what the ending of `path` says when not given.

    Raises:
        BentoError: no such format, or it cannot be written there.
    """
    if output_format not in (None, _FOLDER, *_FORMS):
        raise BentoError(f"{output_format!r} is no format; valid: {', '.join((*_FORMS, _FOLDER))}")
    target = Path(path)
    name = f"{model.tag.name}-{model.tag.version}"
    if output_format == _FOLDER:
        target = target / name if target.is_dir() else target
        try:
            shutil.copytree(model, target)
        except OSError as error:
            raise BentoError(f"{shown(target)}: {error.strerror or error}") from None
        return target
    if target.is_dir() or path.endswith("/"):
        target /= f"{name}{SUFFIX if output_format in (None, 'bentomodel') else f'.{output_format}'}"
    if output_format is not None:
        form = _FORMS[output_format]
    else:
        form = _SUFFIX_FORM if target.suffix == SUFFIX else form_of(target)
    folder = Path(model)
    files = sorted(file for file in folder.rglob("*") if not file.is_dir())
    write_archive(folder, files, target, form)
    return target


def import_model(path: str, store: ModelStore) -> StoredModel:
    """Put the model of a file or a folder into the store.

    Raises:
        NotFoundError: there is no such file.
        BentoError: it is no archive, holds what no archive may hold, or no model.
        BentoMLException: the store holds that version with other files.
    """
    source = Path(path)
    with store.workspace() as folder:
        if source.is_dir():
            shutil.copytree(source, folder, symlinks=True, dirs_exist_ok=True)
        else:
            unpack(source, folder, _LIMITS)
        return store.add(folder, _info(folder, source))


def _info(folder: Path, source: Path) -> ModelInfo:
    """What the model's own file says of it: JSON of ours, YAML of others."""
    path = folder / MODEL_FILE
    try:
        file = load_yaml(path)
    except NotFoundError:
        raise BentoError(f"{shown(source)} holds no `{MODEL_FILE}`, so it is no model") from None
    except InputError as error:
        problem = error.problems[0]
        raise InputError([Problem(source / MODEL_FILE, problem.line, problem.message)]) from None
    info = ModelInfo(name="", version="").with_said(file.data)
    if not info.is_named:
        raise BentoError(f"{shown(source)}: its `{MODEL_FILE}` names no model")
    return info
