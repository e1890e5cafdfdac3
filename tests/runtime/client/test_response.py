from __future__ import annotations

import gc
import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from bentoml._client.response import Downloads, Sink, error_of, sink_for, value_of
from bentoml._client.schema import Schema, Unreadable
from bentoml.exceptions import (
    BentoMLException,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    RemoteException,
    ServiceUnavailable,
    TooManyRequests,
    UnprocessableEntity,
)

JSON = {"content-type": "application/json"}
TEXT = {"content-type": "text/plain; charset=utf-8"}
STRING: Schema = {"type": "string"}
FILE: Schema = {"type": "file", "format": "binary"}
IMAGE: Schema = {"type": "file", "format": "image", "pil": True}
ARRAY: Schema = {"type": "tensor", "format": "numpy-array"}
FRAME: Schema = {"type": "dataframe", "orient": "records"}


def image_file(kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (2, 3), (1, 2, 3)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("output", "headers", "body", "value"),
    [
        (STRING, TEXT, '"ä"'.encode(), '"ä"'),
        (STRING, JSON, b"text", "text"),  # as existing servers call it
        (STRING, JSON, b"null", None),
        ({**STRING, "media_type": "application/json"}, JSON, b"null", "null"),
        ({"anyOf": [STRING, {"type": "null"}]}, JSON, b"null", None),
        ({**STRING, "format": "binary"}, TEXT, b"\xff", b"\xff"),
        ({"type": "integer"}, JSON, b"5", 5),
        ({"type": "integer"}, {}, b"5", 5),
        ({"type": "number"}, JSON, b"NaN", pytest.approx(float("nan"), nan_ok=True)),
        ({"type": "object"}, {"content-type": "application/problem+json"}, b'{"a": 1}', {"a": 1}),
        ({"type": "object", "media_type": "x/y"}, {"content-type": "x/y"}, b'{"a": 1}', {"a": 1}),
        ({"type": "null"}, JSON, b"", None),
        ({"type": "integer"}, {"content-type": "text/html"}, b"<p>", "<p>"),
        ({"type": "integer"}, {"content-type": "image/png"}, b"\x89", b"\x89"),
        ({}, JSON, b"some text", "some text"),
        ({"anyOf": [STRING, {"type": "integer"}]}, JSON, b"some text", "some text"),
        (IMAGE, JSON, b"null", None),
        (ARRAY, JSON, b"null", None),
    ],
)
def test_a_body_is_of_the_type_that_the_schema_and_the_response_say(
    output: Schema, headers: dict[str, str], body: bytes, value: object
) -> None:
    assert value_of(body, headers, output) == value


@pytest.mark.parametrize(
    ("output", "body", "array"),
    [
        (ARRAY, b"[[1, 2]]", np.array([[1, 2]])),
        ({**ARRAY, "dtype": "uint8"}, b"[1, 2]", np.array([1, 2], np.uint8)),
        ({**ARRAY, "dtype": "float16", "shape": [2, 1]}, b"[1, 2]", np.array([[1], [2]], np.float16)),
        ({**ARRAY, "dtype": "datetime64[D]"}, b'["2024-01-02"]', np.array(["2024-01-02"], "M8[D]")),
    ],
)
def test_an_array_has_the_dtype_and_shape_of_the_schema(output: Schema, body: bytes, array: Any) -> None:
    value: Any = value_of(body, JSON, output)

    np.testing.assert_array_equal(value, array)
    assert value.dtype == array.dtype


def test_a_tensor_is_one_of_torch() -> None:
    value: Any = value_of(b"[1, 2]", JSON, {"type": "tensor", "format": "torch-tensor", "dtype": "float16"})

    assert torch.equal(value, torch.tensor([1, 2], dtype=torch.float16))


@pytest.mark.parametrize(
    ("output", "body"),
    [(FRAME, b'[{"a": 1, "b": "x"}]'), ({**FRAME, "orient": "columns"}, b'{"a": [1], "b": ["x"]}')],
)
def test_a_frame_is_made_of_rows_or_columns(output: Schema, body: bytes) -> None:
    frame: Any = value_of(body, JSON, output)

    pd.testing.assert_frame_equal(frame, pd.DataFrame({"a": [1], "b": ["x"]}))


def test_arrays_are_made_wherever_the_schema_says() -> None:
    model = {"type": "object", "properties": {"array": ARRAY}}
    output = {
        "$defs": {"Model": model},
        "type": "object",
        "properties": {
            "models": {"type": "array", "items": {"$ref": "#/$defs/Model"}},
            "pair": {"type": "array", "prefixItems": [ARRAY, {"type": "integer"}]},
        },
    }

    value: Any = value_of(b'{"models": [{"array": [1]}], "pair": [[2], 3], "other": [4]}', JSON, output)

    assert isinstance(value["models"][0]["array"], np.ndarray)
    assert isinstance(value["pair"][0], np.ndarray)
    assert (value["pair"][1], value["other"]) == (3, [4])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_an_image_is_read_whatever_its_kind(kind: str) -> None:
    image: Any = value_of(image_file(kind), {"content-type": "application/octet-stream"}, IMAGE)

    assert (image.format, image.size) == (kind, (2, 3))


@pytest.mark.parametrize(
    ("output", "body"),
    [
        ({"type": "object"}, b"{"),
        ({"type": "object"}, b"[" * 100_000 + b"]" * 100_000),
        (STRING, b"\xff"),
        (IMAGE, b"no image"),
        (IMAGE, image_file()[:50]),
        (IMAGE, image_file("EPS")),  # Pillow would start a program to read it
        (ARRAY, b'{"a": 1}'),
        (ARRAY, b"[[1], [1, 2]]"),
        ({**ARRAY, "dtype": "object"}, b"[1]"),
        ({**ARRAY, "dtype": "S1000000000"}, b'["a"]'),
        ({**ARRAY, "dtype": "nonsense"}, b"[1]"),
        ({**ARRAY, "dtype": "uint8"}, b"[1000]"),
        ({**ARRAY, "shape": [1_000_000_000]}, b"[1]"),
        ({"type": "tensor", "format": "torch-tensor"}, b'["a"]'),
        (FRAME, b"5"),
        (FRAME, b"[[1], 5]"),
        ({"$defs": {"A": {"$ref": "#/$defs/A"}}, "type": "array", "items": {"$ref": "#/$defs/A"}}, b"[1]"),
    ],
)
def test_a_body_that_is_not_what_the_schema_says_is_told(output: Schema, body: bytes) -> None:
    headers = TEXT if output.get("type") in {"string", "file"} else JSON

    with pytest.raises(Unreadable):
        value_of(body, headers, output)


def written(sink: Sink, *chunks: bytes) -> Path:
    with sink:
        for chunk in chunks:
            sink.write(chunk)
        path = sink.value()
    assert isinstance(path, Path)
    return path


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"content-disposition": 'attachment; filename="a b.txt"'}, "-a b.txt"),
        ({"content-disposition": "attachment; filename*=utf-8''%C3%A4.txt"}, "-ä.txt"),
        ({"content-disposition": 'attachment; filename="../../etc/passwd"'}, "-passwd"),
        ({"content-disposition": 'attachment; filename="..\\\\..\\\\evil.exe"'}, "-evil.exe"),
        ({"content-disposition": "attachment; filename*=utf-8''..%2F..%2Fevil%00.txt"}, "-evil.txt"),
        ({"content-disposition": 'attachment; filename=".."'}, "-.."),
        ({"content-disposition": f'attachment; filename="{"x" * 5000}.bin"'}, "xxx.bin"),
        ({"content-disposition": "nonsense; ="}, ""),
        ({"content-type": "audio/mpeg"}, ".mp3"),
        ({}, ""),
    ],
)
def test_a_file_ends_with_the_name_that_the_server_gives_and_lies_where_the_others_do(
    headers: dict[str, str], name: str
) -> None:
    downloads = Downloads()

    path = written(
        sink_for(FILE, {"content-type": "application/x-unknown", **headers}, downloads), b"a", b"b"
    )

    assert (path.read_bytes(), path.name.endswith(name)) == (b"ab", True)
    assert list(downloads.folder.iterdir()) == [path]


def test_files_of_one_name_are_two_files() -> None:
    downloads = Downloads()
    headers = {"content-disposition": 'attachment; filename="a.txt"', "content-type": "text/plain"}

    first, second = (written(sink_for(FILE, headers, downloads), each) for each in (b"1", b"2"))

    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")


def test_a_file_that_breaks_off_is_removed() -> None:
    downloads = Downloads()

    with suppress(ConnectionError), sink_for(FILE, TEXT, downloads) as sink:
        sink.write(b"half of")
        raise ConnectionError

    assert list(downloads.folder.iterdir()) == []


def test_files_are_gone_with_their_client() -> None:
    downloads = Downloads()
    path = written(sink_for(FILE, TEXT, downloads), b"")

    del downloads
    gc.collect()

    assert not path.parent.exists()


def test_an_optional_file_may_be_none() -> None:
    with sink_for(FILE, JSON, Downloads()) as sink:
        sink.write(b"null")
        assert sink.value() is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidArgument),
        (404, NotFound),
        (418, BentoMLException),
        (422, UnprocessableEntity),
        (429, TooManyRequests),
        (500, RemoteException),
        (503, ServiceUnavailable),
        (504, DeadlineExceeded),
    ],
)
def test_an_error_is_of_the_class_for_its_status(status: int, kind: type[BentoMLException]) -> None:
    error = error_of(status, b'{"error": "why"}')

    assert (type(error), error.status, str(error)) == (kind, status, "why")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": "why"}', "why"),
        (b'[{"error": "why"}]', "why"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (
            b'{"error": "2 validation errors", "detail": [{"loc": ["x", 0], "msg": "Field required"},'
            b' {"loc": [], "msg": "too much"}, "more"]}',
            "2 validation errors; x.0: Field required; too much; more",
        ),
        (
            b'{"error": "1 validation error for Input; x: Field required",'
            b' "detail": [{"loc": ["x"], "msg": "Field required"}]}',
            "1 validation error for Input; x: Field required",
        ),
        (b"plain text", "plain text"),
        (b"", "status 400"),
        (b'{"something": "else"}', '{"something": "else"}'),
        (b"\xff", "\ufffd"),
        (b"[" * 10_000, "[" * 2000),
    ],
)
def test_an_error_has_the_words_of_the_server(body: bytes, message: str) -> None:
    assert str(error_of(400, body)) == message
