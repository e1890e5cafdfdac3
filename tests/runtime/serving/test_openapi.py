from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from PIL.Image import Image as PIL_Image
from pydantic import BaseModel, BeforeValidator
from tests.runtime.conftest import Call

import bentoml


class Params(BaseModel):
    prompt: str


class Opaque:
    """A class that JSON has no words for."""


Checked = Annotated[Opaque, BeforeValidator(lambda _: Opaque())]


@bentoml.service(description="Draws.", path_prefix="/v1")
class Draw:
    @bentoml.api
    def draw(self, image: PIL_Image, params: Params, steps: int = 5) -> PIL_Image:
        """Draw it.

        In colours.
        """
        return image

    @bentoml.api(route="/sum")
    def total(self, arr: np.ndarray[Any, np.dtype[np.uint8]], **kwargs: float) -> int:
        return int(arr.sum())

    @bentoml.api
    def odd(self, x: Checked) -> None: ...

    @bentoml.api
    def greet(self, name: str = "you", /) -> str:
        return name

    @bentoml.api
    def shout(self, name: str, /) -> str:
        return name


def test_the_document_has_a_path_for_each_endpoint(call: Call) -> None:
    document = call(Draw, "/v1/docs.json", method="GET").json()

    assert (document["openapi"], document["info"]["title"], document["info"]["description"]) == (
        "3.1.0",
        "Draw",
        "Draws.",
    )
    assert list(document["paths"]) == ["/v1/draw", "/v1/sum", "/v1/odd", "/v1/greet", "/v1/shout"]


def test_an_endpoint_that_takes_a_file_takes_a_form(call: Call) -> None:
    operation = call(Draw, "/v1/docs.json", method="GET").json()["paths"]["/v1/draw"]["post"]
    body = operation["requestBody"]["content"]["multipart/form-data"]["schema"]

    assert operation["summary"] == "Draw it."
    assert body["properties"]["image"] == {"format": "binary", "title": "Image", "type": "string"}
    assert (body["properties"]["params"], body["required"]) == (
        {"$ref": "#/components/schemas/Params"},
        ["image", "params"],
    )
    assert list(operation["responses"]["200"]["content"]) == ["*/*"]


def test_models_are_described_once_for_all(call: Call) -> None:
    assert list(call(Draw, "/v1/docs.json", method="GET").json()["components"]["schemas"]) == [
        "Error",
        "Params",
    ]


def test_an_array_is_nested_lists_of_numbers(call: Call) -> None:
    operation = call(Draw, "/v1/docs.json", method="GET").json()["paths"]["/v1/sum"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]

    assert body["properties"]["arr"] == {"items": {}, "title": "Arr", "type": ["array", "number"]}
    assert body["additionalProperties"] is True


def test_a_class_that_json_has_no_words_for_does_not_hide_the_rest(call: Call) -> None:
    operation = call(Draw, "/v1/docs.json", method="GET").json()["paths"]["/v1/odd"]["post"]

    assert operation["requestBody"]["content"]["application/json"]["schema"]["properties"] == {
        "x": {"title": "X"}
    }


def test_a_body_that_is_one_value_with_a_default_is_not_required(call: Call) -> None:
    paths = call(Draw, "/v1/docs.json", method="GET").json()["paths"]
    bodies = [paths[path]["post"]["requestBody"] for path in ("/v1/greet", "/v1/shout")]

    assert [body["required"] for body in bodies] == [False, True]
    assert bodies[0]["content"]["text/plain"]["schema"] == {"default": "you", "type": "string"}


def test_the_start_page_shows_the_document(call: Call) -> None:
    page = call(Draw, "/v1/", method="GET")

    assert page.status_code == 200
    assert 'type="application/json" href="docs.json"' in page.text
