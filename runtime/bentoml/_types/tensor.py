"""Torch tensors: from nested lists of numbers, or as they come from a peer."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from pydantic_core import core_schema

from bentoml._types.array import fits, in_words, nested_lists, said_of, tensor_schema
from bentoml.validators import Device


class TensorType:
    """Checks a tensor: one already, an ndarray, or nested lists of numbers.

    Args:
        dtype: a name such as `float32`; None for any.
        shape: its sides, None or -1 for one of any length; None for any number of sides.
        device: where it is put, such as `cuda`; None for where it is, which is the CPU for all that arrives.

    Raises:
        ValueError: torch knows no such element type or device.
    """

    def __init__(
        self,
        dtype: str | None = None,
        shape: tuple[int | None, ...] | None = None,
        device: str | None = None,
    ) -> None:
        torch: Any = sys.modules["torch"]
        self.dtype = dtype
        self.shape = shape
        self._dtype = getattr(torch, dtype, None) if dtype else None
        if dtype and not isinstance(self._dtype, torch.dtype):
            raise ValueError(f"torch has no element type {dtype!r}")
        try:
            self._device = None if device is None else torch.device(device)
        except RuntimeError:
            raise ValueError(f"torch has no device {device!r}") from None

    def check(self, value: Any) -> Any:
        tensor = self._checked(value)
        return tensor if self._device is None else tensor.to(self._device)

    def _checked(self, value: Any) -> Any:
        torch: Any = sys.modules["torch"]
        wanted = self._dtype
        numpy = sys.modules.get("numpy")
        is_list = False
        if isinstance(value, torch.Tensor):
            tensor = value
        elif numpy is not None and isinstance(value, numpy.ndarray):
            tensor = torch.from_numpy(value)
        elif isinstance(value, list | tuple | int | float):
            is_list = True
            try:
                tensor = torch.tensor(value, dtype=wanted)
            except (ValueError, TypeError, RuntimeError, OverflowError) as error:
                raise ValueError(f"no tensor: {error}") from None
        else:
            raise ValueError(f"expected a tensor, found {type(value).__name__}")
        if wanted is not None and tensor.dtype != wanted:
            if not torch.can_cast(tensor.dtype, wanted):
                raise ValueError(f"expected a tensor of {self.dtype}, found {tensor.dtype}")
            tensor = tensor.to(wanted)
        return self._shaped(tensor, may_reshape=is_list)

    def _shaped(self, tensor: Any, *, may_reshape: bool) -> Any:
        sides = tuple(tensor.shape)
        if self.shape is None or fits(sides, self.shape):
            return tensor
        if may_reshape:
            try:
                return tensor.reshape(tuple(-1 if side is None else side for side in self.shape))
            except RuntimeError:
                pass
        raise ValueError(f"expected a tensor of shape {in_words(self.shape)}, found {in_words(sides)}")

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        serialization = core_schema.plain_serializer_function_ser_schema(nested_lists)
        return core_schema.no_info_plain_validator_function(self.check, serialization=serialization)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return tensor_schema("torch-tensor", self.dtype, self.shape)


def tensor_type(markers: Iterable[object]) -> TensorType:
    """The type of `torch.Tensor` with what `Annotated` says of it."""
    markers = tuple(markers)
    dtype, shape = said_of(markers)
    device = next((marker.device for marker in markers if isinstance(marker, Device)), None)
    return TensorType(dtype, shape, device)
