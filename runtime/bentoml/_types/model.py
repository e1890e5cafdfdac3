"""Models and records whose fields are of types that a request carries in its own way."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model

Convert = Callable[[Any], Any]


class IODescriptor(BaseModel):
    """A pydantic model whose fields may be arrays, images, files and frames too."""

    model_config = ConfigDict(arbitrary_types_allowed=True)


def wire_model(model: type[BaseModel], convert: Convert, made: dict[Any, Any]) -> Any:
    """The model with the types of its fields converted, as a subclass of it; itself where none changes.

    A file's path must come from an upload, and never be what a caller writes into a field.

    Args:
        made: models that are being converted, so that one that holds itself ends.
    """
    if model in made:
        return made[model]
    made[model] = model
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        said = (field.annotation, *field.metadata)
        hint = typing.Annotated[said] if field.metadata else field.annotation
        converted = convert(hint)
        if converted != hint:
            fields[name] = (converted, copy(field))
    if fields:
        made[model] = create_model(model.__name__, __base__=model, __module__=model.__module__, **fields)
    return made[model]


def names_files(hint: Any, seen: tuple[Any, ...] = ()) -> bool:
    """Whether a type, other than as itself, holds the path of a file: in a field, however deep."""
    if hint in seen:
        return False
    seen = (*seen, hint)
    return any(inner is Path or names_files(inner, seen) for inner in _inner(hint))


def holds_plain_path(hint: Any, seen: tuple[Any, ...] = ()) -> bool:
    """Whether a converted type has a record with a `Path`, which pydantic would make of any text."""
    if hint in seen:
        return False
    seen = (*seen, hint)
    if dataclasses.is_dataclass(hint) or typing.is_typeddict(hint):
        return any(inner is Path or names_files(inner) for inner in _inner(hint))
    return any(holds_plain_path(inner, seen) for inner in _inner(hint))


def _inner(hint: Any) -> list[Any]:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return [field.annotation for field in hint.model_fields.values()]
    if dataclasses.is_dataclass(hint) or typing.is_typeddict(hint):
        try:
            return list(typing.get_type_hints(hint).values())
        except (NameError, TypeError):
            return []
    return [
        argument
        for argument in typing.get_args(hint)
        if isinstance(argument, type) or typing.get_args(argument)
    ]
