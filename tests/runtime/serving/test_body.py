"""What public requests may look like, and what they are answered with."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Image as PIL_Image
from pydantic import BaseModel
from starlette.responses import Response
from tests.runtime.conftest import Call

import bentoml


class Params(BaseModel):
    prompt: str
    negative_prompt: str | None
    num_inference_steps: int = 25


class Label(BaseModel):
    name: str
    score: float


@bentoml.service
class Inputs:
    @bentoml.api
    def add(self, a: int, b: int = 1) -> int:
        return a + b

    @bentoml.api
    def describe(self, image: PIL_Image, params: Params) -> str:
        return (
            f"{image.mode} {image.size} {params.prompt} {params.negative_prompt} {params.num_inference_steps}"
        )

    @bentoml.api
    def total(self, arr: np.ndarray[Any, np.dtype[np.uint8]]) -> int:
        return int(arr.sum())

    @bentoml.api
    def modes(self, images: list[PIL_Image]) -> list[str]:
        return [image.mode for image in images]

    @bentoml.api
    def words(self, texts: list[str], note: str = "") -> list[str]:
        return [*texts, note]

    @bentoml.api
    def keywords(self, **kwargs: Any) -> Any:
        return kwargs


@bentoml.service
class Outputs:
    @bentoml.api
    def text(self) -> str:
        return "☃"

    @bentoml.api
    def raw(self) -> bytes:
        return b"\x00\xff"

    @bentoml.api
    def picture(self) -> PIL_Image:
        return Image.new("RGB", (2, 1))

    @bentoml.api
    def photo(self) -> PIL_Image:
        file = io.BytesIO()
        Image.new("RGB", (2, 1)).save(file, "JPEG")
        return Image.open(file)

    @bentoml.api
    def model(self) -> Label:
        return Label(name="cat", score=0.5)

    @bentoml.api
    def array(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.array([[1, 2]], np.float32)

    @bentoml.api
    def anything(self):  # type: ignore[no-untyped-def]  # what is tested
        return {
            "array": np.arange(2),
            "number": np.float32(1.5),
            "model": Label(name="cat", score=1),
            "pair": (1, 2),
        }

    @bentoml.api
    def annotated_otherwise(self) -> int:
        return np.int64(3)  # type: ignore[no-any-return]  # as happens

    @bentoml.api
    def nothing(self) -> None:
        return None

    @bentoml.api
    def response(self) -> Response:
        return Response("<p>", 201, media_type="text/html")

    @bentoml.api
    def unspeakable(self) -> Any:
        return object()

    @bentoml.api
    def forgetful(self) -> Any:
        return asyncio.sleep(0)

    @bentoml.api
    def forgetful_inside(self) -> Any:
        return {"later": asyncio.sleep(0)}


def png(mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (2, 1)).save(file, "PNG")
    return file.getvalue()


def test_fields_come_as_json(call: Call) -> None:
    assert call(Inputs, "/add", json={"a": 2}).json() == 3


@pytest.mark.parametrize(
    "content_type", ["", "application/json; charset=utf-8", "text/plain", "application/unheard-of"]
)
def test_a_body_of_no_known_type_is_json(call: Call, content_type: str) -> None:
    response = call(Inputs, "/add", content=b'{"a": 2, "b": 3}', headers={"content-type": content_type})

    assert response.json() == 5


def test_no_body_is_no_fields(call: Call) -> None:
    response = call(Inputs, "/add")

    assert (response.status_code, response.json()["error"]) == (
        400,
        "1 validation error for Input; a: Field required",
    )


def test_an_array_comes_as_nested_lists(call: Call) -> None:
    assert call(Inputs, "/total", json={"arr": [[1, 2], [3, 4]]}).json() == 10


def test_an_image_comes_as_a_file_beside_the_other_fields(call: Call) -> None:
    params = json.dumps({"prompt": "cat", "negative_prompt": None})
    response = call(Inputs, "/describe", files={"image": ("x.png", png())}, data={"params": params})

    assert response.text == "RGB (2, 1) cat None 25"


def test_a_form_may_hold_no_file(call: Call) -> None:
    assert call(Inputs, "/add", data={"a": "2", "b": "4"}).json() == 6


@pytest.mark.parametrize("modes", [["RGB"], ["RGB", "L", "1"]])
def test_files_for_a_list_come_under_one_name(call: Call, modes: list[str]) -> None:
    response = call(Inputs, "/modes", files=[("images", (f"{mode}.png", png(mode))) for mode in modes])

    assert response.json() == modes


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"texts": '["a", "b"]'}, ["a", "b", ""]),
        ({"texts": ["a", "b"]}, ["a", "b", ""]),
        ({"texts": "a", "note": '"quoted"'}, ["a", "quoted"]),
    ],
)
def test_text_in_a_form_is_json_or_itself(call: Call, data: dict[str, Any], expected: list[str]) -> None:
    assert call(Inputs, "/words", data=data).json() == expected


def test_json_that_calls_itself_a_form_is_json(call: Call) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}  # what `curl -d` says

    assert call(Inputs, "/add", content=b' {"a": 2, "b": 4}', headers=headers).json() == 6


def test_keywords_come_flat_or_nested(call: Call) -> None:
    assert call(Inputs, "/keywords", json={"a": 1, "kwargs": {"b": [2]}}).json() == {"b": [2], "a": 1}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Invalid JSON: EOF while parsing an object at line 1 column 1"),
        (b"\xff", "Invalid JSON: expected value at line 1 column 1"),
        (b"[" * 100_000, "Invalid JSON: recursion limit exceeded at line 1 column 202"),
        (b'{"a": NaN, "b": 1}', "Invalid JSON: expected value at line 1 column 7"),
        (b'{"a": -Infinity, "b": 1}', "Invalid JSON: invalid number at line 1 column 8"),
        (b"[1]", "Input should be an object"),
        (b'"a"', "Input should be an object"),
        (b"null", "Input should be an object"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused_in_words(call: Call, body: bytes, message: str) -> None:
    response = call(Inputs, "/add", content=body)

    assert response.status_code == 400
    assert [problem["msg"] for problem in response.json()["detail"]] == [message]


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=x", "multipart/form-data; boundary="],
)
def test_a_form_that_cannot_be_read_is_refused_in_words(call: Call, content_type: str) -> None:
    response = call(Inputs, "/add", content=b"--y\r\nnonsense", headers={"content-type": content_type})

    assert response.status_code == 400
    assert response.json()["error"]


def test_a_form_of_very_many_fields_is_read_or_refused(call: Call) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    response = call(Inputs, "/words", content=b"texts=a&" * 100_000, headers=form)

    assert response.status_code in (200, 400)


def test_json_for_a_file_is_refused_in_words(call: Call) -> None:
    response = call(
        Inputs, "/describe", json={"image": "x.png", "params": {"prompt": "", "negative_prompt": ""}}
    )

    assert response.status_code == 400
    [problem] = response.json()["detail"]
    assert (problem["loc"], problem["msg"]) == (["image"], "Value error, expected an image file, found str")


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        ("/text", "text/plain; charset=utf-8", "☃".encode()),
        ("/raw", "text/plain; charset=utf-8", b"\x00\xff"),
        ("/model", "application/json", b'{"name":"cat","score":0.5}'),
        ("/array", "application/json", b"[[1.0,2.0]]"),
        ("/nothing", "application/json", b"null"),
        ("/annotated_otherwise", "application/json", b"3"),
        (
            "/anything",
            "application/json",
            b'{"array":[0,1],"number":1.5,"model":{"name":"cat","score":1.0},"pair":[1,2]}',
        ),
    ],
)
def test_a_result_has_the_content_type_of_its_kind(
    call: Call, path: str, content_type: str, body: bytes
) -> None:
    response = call(Outputs, path)

    assert (response.status_code, response.headers["content-type"], response.content) == (
        200,
        content_type,
        body,
    )


@pytest.mark.parametrize(("path", "file_format"), [("/picture", "PNG"), ("/photo", "JPEG")])
def test_an_image_is_answered_as_a_file_of_its_format(call: Call, path: str, file_format: str) -> None:
    response = call(Outputs, path)

    assert response.headers["content-type"] == f"image/{file_format.lower()}"
    assert Image.open(io.BytesIO(response.content)).format == file_format


def test_a_response_is_answered_as_it_is(call: Call) -> None:
    response = call(Outputs, "/response")

    assert (response.status_code, response.headers["content-type"]) == (201, "text/html; charset=utf-8")


def test_a_result_that_nothing_can_write_is_the_services_own_failure(call: Call) -> None:
    assert call(Outputs, "/unspeakable").status_code == 500


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/unspeakable", "Outputs.unspeakable returned what JSON cannot carry: "),
        ("/forgetful", "Outputs.forgetful returned <coroutine object sleep at "),
        ("/forgetful_inside", "Outputs.forgetful_inside returned what JSON cannot carry: "),
    ],
)
def test_the_log_names_the_method_whose_result_nothing_can_write(
    call: Call, caplog: pytest.LogCaptureFixture, path: str, said: str
) -> None:
    call(Outputs, path)

    assert said in caplog.text


@pytest.mark.parametrize("path", ["/forgetful", "/forgetful_inside"])
def test_the_log_says_that_an_await_is_missing(
    call: Call, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    call(Outputs, path)

    assert "an `await` is missing" in caplog.text
