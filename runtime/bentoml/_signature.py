"""An endpoint's parameters and result as pydantic types, read from its annotations when first needed."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import io
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Union

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, TypeAdapter, create_model
from pydantic_core import core_schema

from bentoml._endpoint import Endpoint
from bentoml.exceptions import InvalidArgument, UnservableException

_KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY
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
        self.takes_lists = frozenset(p.name for p in parameters if self._is_list(p))

    def _is_list(self, parameter: inspect.Parameter) -> bool:
        hint = self._hints.get(parameter.name)
        return parameter.kind is _VAR_POSITIONAL or (typing.get_origin(hint) or hint) in (list, tuple)

    @cached_property
    def input_model(self) -> type[BaseModel]:
        """A pydantic model with one field for each parameter; `**kwargs` takes fields of any name."""
        fields: dict[str, Any] = {}
        extra: typing.Literal["allow", "ignore"] = "ignore"
        for number, parameter in enumerate(self.signature.parameters.values()):
            annotation = wire_type(self._hints.get(parameter.name, Any))
            default = ... if parameter.default is parameter.empty else parameter.default
            if parameter.kind is _VAR_KEYWORD:
                annotation, default, extra = dict[str, annotation], Field(default_factory=dict), "allow"  # type: ignore[valid-type]
            elif parameter.kind is _VAR_POSITIONAL:
                annotation, default = list[annotation], Field(default_factory=list)  # type: ignore[valid-type]
            # An alias may have any name; a field may be called neither `_x` nor as a method of the model.
            fields[_field(number)] = (Annotated[annotation, Field(alias=parameter.name)], default)
        config = ConfigDict(arbitrary_types_allowed=True, extra=extra)
        try:
            return create_model("Input", __config__=config, **fields)
        except Exception as error:  # pydantic raises several kinds for a type it cannot handle
            raise UnservableException(f"{self._where}: {error}") from error

    @property
    def returns_classes(self) -> bool:
        """Whether the result's annotation names classes that travel as plain mappings or values."""
        return _names_classes(self._hints.get("return"))

    @cached_property
    def output(self) -> TypeAdapter[Any]:
        """The type of the result, for schemas and for results that are not sent as they are."""
        hint = wire_type(self._hints.get("return", Any))
        try:
            try:
                return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
            except PydanticUserError:
                # A model, dataclass or TypedDict has a configuration of its own.
                return TypeAdapter(hint)
        except Exception as error:
            raise UnservableException(f"{self._where}: its result: {error}") from error

    def from_fields(self, fields: Mapping[str, Any]) -> Arguments:
        """Check the fields of a public request and make the call's arguments of them.

        Raises:
            pydantic.ValidationError: lists every field that does not fit.
        """
        return self._arguments(self.input_model.model_validate(self._folded(fields)))

    def from_call(self, positional: Sequence[Any], keywords: Mapping[str, Any]) -> Arguments:
        """Check the arguments that a peer called with.

        Raises:
            InvalidArgument: they do not fit the parameters; in Python's own words.
            pydantic.ValidationError: a value does not fit its annotation.
        """
        try:
            bound = self.signature.bind(*positional, **keywords)
        except TypeError as error:
            raise InvalidArgument(f"{self._where}: {error}") from None
        return self._arguments(self.input_model.model_validate(bound.arguments))

    def _folded(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """`fields` with those that no parameter takes put under the name of `**kwargs`, if there is one."""
        parameters = self.signature.parameters
        named = {name: value for name, value in fields.items() if name in parameters}
        for parameter in parameters.values():
            nested = named.get(parameter.name, {})
            if parameter.kind is _VAR_KEYWORD and isinstance(nested, Mapping):
                flat = {name: value for name, value in fields.items() if name not in parameters}
                named[parameter.name] = {**nested, **flat}
        return named

    def _arguments(self, model: BaseModel) -> Arguments:
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        for number, parameter in enumerate(self.signature.parameters.values()):
            value = getattr(model, _field(number))
            if parameter.kind is _VAR_KEYWORD:
                keywords.update(value)
            elif parameter.kind is _VAR_POSITIONAL:
                positional.extend(value)
            elif parameter.kind is _KEYWORD_ONLY:
                keywords[parameter.name] = value
            else:
                positional.append(value)
        return Arguments(tuple(positional), keywords)


def _names_classes(hint: Any) -> bool:
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        return issubclass(hint, BaseModel | enum.Enum) or dataclasses.is_dataclass(hint)
    return any(_names_classes(argument) for argument in typing.get_args(hint))


def _type_hints(func: Any, where: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(func, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise UnservableException(f"{where}: an annotation cannot be resolved: {error}") from error


def _field(number: int) -> str:
    return f"p{number}"


def wire_type(annotation: Any, aliases: tuple[Any, ...] = ()) -> Any:
    """The annotation with arrays and images replaced by types that pydantic can check.

    Args:
        aliases: those of `type X = ...` that lead here; one that leads to itself is pydantic's to follow.
    """
    origin = typing.get_origin(annotation)
    alias = origin or annotation
    if hasattr(alias, "__value__") and alias not in aliases:
        arguments = typing.get_args(annotation)
        return wire_type(alias.__value__[arguments] if arguments else alias.__value__, (*aliases, alias))
    if _is_type(annotation, "PIL.Image", "Image"):
        return Annotated[annotation, ImageType()]
    if _is_type(origin or annotation, "numpy", "ndarray"):
        return Annotated[origin or annotation, ArrayType(_dtype(typing.get_args(annotation)))]
    if origin is None:
        return annotation
    arguments = tuple(wire_type(argument, aliases) for argument in typing.get_args(annotation))
    if origin is Annotated:
        items = (arguments[0], *annotation.__metadata__)
        return Annotated[items]
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
    # Abstract ones such as `np.floating` say nothing that a conversion could use.
    return numpy.dtype(scalar) if scalar in numpy.sctypeDict.values() else None


def _nested_lists(array: Any) -> Any:
    return array.tolist() if hasattr(array, "tolist") else array


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
            array = numpy.array(value)
        except ValueError as error:
            raise ValueError(f"no array: {error}") from None
        if array.dtype.kind not in "biuf":
            raise ValueError(f"expected numbers, found an array of {array.dtype}")
        if self.dtype is None:
            return array
        with numpy.errstate(invalid="ignore", over="ignore"):
            converted = array.astype(self.dtype)
        if self.dtype.kind in "biu" and not numpy.array_equal(converted, array):
            raise ValueError(f"expected an array of {self.dtype}, found numbers that it cannot hold")
        return converted

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        serialization = core_schema.plain_serializer_function_ser_schema(_nested_lists)
        return core_schema.no_info_plain_validator_function(self.check, serialization=serialization)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        shape = {"type": "tensor", "format": "numpy-array"}
        return shape if self.dtype is None else {**shape, "dtype": str(self.dtype)}


class ImageType:
    """Checks a PIL image: one already, or the bytes of an image file."""

    max_pixels = 178_956_970  # where Pillow itself speaks of a decompression bomb

    def check(self, value: Any) -> Any:
        from PIL import Image

        if isinstance(value, Image.Image):
            return value
        if not isinstance(value, bytes | bytearray):
            raise ValueError(f"expected an image file, found {type(value).__name__}")
        try:
            image = Image.open(io.BytesIO(value))
        except Exception as error:  # noqa: BLE001  # Pillow's readers raise nearly anything for a broken file
            raise ValueError(f"not an image that can be read: {error}") from None
        if image.width * image.height > self.max_pixels:
            raise ValueError(f"the image has {image.width}x{image.height} pixels, too many to take")
        try:
            image.load()
        except Exception as error:  # noqa: BLE001
            raise ValueError(f"not an image that can be read: {error}") from None
        return image

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "string", "format": "binary"}
