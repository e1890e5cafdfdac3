"""Files: a `Path` in the request's own folder."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic_core import core_schema

from bentoml._types.upload import Upload
from bentoml.validators import ContentType, FileSchema


class FileType:
    """Checks a file: an uploaded one is written to the folder that the validation's context names.

    Args:
        form: `binary`, or a top-level media type.
        content_type: the media type that it must have, where the sender declares one; a pattern.
    """

    def __init__(self, form: str = "binary", content_type: str | None = None) -> None:
        self.form = form
        self.content_type = content_type

    def check(self, value: Any, info: core_schema.ValidationInfo) -> Path:
        if isinstance(value, Path):
            return value
        if isinstance(value, bytes | bytearray):
            value = Upload.of(value)
        if not isinstance(value, Upload):
            raise ValueError(f"expected a file, found {type(value).__name__}")
        declared = value.content_type
        if self.content_type and declared and not fnmatch.fnmatchcase(declared, self.content_type.lower()):
            raise ValueError(f"expected a file of type {self.content_type}, found {declared}")
        if info.context is None:
            raise ValueError("expected a path, found a file and no folder for it")
        folder: str = info.context.temp_dir
        return value.save(folder)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.with_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        said: dict[str, Any] = {"type": "file", "format": self.form}
        return said if self.content_type is None else {**said, "content_type": self.content_type}


def file_type(markers: Iterable[object]) -> FileType:
    """The type of `Path` with what `Annotated` says of it."""
    for marker in markers:
        if isinstance(marker, FileSchema):
            return FileType(marker.format, marker.content_type)
        if isinstance(marker, ContentType):
            return FileType(marker.content_type.partition("/")[0], marker.content_type)
    return FileType()


class BytesType:
    """Checks bytes: as they are, those of an uploaded file, or those of a text."""

    def check(self, value: Any) -> bytes:
        if isinstance(value, Upload):
            return value.read()
        if isinstance(value, str):
            return value.encode()
        if not isinstance(value, bytes | bytearray | memoryview):
            raise ValueError(f"expected bytes, found {type(value).__name__}")
        return bytes(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.check, serialization=core_schema.plain_serializer_function_ser_schema(_as_text)
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "string", "format": "binary"}


def _as_text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
