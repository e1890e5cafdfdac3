"""An endpoint's parameters and result as pydantic types, read from its annotations when first needed."""

from __future__ import annotations

import inspect
import io
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Union

from pydantic import BaseModel, ConfigDict, TypeAdapter, create_model
from pydantic.fields import FieldInfo
from pydantic_core import core_schema

from bentoml._endpoint import Endpoint
from bentoml.exceptions import UnservableException

_POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
_VAR_POSITIONAL = inspect.Parameter.VAR_POSITIONAL
_VAR_KEYWORD = inspect.Parameter.VAR_KEYWORD


@dataclass(frozen=True)
class Arguments:
    """What a method is called with."""

    positional: tuple[Any, ...]
    keywords: dict[str, Any]


class EndpointSignature:
    """What an endpoint takes and returns.

    Raises:
        UnservableException: an annotation names nothing, or is of a type that no request can carry.
    """

    def __init__(self, endpoint: Endpoint, service: str) -> None:
        self._where = f"{service}.{endpoint.name}"
        self._func = endpoint.func
        self._hints = _type_hints(self._func, self._where)
        parameters = list(inspect.signature(self._func).parameters.values())[1:]
        self.signature = inspect.Signature(parameters)
        self.var_keyword = next((p.name for p in parameters if p.kind is _VAR_KEYWORD), None)

    @cached_property
    def input_model(self) -> type[BaseModel]:
        """A pydantic model with one field for each parameter; `**kwargs` takes fields of any name."""
        fields: dict[str, Any] = {}
        for parameter in self.signature.parameters.values():
            annotation = wire_type(self._hints.get(parameter.name, Any))
            default = ... if parameter.default is parameter.empty else parameter.default
            if parameter.kind is _VAR_KEYWORD:
                annotation, default = dict[str, annotation], FieldInfo(default_factory=dict)  # type: ignore[valid-type]
            elif parameter.kind is _VAR_POSITIONAL:
                annotation, default = list[annotation], FieldInfo(default_factory=list)  # type: ignore[valid-type]
            fields[parameter.name] = (annotation, default)
        extra: typing.Literal["allow", "ignore"] = "allow" if self.var_keyword else "ignore"
        config = ConfigDict(arbitrary_types_allowed=True, extra=extra, protected_namespaces=())
        try:
            return create_model("Input", __config__=config, **fields)
        except Exception as error:  # pydantic raises several kinds for a type it cannot handle
            raise UnservableException(f"{self._where}: {error}") from error

    @cached_property
    def output(self) -> TypeAdapter[Any]:
        """The type of the result, for schemas and for results that are not sent as they are."""
        hint = self._hints.get("return", Any)
        return TypeAdapter(
            wire_type(hint), config=None if _is_model(hint) else ConfigDict(arbitrary_types_allowed=True)
        )

    @property
    def returns_anything(self) -> bool:
        """Whether the result has no annotation that says more than `Any`."""
        return self._hints.get("return", Any) in (Any, None)

    def from_fields(self, fields: Mapping[str, Any]) -> Arguments:
        """Check the fields of a public request and make the call's arguments of them.

        Raises:
            pydantic.ValidationError: lists every field that does not fit.
        """
        return self._arguments(self.input_model.model_validate(dict(fields)))

    def from_call(self, positional: tuple[Any, ...], keywords: Mapping[str, Any]) -> Arguments:
        """Check the arguments that a peer called with.

        Raises:
            TypeError: they do not fit the parameters, as Python itself would say.
            pydantic.ValidationError: a value does not fit its annotation.
        """
        bound = self.signature.bind(*positional, **keywords)
        return self._arguments(self.input_model.model_validate(bound.arguments))

    def _arguments(self, model: BaseModel) -> Arguments:
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        for parameter in self.signature.parameters.values():
            value = getattr(model, parameter.name)
            if parameter.kind is _VAR_KEYWORD:
                keywords.update(value)
                keywords.update(model.model_extra or {})
            elif parameter.kind is _VAR_POSITIONAL:
                positional.extend(value)
            elif parameter.kind is _POSITIONAL_ONLY:
                positional.append(value)
            else:
                keywords[parameter.name] = value
        return Arguments(tuple(positional), keywords)


def _type_hints(func: Any, where: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(func, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise UnservableException(f"{where}: an annotation cannot be resolved: {error}") from error


def _is_model(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseModel)


def wire_type(annotation: Any) -> Any:
    """The annotation with arrays and images replaced by types that pydantic can check."""
    origin = typing.get_origin(annotation)
    if _is_type(annotation, "PIL.Image", "Image"):
        return Annotated[annotation, ImageType()]
    if _is_type(origin or annotation, "numpy", "ndarray"):
        return Annotated[origin or annotation, ArrayType(_dtype(typing.get_args(annotation)))]
    if origin is None:
        return annotation
    arguments = tuple(wire_type(argument) for argument in typing.get_args(annotation))
    if origin is Annotated:
        return Annotated[(arguments[0], *annotation.__metadata__)]
    if origin is Union or origin is types.UnionType:
        return Union[arguments]  # noqa: UP007  # built from a tuple
    if origin is typing.Literal or not arguments:
        return annotation
    try:
        return origin[arguments]
    except TypeError:
        return annotation


def _is_type(annotation: Any, module: str, name: str) -> bool:
    return annotation is not None and getattr(sys.modules.get(module), name, None) is annotation


def _dtype(arguments: tuple[Any, ...]) -> Any:
    """The dtype of `np.ndarray[shape, dtype]`: `np.dtype[np.uint8]`, and also the bare `np.uint8`."""
    if len(arguments) < 2:
        return None
    scalar = (typing.get_args(arguments[1]) or (arguments[1],))[0]
    numpy: Any = sys.modules["numpy"]
    concrete = isinstance(scalar, type) and issubclass(scalar, numpy.generic)
    # Abstract ones such as `np.floating` say nothing that a conversion could use.
    is_abstract = concrete and scalar in (
        numpy.generic,
        numpy.number,
        numpy.integer,
        numpy.floating,
        numpy.inexact,
    )
    return numpy.dtype(scalar) if concrete and not is_abstract else None


class ArrayType:
    """Checks an array: an ndarray of a dtype that converts safely, or nested lists of numbers."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def check(self, value: Any) -> Any:
        numpy: Any = sys.modules["numpy"]
        if isinstance(value, numpy.ndarray):
            if self.dtype is None or value.dtype == self.dtype:
                return value
            if not numpy.can_cast(value.dtype, self.dtype, "same_kind"):
                raise ValueError(f"expected an array of {self.dtype}, found {value.dtype}")
            return value.astype(self.dtype)
        if not isinstance(value, list | tuple | int | float):
            raise ValueError(f"expected an array, found {type(value).__name__}")
        try:
            array = numpy.array(value, dtype=self.dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"no array of {self.dtype or 'numbers'}: {error}") from None
        if array.dtype.kind not in "biufc":
            raise ValueError(f"expected numbers, found an array of {array.dtype}")
        return array

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        serialization = core_schema.plain_serializer_function_ser_schema(lambda array: array.tolist())
        return core_schema.no_info_plain_validator_function(self.check, serialization=serialization)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        shape = {"type": "tensor", "format": "numpy-array"}
        return shape if self.dtype is None else {**shape, "dtype": str(self.dtype)}


class ImageType:
    """Checks a PIL image: one already, or the bytes of an image file."""

    max_pixels = 178_956_970  # where Pillow itself speaks of a decompression bomb

    def check(self, value: Any) -> Any:
        from PIL import Image, UnidentifiedImageError

        if isinstance(value, Image.Image):
            return value
        if not isinstance(value, bytes | bytearray):
            raise ValueError(f"expected an image file, found {type(value).__name__}")
        try:
            image = Image.open(io.BytesIO(value))
            if image.width * image.height > self.max_pixels:
                raise ValueError(f"the image has {image.width}x{image.height} pixels, too many to take")
            image.load()
        except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"not an image that can be read: {error}") from None
        return image

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "string", "format": "binary"}
