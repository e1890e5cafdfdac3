"""PIL images: from image files, or as they come from a peer."""

from __future__ import annotations

import io
from typing import Any, Final

from pydantic_core import core_schema

from bentoml._types.upload import Upload

_MAX_PIXELS: Final = 178_956_970  # where Pillow itself speaks of a decompression bomb


class ImageType:
    """Checks a PIL image: one already, or the content of an image file."""

    max_pixels = _MAX_PIXELS

    def check(self, value: Any) -> Any:
        from PIL import Image, UnidentifiedImageError

        if isinstance(value, Image.Image):
            return value
        if isinstance(value, Upload):
            value = value.read()
        if not isinstance(value, bytes | bytearray):
            raise ValueError(f"expected an image file, found {type(value).__name__}")
        try:
            image = Image.open(io.BytesIO(value))
        except UnidentifiedImageError:
            raise ValueError("not an image of a known format") from None
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
        return {"type": "file", "format": "image", "pil": True}
