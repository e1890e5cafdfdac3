"""Types that requests and responses carry beyond what pydantic knows: arrays, frames, images, files."""

from __future__ import annotations

import pathlib
import sys
import types
import typing
from typing import Annotated, Any, Union

from pydantic import BaseModel

from bentoml._types.array import array_type
from bentoml._types.dataframe import SeriesType, dataframe_type
from bentoml._types.file import BytesType, file_type
from bentoml._types.image import ImageType
from bentoml._types.model import wire_model
from bentoml._types.tensor import tensor_type

__all__ = ["is_type", "wire_type"]


def wire_type(annotation: Any, made: dict[Any, Any] | None = None) -> Any:
    """The annotation with what a request cannot carry by itself replaced by types that pydantic can check.

    Args:
        made: models that are being converted already.
    """
    return _Wire({} if made is None else made).type(annotation)


class _Wire:
    def __init__(self, made: dict[Any, Any]) -> None:
        self._made = made

    def type(self, annotation: Any, aliases: tuple[Any, ...] = (), markers: tuple[object, ...] = ()) -> Any:
        """One annotation.

        Args:
            aliases: those of `type X = ...` that lead here; one that leads to itself is pydantic's to follow.
            markers: what an `Annotated` around it says.
        """
        origin = typing.get_origin(annotation)
        alias = origin or annotation
        if hasattr(alias, "__value__") and alias not in aliases:
            arguments = typing.get_args(annotation)
            value = alias.__value__[arguments] if arguments else alias.__value__
            return self.type(value, (*aliases, alias), markers)
        carried = _carried(annotation, origin, markers)
        if carried is not None:
            return Annotated[origin or annotation, carried]
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return wire_model(annotation, self.type, self._made)
        if origin is None:
            return annotation
        if origin is Annotated:
            inner = self.type(annotation.__origin__, aliases, annotation.__metadata__)
            items = (inner, *annotation.__metadata__)
            return Annotated[items]
        return self._generic(annotation, origin, aliases, markers)

    def _generic(
        self, annotation: Any, origin: Any, aliases: tuple[Any, ...], markers: tuple[object, ...]
    ) -> Any:
        is_union = origin is Union or origin is types.UnionType
        # What is said of an optional value is said of the value.
        said = markers if is_union else ()
        arguments = tuple(self.type(argument, aliases, said) for argument in typing.get_args(annotation))
        if is_union:
            return Union[arguments]  # noqa: UP007  # built from a tuple
        if origin is typing.Literal or not arguments:
            return annotation
        generic: Any = origin
        try:
            return generic[arguments]
        except TypeError:
            return annotation


def is_type(annotation: Any, module: str, name: str) -> bool:
    """Whether an annotation is that class, of a package that need not be loaded."""
    return annotation is not None and getattr(sys.modules.get(module), name, None) is annotation


def _carried(annotation: Any, origin: Any, markers: tuple[object, ...]) -> Any:
    """What checks a type that is not pydantic's; None for those that are."""
    if annotation is bytes:
        return BytesType()
    if annotation is pathlib.Path:
        return file_type(markers)
    if is_type(annotation, "PIL.Image", "Image"):
        return ImageType()
    if is_type(origin or annotation, "numpy", "ndarray"):
        return array_type(typing.get_args(annotation), markers)
    if is_type(annotation, "torch", "Tensor"):
        return tensor_type(markers)
    if is_type(annotation, "pandas", "DataFrame"):
        return dataframe_type(markers)
    if is_type(annotation, "pandas", "Series"):
        return SeriesType()
    return None
