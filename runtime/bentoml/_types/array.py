"""NumPy arrays: from nested lists of numbers, or as they come from a peer."""

from __future__ import annotations

import math
import sys
import typing
from collections.abc import Iterable
from typing import Any

from pydantic_core import core_schema

from bentoml.validators import DType, Shape, TensorSchema


class ArrayType:
    """Checks an array: an ndarray of a dtype that converts safely, or nested lists of numbers.

    Args:
        dtype: a `numpy.dtype`; None for any.
        shape: its sides, None or -1 for one of any length; None for any number of sides.
    """

    def __init__(self, dtype: Any = None, shape: tuple[int | None, ...] | None = None) -> None:
        self.dtype = dtype
        self.shape = shape

    def check(self, value: Any) -> Any:
        numpy: Any = sys.modules["numpy"]
        if isinstance(value, numpy.ndarray):
            return self._shaped(self._as_dtype(value), may_reshape=False)
        if not isinstance(value, list | tuple | int | float):
            raise ValueError(f"expected an array, found {type(value).__name__}")
        try:
            array = numpy.array(value)
        except ValueError as error:
            raise ValueError(f"no array: {error}") from None
        if array.dtype.kind not in "biuf" and not (self.dtype is not None and self.dtype.kind == "U"):
            raise ValueError(f"expected numbers, found an array of {array.dtype}")
        if array.dtype.kind == "f" and not numpy.isfinite(array).all():
            raise ValueError("expected numbers, found one that is infinite or none")
        return self._shaped(self._converted(array), may_reshape=True)

    def _as_dtype(self, array: Any) -> Any:
        numpy: Any = sys.modules["numpy"]
        if self.dtype is None or array.dtype == self.dtype:
            return array
        if not numpy.can_cast(array.dtype, self.dtype, "same_kind"):
            raise ValueError(f"expected an array of {self.dtype}, found {array.dtype}")
        return array.astype(self.dtype)

    def _converted(self, array: Any) -> Any:
        """Numbers that came as text have no dtype: any that the wanted one can hold will do."""
        numpy: Any = sys.modules["numpy"]
        if self.dtype is None:
            return array
        with numpy.errstate(invalid="ignore", over="ignore"):
            converted = array.astype(self.dtype)
        if self.dtype.kind in "biu" and not numpy.array_equal(converted, array):
            raise ValueError(f"expected an array of {self.dtype}, found numbers that it cannot hold")
        return converted

    def _shaped(self, array: Any, *, may_reshape: bool) -> Any:
        if self.shape is None or fits(array.shape, self.shape):
            return array
        sides = tuple(-1 if side is None else side for side in self.shape)
        # Clients of this interface may send the numbers of an array as one flat list.
        if may_reshape and sides.count(-1) <= 1 and _divides(array.size, sides):
            return array.reshape(sides)
        raise ValueError(f"expected an array of shape {in_words(self.shape)}, found {in_words(array.shape)}")

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        serialization = core_schema.plain_serializer_function_ser_schema(nested_lists)
        return core_schema.no_info_plain_validator_function(self.check, serialization=serialization)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return tensor_schema("numpy-array", None if self.dtype is None else str(self.dtype), self.shape)


def array_type(arguments: tuple[Any, ...], markers: Iterable[object]) -> ArrayType:
    """The type of `np.ndarray[arguments]` with what `Annotated` says of it."""
    numpy: Any = sys.modules["numpy"]
    dtype = _dtype(arguments)
    name, shape = said_of(markers)
    return ArrayType(dtype if name is None else numpy.dtype(name), shape)


def said_of(markers: Iterable[object]) -> tuple[str | None, tuple[int | None, ...] | None]:
    """The element type and the shape that an annotation names."""
    dtype: str | None = None
    shape: tuple[int | None, ...] | None = None
    for marker in markers:
        if isinstance(marker, DType):
            dtype = marker.dtype
        elif isinstance(marker, Shape):
            shape = tuple(marker.dimensions)
        elif isinstance(marker, TensorSchema):
            dtype, shape = marker.dtype or dtype, marker.shape or shape
    return dtype, shape


def tensor_schema(form: str, dtype: str | None, shape: tuple[int | None, ...] | None) -> dict[str, Any]:
    """What `/schema.json` says of an array."""
    schema: dict[str, Any] = {"type": "tensor", "format": form}
    if dtype is not None:
        schema["dtype"] = dtype
    if shape is not None:
        sides = [-1 if side is None else side for side in shape]
        schema["shape"] = sides
        schema["dim"] = math.prod(sides)
    return schema


def fits(sides: tuple[int, ...], shape: tuple[int | None, ...]) -> bool:
    """Whether an array of these sides is of that shape."""
    return len(sides) == len(shape) and all(
        wanted in (None, -1, side) for side, wanted in zip(sides, shape, strict=True)
    )


def in_words(shape: tuple[int | None, ...]) -> str:
    """A shape as NumPy writes it, `?` for a side of any length."""
    sides = ["?" if side in (None, -1) else str(side) for side in shape]
    return f"({', '.join(sides)}{',' if len(sides) == 1 else ''})"


def nested_lists(array: Any) -> Any:
    """What stands for an array in JSON."""
    return array.tolist() if hasattr(array, "tolist") else array


def _divides(size: int, sides: tuple[int, ...]) -> bool:
    known = math.prod(side for side in sides if side != -1)
    return size == known if -1 not in sides else known > 0 and size % known == 0


def _dtype(arguments: tuple[Any, ...]) -> Any:
    """The dtype of `np.ndarray[shape, dtype]`: `np.dtype[np.uint8]`, and also the bare `np.uint8`."""
    if len(arguments) < 2:
        return None
    scalar = (typing.get_args(arguments[1]) or (arguments[1],))[0]
    numpy: Any = sys.modules["numpy"]
    # Abstract ones such as `np.floating` say nothing that a conversion could use.
    return numpy.dtype(scalar) if scalar in numpy.sctypeDict.values() else None
