"""PIL's images: their pixels, and what is told with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import ormsgpack

from bentoml.codec._extensions import Code, Receiver, Sender, extension, fields_of
from bentoml.exceptions import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image

# Of `info`: what changes how the pixels are to be shown. The rest tells of the file, which does not travel.
_INFO: Final = ("transparency", "exif", "icc_profile", "dpi", "gamma", "background", "duration", "loop")


def encode_image(sender: Sender, image: Image) -> ormsgpack.Ext:
    data = image.tobytes()  # first: a palette is read from the file together with the pixels
    palette_mode = image.palette.mode if image.palette else None
    palette = bytes(image.getpalette(palette_mode) or ()) if palette_mode else None
    info = {key: image.info[key] for key in _INFO if _may_be_told(image.info.get(key))}
    return extension(Code.IMAGE, [image.mode, *image.size, palette_mode, palette, info, sender.put(data)])


def decode_image(receiver: Receiver, payload: bytes) -> object:
    from PIL import Image  # only where an image really arrives

    mode, width, height, palette_mode, palette, info, reference = fields_of(
        payload, str, int, int, str | None, bytes | None, dict, object
    )
    if mode not in Image.MODES or width < 0 or height < 0:
        raise BadInput(f"frame: an image of mode {mode!r} and size {width}x{height}")
    data = receiver.data(reference)
    # Every mode has a bit a pixel or more: what claims more pixels is refused before memory is taken.
    if width * height > 8 * data.nbytes:
        raise BadInput(f"frame: {width}x{height} pixels do not fit {data.nbytes} bytes")
    size = (width, height)
    image = Image.frombytes(mode, size, data) if width * height else Image.new(mode, size)
    if palette is not None:
        image.putpalette(palette, palette_mode)
    for key, value in info.items():
        told = tuple(value) if type(value) is list else value
        if key not in _INFO or not _may_be_told(told):
            raise BadInput(f"frame: an image with {key!r} of {type(value).__name__}")
        image.info[key] = told
    return image


def _may_be_told(value: object) -> bool:
    if type(value) is tuple:
        return len(value) <= 4 and all(type(item) in (int, float) for item in value)
    return type(value) in (int, float, bytes)
