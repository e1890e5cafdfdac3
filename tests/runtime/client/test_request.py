from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pydantic import BaseModel

from bentoml._client.request import Body, FilePart, body_of
from bentoml._client.schema import EndpointSchema, endpoints_in

FILE = {"type": "file", "format": "binary"}
IMAGE = {"type": "file", "format": "image", "pil": True}
ARRAY = {"type": "tensor", "format": "numpy-array"}


class Score(BaseModel):
    value: float


def endpoint(schema: Mapping[str, Any]) -> EndpointSchema:
    route = {"name": "f", "route": "/f", "input": schema, "output": {}}
    return endpoints_in({"routes": [route]})["f"]


def taking(**properties: Mapping[str, Any]) -> EndpointSchema:
    return endpoint({"properties": properties})


def root(**schema: Any) -> EndpointSchema:
    return endpoint({**schema, "root_input": True})


def body(of: EndpointSchema, *args: object, **kwargs: object) -> Body:
    with ExitStack() as opened:
        made = body_of(of, args, kwargs, opened)
        # Files close with the stack, after an HTTP library has read them.
        files: list[tuple[str, FilePart]] = [
            (name, (file, io.BytesIO(content.read()), kind)) for name, (file, content, kind) in made.files
        ]
        return Body(content=made.content, content_type=made.content_type, texts=made.texts, files=files)


def content(of: Body) -> Any:
    return json.loads(of.content or b"null")


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("ä", "ä"),
        (None, None),
        (np.arange(2), [0, 1]),
        (np.float32(0.5), 0.5),
        ([np.eye(1)], [[[1.0]]]),
        (torch.ones(2, dtype=torch.bfloat16), [1.0, 1.0]),
        (Score(value=1), {"value": 1.0}),
        ({"scores": (Score(value=1),)}, {"scores": [{"value": 1.0}]}),
        (datetime(2024, 1, 2), "2024-01-02T00:00:00"),
        (pd.DataFrame({"a": [1, 2]}), [{"a": 1}, {"a": 2}]),
        (pd.Series([1, 2]), [1, 2]),
    ],
)
def test_values_go_as_json(value: object, sent: object) -> None:
    made = body(taking(a={}), value)

    assert (made.content_type, content(made)) == ("application/json", {"a": sent})


def test_numbers_that_are_none_go_as_such() -> None:
    assert body(taking(a={}), [float("nan"), float("inf")]).content == b'{"a":[NaN,Infinity]}'


def test_a_frame_goes_as_the_schema_lays_it_out() -> None:
    columns = {"type": "dataframe", "orient": "columns"}
    frame = pd.DataFrame({"a": [1, 2]})

    made = body(taking(a=columns, b={"type": "array", "items": columns}), frame, [frame])

    assert content(made) == {"a": {"a": [1, 2]}, "b": [{"a": [1, 2]}]}


@pytest.mark.parametrize("value", [object(), {1, object()}, Image.new("L", (1, 1)), b"\xff", {"a": "\ud800"}])
def test_what_cannot_be_json_is_told_with_its_endpoint(value: object) -> None:
    with pytest.raises(TypeError, match="f: cannot be sent as JSON"):
        body(taking(a={}), value)


def test_what_is_within_itself_cannot_be_sent() -> None:
    value: list[object] = []
    value.append(value)

    with pytest.raises(TypeError, match="f: cannot be sent as JSON"):
        body(taking(a={}), value)


def test_a_form_carries_files_and_the_rest_as_json() -> None:
    made = body(
        taking(file=FILE, note={"type": "string"}, box=ARRAY), b"content", note='"5"', box=np.arange(2)
    )

    ((name, (file_name, file, kind)),) = made.files
    assert (name, file_name, file.read(), kind) == ("file", "file", b"content", "application/octet-stream")
    assert made.texts == {"note": ['"\\"5\\""'], "box": ["[0,1]"]}


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"text")
    return path


@pytest.mark.parametrize("kind", [str, Path, lambda path: path.open("rb")])
def test_a_file_goes_with_its_name_and_kind(notes: Path, kind: Callable[[Path], Any]) -> None:
    value = kind(notes)

    ((_, (name, file, media_type)),) = body(taking(file=FILE), value).files

    assert (name, file.read(), media_type) == ("notes.txt", b"text", "text/plain")
    if isinstance(value, io.BufferedReader):
        value.close()


def test_a_file_that_was_opened_to_be_sent_is_closed(notes: Path) -> None:
    with ExitStack() as opened:
        ((_, (_, file, _)),) = body_of(taking(file=FILE), (notes,), {}, opened).files

    assert file.closed


def test_bytes_are_of_the_kind_that_the_endpoint_takes() -> None:
    audio = {**FILE, "content_type": "audio/mp3"}
    pattern = {**FILE, "content_type": "audio/*"}

    made = body(taking(a=audio, b=pattern), b"", b"")

    assert [kind for _, (_, _, kind) in made.files] == ["audio/mp3", "application/octet-stream"]


def test_a_url_stays_text_for_the_service_to_fetch() -> None:
    made = body(taking(file=FILE), "https://example.com/a.png")

    assert (made.texts, made.files) == ({"file": ["https://example.com/a.png"]}, [])


def test_several_files_have_one_name() -> None:
    many = {"type": "array", "items": FILE}

    made = body(taking(files=many), [b"a", "http://example.com", b"b"])

    assert [name for name, _ in made.files] == ["files", "files"]
    assert made.texts == {"files": ["http://example.com"]}


@pytest.mark.parametrize(
    "schema", [{**FILE, "default": None}, {"anyOf": [FILE, {"type": "null"}], "default": None}]
)
def test_a_file_that_is_none_is_left_out(schema: dict[str, Any]) -> None:
    made = body(taking(file=schema, n={"type": "integer"}), None, 1)

    assert (made.texts, made.files) == ({"n": ["1"]}, [])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F"])
def test_an_image_arrives_pixel_for_pixel(mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    image = Image.fromarray(pixels).convert(mode)

    ((_, (_, file, kind)),) = body(taking(image=IMAGE), image).files

    arrived = Image.open(file)
    assert kind in {"image/png", "image/tiff"}
    assert (arrived.mode, arrived.tobytes()) == (mode, image.tobytes())


def test_an_image_is_of_the_kind_that_the_endpoint_takes() -> None:
    made = body(taking(image={**IMAGE, "content_type": "image/jpeg"}), Image.new("RGB", (2, 2)))

    ((_, (name, file, kind)),) = made.files
    assert (name, kind, Image.open(file).format) == ("image.jpeg", "image/jpeg", "JPEG")


def test_what_is_no_file_is_told_with_what_is() -> None:
    with pytest.raises(TypeError) as caught:
        body(taking(file=FILE), 5)

    assert str(caught.value) == (
        "`file` of f takes a path, a URL, bytes, an open binary file or a PIL image, found int"
    )


def test_a_file_that_is_not_there_is_told_as_python_does(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        body(taking(file=FILE), tmp_path / "missing")


@pytest.mark.parametrize(
    ("schema", "value", "sent", "content_type"),
    [
        ({"type": "string"}, '"ä"', '"ä"'.encode(), "text/plain"),
        ({"type": "string", "format": "binary"}, b"\xff", b"\xff", "text/plain"),
        (FILE, b"\xff", b"\xff", "application/octet-stream"),
        (FILE, "https://example.com/a", b"https://example.com/a", "text/plain"),
        (ARRAY, np.arange(2), b"[0,1]", "application/json"),
        ({"type": "array", "items": {"type": "integer"}}, [1], b"[1]", "application/json"),
        ({"type": "integer"}, 5, b"5", "application/json"),
    ],
)
def test_a_root_value_is_the_whole_body(
    schema: dict[str, Any], value: object, sent: bytes, content_type: str
) -> None:
    made = body(root(**schema), value)

    assert (made.content, made.content_type) == (sent, content_type)


def test_a_root_file_is_of_the_kind_that_its_name_says(notes: Path) -> None:
    assert body(root(**FILE), notes).content_type == "text/plain"


def test_a_root_value_that_is_left_out_is_no_body() -> None:
    assert body(root(type="string", default="x")) == Body()
