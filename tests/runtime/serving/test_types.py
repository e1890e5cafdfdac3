"""Types of parameters and results, over the wire and back."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
import pandas as pd
import pydantic
import pytest
import torch
from PIL import Image
from tests.runtime.conftest import Call
from typing_extensions import TypedDict

import bentoml
from bentoml.exceptions import UnservableException
from bentoml.validators import ContentType, DataframeSchema, DType, Shape


@dataclasses.dataclass
class Span:
    start: int
    stop: int = 10


class Point(TypedDict):
    x: int
    y: int


class Item(pydantic.BaseModel):
    name: str
    price: float = 1.5


def png(size: tuple[int, int] = (2, 1)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    return buffer.getvalue()


@dataclasses.dataclass
class Record:
    file: Path


class WithFile(bentoml.IODescriptor):
    file: Path
    array: np.ndarray
    n: int = 1


class Nested(pydantic.BaseModel):
    inner: list[WithFile] = []
    file: Optional[Path] = None  # noqa: UP045


@bentoml.service
class Types:
    @bentoml.api
    def span(self, value: Span) -> Span:
        return Span(value.start + 1, value.stop)

    @bentoml.api
    def point(self, value: Point) -> Point:
        return {"x": value["y"], "y": value["x"]}

    @bentoml.api
    def items(self, value: list[Item]) -> list[Item]:
        return value[::-1]

    @bentoml.api
    def shaped(self, value: Annotated[np.ndarray, Shape((2, -1)), DType("float32")]) -> Any:
        return [str(value.dtype), list(value.shape)]

    @bentoml.api
    def tensor(self, value: torch.Tensor) -> torch.Tensor:
        return value * 2

    @bentoml.api
    def narrow(self, value: Annotated[torch.Tensor, DType("float16"), Shape((2,))]) -> str:
        return str(value.dtype)

    @bentoml.api
    def frame(self, value: pd.DataFrame) -> pd.DataFrame:
        total: pd.DataFrame = value.assign(total=value.sum(axis=1))
        return total

    @bentoml.api
    def columns(
        self, value: Annotated[pd.DataFrame, DataframeSchema(orient="columns", columns=["a"])]
    ) -> Annotated[pd.DataFrame, DataframeSchema(orient="columns")]:
        return value

    @bentoml.api
    def series(self, value: pd.Series) -> pd.Series:
        return value + 1

    @bentoml.api
    def sizes(self, value: list[Path]) -> list[int]:
        return [path.stat().st_size for path in value]

    @bentoml.api
    def suffix(self, value: Path) -> list[Any]:
        return [value.suffix, value.is_absolute(), value.name.endswith("passwd")]

    @bentoml.api
    def audio(self, value: Annotated[Path, ContentType("audio/*")]) -> int:
        return value.stat().st_size

    @bentoml.api
    def maybe(self, value: Optional[Image.Image] = None) -> int:  # noqa: UP045  # as projects write it
        return -1 if value is None else value.width

    @bentoml.api
    def blob(self, value: bytes) -> bytes:
        return value[::-1]

    @bentoml.api
    def document(self) -> Path:
        path = Path(bentoml.get_current_service().folder) / 'a "quoted" name.txt'
        path.write_text("text")
        return path

    @bentoml.api
    def zeros(self) -> Annotated[bytes, ContentType("application/x-zeros")]:
        return bytes(3)

    @bentoml.api
    def whole_text(self, value: str, /) -> str:
        return value[::-1]

    @bentoml.api
    def whole_list(self, value: list[int], /) -> int:
        return sum(value)

    @bentoml.api
    def whole_image(self, value: Image.Image, /) -> list[int]:
        return list(value.size)

    @bentoml.api
    def whole_file(self, value: Path, /) -> int:
        return value.stat().st_size

    @bentoml.api(input_spec=Item)
    def spec(self, **params: Any) -> str:
        return f"{params['name']} {params['price']}"

    @bentoml.api
    def defaults(self, a: int = pydantic.Field(default=2, le=5), b: int = 3) -> int:
        return a * b

    @bentoml.api(input_spec=WithFile)
    def spec_with_file(self, **params: Any) -> str:
        return f"{params['file'].read_text()} {params['array'].sum()} {params['n']}"

    @bentoml.api
    def nested(self, value: Nested) -> str:
        return "taken"

    @bentoml.api
    def leak(self) -> Nested:
        return Nested(file=Path("/etc/hostname"))

    @bentoml.api
    def number(self, x: float = 1.0, ys: list[float] = [], array: Any = None) -> float:  # noqa: B006
        return x

    @bentoml.api
    def variadic(self, a: int = 0, **kwargs: Any) -> list[str]:
        return sorted(kwargs)

    @bentoml.api
    def wild(self) -> Annotated[Image.Image, ContentType("image/*")]:
        return Image.new("RGB", (1, 1))

    @bentoml.api
    def jpg(self) -> Annotated[Image.Image, ContentType("image/jpg")]:
        return Image.new("RGB", (1, 1))

    def __init__(self) -> None:
        import tempfile

        self.folder = tempfile.mkdtemp()


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("/span", {"start": 1}, {"start": 2, "stop": 10}),
        ("/point", {"x": 1, "y": 2}, {"x": 2, "y": 1}),
        ("/items", [{"name": "pen"}, {"name": "ink", "price": 2}],
         [{"name": "ink", "price": 2.0}, {"name": "pen", "price": 1.5}]),
        ("/shaped", [[1, 2, 3], [4, 5, 6]], ["float32", [2, 3]]),
        ("/shaped", [1, 2, 3, 4], ["float32", [2, 2]]),
        ("/tensor", [[1.0, 2.0]], [[2.0, 4.0]]),
        ("/frame", [{"a": 1, "b": 2}], [{"a": 1, "b": 2, "total": 3}]),
        ("/frame", {"a": [1], "b": [2]}, [{"a": 1, "b": 2, "total": 3}]),
        ("/columns", {"a": [1, 2], "b": [3, 4]}, {"a": [1, 2]}),
        ("/series", [1, 2], [2, 3]),
    ],
)  # fmt: skip
def test_a_value_comes_and_goes_as_json(call: Call, path: str, value: object, expected: object) -> None:
    assert call(Types, path, json={"value": value}).json() == expected


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("/shaped", [1, 2, 3], "expected an array of shape (2, ?), found (3,)"),
        ("/shaped", ["a"], "expected numbers, found an array of <U1"),
        ("/shaped", [[1], [1, 2]], "no array: "),
        ("/narrow", [1, 2, 3], "expected a tensor of shape (2,), found (3,)"),
        ("/tensor", "word", "expected a tensor, found str"),
        ("/tensor", [[1], [1, 2]], "no tensor: "),
        ("/frame", "word", "expected a list of rows or a mapping of columns, found str"),
        ("/frame", {"a": [1], "b": [1, 2]}, "no frame: "),
        ("/columns", [{"b": 1}], "expected the columns a; missing: a"),
        ("/series", {"a": 1}, "expected a list, found dict"),
        ("/suffix", "/etc/passwd", "expected a file, found str"),
        ("/maybe", "x.png", "expected an image file, found str"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(call: Call, path: str, value: object, words: str) -> None:
    response = call(Types, path, json={"value": value})

    assert response.status_code == 400
    assert response.json()["detail"][0]["msg"].startswith(f"Value error, {words}")


def test_files_arrive_in_a_folder_of_the_requests_own(call: Call) -> None:
    files = [("value", ("a.txt", b"12")), ("value", ("b.txt", b"345"))]

    assert call(Types, "/sizes", files=files).json() == [2, 3]
    assert call(Types, "/sizes", files=files[:1]).json() == [2]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("note.txt", [".txt", True, False]),
        ("../../etc/passwd", ["", True, True]),
        ("..\\..\\x.tar.gz", [".gz", True, False]),
        ("a/b\x00.png", [".png", True, False]),
    ],
)
def test_a_senders_name_is_no_path(call: Call, name: str, expected: list[object]) -> None:
    assert call(Types, "/suffix", files={"value": (name, b"x")}).json() == expected


@pytest.mark.parametrize(("kind", "status"), [("audio/mp3", 200), (None, 200), ("text/plain", 400)])
def test_a_file_has_the_type_that_is_asked_for(call: Call, kind: str | None, status: int) -> None:
    part = ("a", b"x", kind) if kind else ("a", b"x", "")

    assert call(Types, "/audio", files={"value": part}).status_code == status


@pytest.mark.parametrize(("request_", "expected"), [({"files": {"value": png()}}, 2), ({"json": {}}, -1)])
def test_a_file_may_be_left_out_where_it_is_optional(
    call: Call, request_: dict[str, Any], expected: int
) -> None:
    assert call(Types, "/maybe", **request_).json() == expected


def test_bytes_come_as_text_or_as_a_file(call: Call) -> None:
    assert call(Types, "/blob", json={"value": "abc"}).content == b"cba"
    assert call(Types, "/blob", files={"value": b"\xff\x00"}).content == b"\x00\xff"


def test_a_path_is_answered_as_a_file_with_its_name(call: Call) -> None:
    response = call(Types, "/document")

    assert (response.text, response.headers["content-type"]) == ("text", "text/plain; charset=utf-8")
    assert response.headers["content-disposition"].startswith("attachment; filename*=utf-8''a%20%22quoted%22")


def test_a_result_has_the_media_type_that_it_declares(call: Call) -> None:
    assert call(Types, "/zeros").headers["content-type"] == "application/x-zeros"


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/whole_text", b'"quoted"', '"detouq"'),
        ("/whole_list", b"[1, 2]", "3"),
        ("/whole_image", png((3, 2)), "[3, 2]"),
        ("/whole_file", b"1234", "4"),
    ],
)
def test_the_whole_body_may_be_one_value(call: Call, path: str, body: bytes, expected: str) -> None:
    assert call(Types, path, content=body).text == expected


def test_a_url_in_the_place_of_a_file_is_not_fetched_unless_asked_for(call: Call) -> None:
    response = call(Types, "/whole_file", content=b"http://127.0.0.1:9/x")

    assert response.status_code == 400
    assert response.json()["error"] == "expected a file, found a URL, and `http.fetch_urls` is off"


def test_a_url_of_this_network_is_never_fetched(call: Call) -> None:
    config = {"http": {"fetch_urls": True}}

    response = call(Types, "/suffix", data={"value": "http://127.0.0.1:9/x"}, config=config)

    assert response.status_code == 400
    assert "public" in response.json()["error"]


def test_the_fields_of_a_model_may_be_the_parameters(call: Call) -> None:
    assert call(Types, "/spec", json={"name": "pen"}).text == "pen 1.5"
    assert call(Types, "/spec", json={}).json()["detail"][0]["loc"] == ["name"]


def test_a_field_gives_its_default_in_process_too(call: Call) -> None:
    assert call(Types, "/defaults", json={}).json() == 6
    assert call(Types, "/defaults", json={"a": 6}).status_code == 400
    assert Types().defaults(b=5) == 10


def test_an_image_of_very_many_pixels_is_refused(call: Call) -> None:
    header = png()
    bomb = header[:16] + (40_000).to_bytes(4, "big") * 2 + header[24:]

    response = call(Types, "/whole_image", content=bomb)

    assert response.status_code == 400


def test_a_file_in_a_model_is_uploaded(call: Call) -> None:
    response = call(Types, "/spec_with_file", files={"file": b"text"}, data={"array": "[1, 2]", "n": "3"})

    assert response.text == "text 3 3"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/spec_with_file", {"file": "/etc/hostname", "array": [1]}),
        ("/nested", {"value": {"file": "/etc/hostname"}}),
        ("/nested", {"value": {"inner": [{"file": "/etc/hostname", "array": [1]}]}}),
    ],
)
def test_no_caller_names_a_file_of_the_server(call: Call, path: str, body: dict[str, Any]) -> None:
    response = call(Types, path, json=body)

    assert response.status_code == 400
    assert response.json()["detail"][0]["msg"] == "Value error, expected a file, found str"


def test_a_record_through_which_a_caller_could_name_a_file_is_not_served(call: Call) -> None:
    @bentoml.service
    class Open:
        @bentoml.api
        def read(self, record: list[Record]) -> str:
            return record[0].file.read_text()

    with pytest.raises(UnservableException, match=r"Open\.read: `record` has a file in a dataclass"):
        call(Open, "/read")


def test_a_file_inside_of_a_result_is_not_told_by_its_path(call: Call) -> None:
    response = call(Types, "/leak")

    assert (response.status_code, "/etc/hostname" in response.text) == (500, False)


@pytest.mark.parametrize(
    "body", [b'{"x": "NaN"}', b'{"x": 1e999}', b'{"x": NaN}', b'{"ys": ["inf"]}', b'{"ys": [1, -1e999]}']
)
def test_a_number_is_finite(call: Call, body: bytes) -> None:
    assert call(Types, "/number", content=body).status_code == 400


@pytest.mark.parametrize("body", [{"self": 1}, {"a": 1, "kwargs": {"a": 2}}])
def test_a_name_that_is_taken_is_refused_for_keywords(call: Call, body: dict[str, Any]) -> None:
    assert call(Types, "/variadic", json=body).status_code == 400


@pytest.mark.parametrize(("path", "kind"), [("/wild", "image/png"), ("/jpg", "image/jpeg")])
def test_an_image_has_a_format_of_its_media_type(call: Call, path: str, kind: str) -> None:
    assert call(Types, path).headers["content-type"] == kind
