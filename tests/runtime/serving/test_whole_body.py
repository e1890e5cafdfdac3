"""Endpoints whose one parameter is the whole body: what stands for it when nothing is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, Field
from tests.runtime.conftest import Call

import bentoml


class Params(BaseModel):
    steps: int = 25


@bentoml.service
class Whole:
    @bentoml.api
    def text(self, name: str = "you", /) -> str:
        return f"hello {name}"

    @bentoml.api
    def number(self, x: int = Field(default=3, gt=1), /) -> int:  # as pydantic's users write it
        return x

    @bentoml.api
    def model(self, params: Params = Params(), /) -> int:  # noqa: B008
        return params.steps

    @bentoml.api
    def file(self, file: Path | None = None, /) -> bool:
        return file is None

    @bentoml.api
    def required(self, x: int, /) -> int:
        return x


@pytest.mark.parametrize(
    ("path", "answer"), [("/text", "hello you"), ("/number", "3"), ("/model", "25"), ("/file", "true")]
)
def test_an_empty_body_stands_for_the_default(call: Call, path: str, answer: str) -> None:
    response = call(Whole, path)

    assert (response.status_code, response.text) == (200, answer)


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        ("/text", "there", "hello there"),
        ("/number", "5", "5"),
        ("/model", '{"steps": 4}', "4"),
        ("/file", "a", "false"),
    ],
)
def test_what_is_sent_wins_over_the_default(call: Call, path: str, body: str, answer: str) -> None:
    assert call(Whole, path, content=body).text == answer


def test_a_form_without_parts_stands_for_the_default(call: Call) -> None:
    response = call(
        Whole, "/number", content="--b--\r\n", headers={"content-type": "multipart/form-data; boundary=b"}
    )

    assert (response.status_code, response.text) == (200, "3")


def test_an_empty_body_is_refused_where_there_is_no_default(call: Call) -> None:
    assert call(Whole, "/required").status_code == 400


def test_the_schema_shows_the_default(call: Call) -> None:
    routes = {
        route["name"]: route["input"] for route in call(Whole, "/schema.json", method="GET").json()["routes"]
    }

    assert routes["text"] == {"default": "you", "type": "string", "root_input": True}
    assert (routes["model"]["default"], routes["model"]["root_input"]) == ({"steps": 25}, True)
    assert "default" not in routes["required"]
