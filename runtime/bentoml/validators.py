"""What an annotation may say of a value beyond its type: `Annotated[np.ndarray, Shape((2, 2))]`.

Bounds such as `Gt` and `MaxLen` come from the package `annotated_types`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from annotated_types import (
    Ge,
    Gt,
    Interval,
    Le,
    Len,
    Lt,
    MaxLen,
    MinLen,
    MultipleOf,
    Predicate,
    Timezone,
)

__all__ = [
    "ContentType",
    "DType",
    "DataframeSchema",
    "Device",
    "FileSchema",
    "Ge",
    "Gt",
    "Interval",
    "Le",
    "Len",
    "Lt",
    "MaxLen",
    "MinLen",
    "MultipleOf",
    "PILImageEncoder",
    "Predicate",
    "Shape",
    "TensorSchema",
    "Timezone",
]


@dataclass(frozen=True)
class ContentType:
    """The media type of a file, or of a result; a pattern such as `audio/*` for what is taken."""

    content_type: str


@dataclass(frozen=True)
class Shape:
    """The sides of an array; -1 or None for one of any length."""

    dimensions: tuple[int | None, ...]


@dataclass(frozen=True)
class DType:
    """The name of an array's element type, such as `float32`."""

    dtype: str


@dataclass(frozen=True)
class Device:
    """Where a torch tensor is put that arrives, such as `cuda:0`; without one it is on the CPU."""

    device: str


@dataclass(frozen=True)
class TensorSchema:
    """Shape and element type of an array at once."""

    format: Literal["numpy-array", "torch-tensor", "tf-tensor"] = "numpy-array"
    dtype: str | None = None
    shape: tuple[int | None, ...] | None = None


@dataclass(frozen=True)
class DataframeSchema:
    """How a frame stands in JSON: a list of rows, or a mapping of columns; and which columns it has."""

    orient: Literal["records", "columns"] = "records"
    columns: list[str] | None = None


@dataclass(frozen=True)
class FileSchema:
    """The kind of a file: `binary`, or a top-level media type such as `image`, and its media type."""

    format: str = "binary"
    content_type: str | None = None


@dataclass(frozen=True)
class PILImageEncoder:
    """An image that travels as a file; what `PIL.Image.Image` means by itself."""
