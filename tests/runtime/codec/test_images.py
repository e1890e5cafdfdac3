from __future__ import annotations

import io

import pytest
from PIL import Image
from tests.runtime.codec.frames import frame, packed, round_trip

from bentoml import codec
from bentoml.codec._extensions import Code
from bentoml.exceptions import BadInput


@pytest.mark.parametrize("mode", Image.MODES)
@pytest.mark.parametrize("size", [(5, 3), (50, 70)])
def test_an_image_keeps_its_mode_and_pixels(mode: str, size: tuple[int, int]) -> None:
    noise = Image.effect_noise(size, 50).convert("RGB")
    image = Image.frombytes(mode, size, (noise.tobytes() * 2)[: len(Image.new(mode, size).tobytes())])
    arrived = round_trip((image,))[0]

    assert (arrived.mode, arrived.size, arrived.tobytes()) == (image.mode, image.size, image.tobytes())


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (1, 1)])
def test_an_image_may_be_of_any_size(size: tuple[int, int]) -> None:
    assert round_trip(Image.new("RGB", size)).size == size


def paletted() -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    return image


def test_a_palette_keeps_its_colours() -> None:
    arrived = round_trip(paletted())

    assert arrived.mode == "P"
    assert arrived.convert("RGB").tobytes() == bytes([255, 0, 0, 0, 255, 0, 0, 0, 255])


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 128])])
def test_a_palette_keeps_what_is_transparent(transparency: int | bytes) -> None:
    image = paletted()
    image.info["transparency"] = transparency

    assert round_trip(image).convert("RGBA").tobytes() == image.convert("RGBA").tobytes()


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "GIF"])
def test_an_image_whose_file_is_not_read_yet_keeps_its_colours(file_format: str) -> None:
    file = io.BytesIO()
    paletted().save(file, file_format)

    arrived = round_trip(Image.open(file))

    assert arrived.convert("RGB").tobytes() == paletted().convert("RGB").tobytes()


def test_an_image_keeps_what_says_how_it_is_to_be_shown() -> None:
    image = Image.new("RGB", (2, 1))
    told = {
        "exif": b"Exif\x00",
        "icc_profile": b"icc",
        "dpi": (72, 72.5),
        "transparency": (1, 2, 3),
        "gamma": 0.5,
    }
    image.info.update(told, comment=b"of the file", chromaticity=object())

    assert round_trip([image])[0].info == told


def cut_short() -> Image.Image:
    file = io.BytesIO()
    Image.effect_noise((50, 50), 10).save(file, "PNG")
    return Image.open(io.BytesIO(file.getvalue()[:200]))


def test_a_file_that_breaks_off_is_told_with_its_path() -> None:
    with pytest.raises(codec.EncodeError, match=r"^`value\[0\]` is a .*: image file is truncated"):
        codec.encode([cut_short()])


@pytest.mark.parametrize(
    "fields",
    [
        ["RGB", 2**20, 2**20, None, None, {}, 0],
        ["RGB", 19, 18, None, None, {}, 0],
        ["RGB", -1, -1, None, None, {}, 0],
        ["nonsense", 1, 1, None, None, {}, 0],
        ["L", 32, 32, None, None, {}, 1],
        ["L", 32, 32, "RGB", b"abc", {"exif": {}}, 0],
        ["L", 32, 32, None, None, {"exif": [1] * 9}, 0],
        ["L", 32, 32, None, None, {"file": b""}, 0],
        ["RGB", 1, 1, "RGB", b"abc", {}, b"abc"],
        ["P", 32, 32, "nonsense", b"abc", {}, 0],
        ["P", 32, 32, None, b"abc", {}, 0],
        ["RGB", 2**40, 0, None, None, {}, 0],
        ["RGB", 2**40, 0, None, None, {}, b""],
    ],
)
def test_an_image_that_does_not_hold_together_is_refused(fields: list[object]) -> None:
    with pytest.raises(BadInput, match=r"^frame: "):
        codec.decode(frame(packed(Code.IMAGE, fields), buffers=(bytes(1024),)))
