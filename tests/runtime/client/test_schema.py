from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from bentoml._client.schema import NOTHING, EndpointSchema, Unreadable, endpoints_in

INTEGER = {"type": "integer"}


class Point(BaseModel):
    x: int
    y: int = 1


@dataclass
class Place:
    x: int
    y: int = 1


def endpoint_with(**schema: Any) -> EndpointSchema:
    route = {"name": "add", "route": "/add", "input": {"properties": {}}, "output": INTEGER, **schema}
    return endpoints_in({"routes": [route]})["add"]


@pytest.fixture
def add() -> EndpointSchema:
    properties = {"x": INTEGER, "y": {"type": "integer", "default": 1}}
    return endpoint_with(input={"properties": properties, "required": ["x"]})


@pytest.fixture
def root() -> EndpointSchema:
    properties = {"x": INTEGER, "y": {"type": "integer", "default": 1}}
    return endpoint_with(input={"properties": properties, "required": ["x"], "root_input": True})


@pytest.mark.parametrize(
    ("args", "kwargs", "arguments"),
    [
        ((1, 2), {}, {"x": 1, "y": 2}),
        ((1,), {"y": 2}, {"x": 1, "y": 2}),
        ((), {"x": 1}, {"x": 1}),
    ],
)
def test_arguments_by_position_take_the_names_in_their_order(
    add: EndpointSchema, args: tuple[Any, ...], kwargs: dict[str, Any], arguments: dict[str, Any]
) -> None:
    assert add.arguments(args, kwargs) == arguments


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {}, "misses `x`"),
        ((1,), {"x": 2}, "got `x` twice"),
        ((1,), {"z": 2}, "takes no `z`"),
        ((1, 2, 3), {}, "takes at most 2 by position, found 3"),
        ((), {"z": 2}, "takes no `z`, misses `x`"),
    ],
)
def test_arguments_that_do_not_fit_are_told_with_those_that_do(
    add: EndpointSchema, args: tuple[Any, ...], kwargs: dict[str, Any], problem: str
) -> None:
    with pytest.raises(TypeError) as caught:
        add.arguments(args, kwargs)

    assert str(caught.value) == f"add() {problem}: add(x: integer, y: integer = 1)"


def test_an_endpoint_may_take_arguments_of_any_name() -> None:
    endpoint = endpoint_with(input={"properties": {"x": INTEGER}, "additionalProperties": True})

    assert endpoint.arguments((1,), {"z": 2}) == {"x": 1, "z": 2}
    assert str(endpoint) == "add(x: integer = ..., ...)"


@pytest.mark.parametrize("value", [Point(x=5), Place(x=5), {"x": 5, "y": 1}])
def test_the_fields_of_a_root_model_may_be_given_as_one_value(root: EndpointSchema, value: object) -> None:
    assert root.arguments((value,), {}) == {"x": 5, "y": 1}


def test_the_fields_of_a_root_model_may_be_given_by_name(root: EndpointSchema) -> None:
    assert root.arguments((), {"x": 5}) == {"x": 5}


def test_a_root_model_is_no_number(root: EndpointSchema) -> None:
    with pytest.raises(TypeError, match=r"add\(\) takes a mapping or a model, found int: add\(x"):
        root.arguments((5,), {})


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2), {}), ((), {"x": 1})])
def test_a_root_value_is_one_argument_by_position(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    endpoint = endpoint_with(input={"type": "string", "root_input": True})

    with pytest.raises(TypeError, match=r"add\(\) takes one argument by position, found .*: add\(string\)"):
        endpoint.check(args, kwargs)


def test_a_root_value_that_has_a_default_may_be_left_out() -> None:
    endpoint = endpoint_with(input={"type": "string", "default": "x", "root_input": True})

    assert endpoint.root_value((), {}) is NOTHING


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "file", "pil": True}, "image"),
        ({"type": "file"}, "file"),
        ({"type": "tensor", "format": "numpy-array"}, "array of numbers"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, "string"),
        ({}, "any"),
        (True, "any"),
    ],
)
def test_an_endpoint_reads_as_its_signature(schema: object, text: str) -> None:
    endpoint = endpoint_with(input={"properties": {"a": schema}, "required": ["a"]})

    assert str(endpoint) == f"add(a: {text})"


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"routes": {"name": "add"}},
        {"routes": ["add"]},
        {"routes": [{"name": "add"}]},
        {"routes": [{"name": 1, "route": "/add", "input": {}, "output": {}}]},
        {"routes": [{"name": "add", "route": "/add", "input": [], "output": {}}]},
    ],
)
def test_a_document_that_is_no_schema_is_told(document: object) -> None:
    with pytest.raises(Unreadable, match="expected"):
        endpoints_in(document)


@pytest.mark.parametrize(
    "route", ["", "add", "//elsewhere/add", "http://elsewhere/add", "/add?x", "/a\r\nb", "/\\e"]
)
def test_a_route_stays_at_the_service(route: str) -> None:
    with pytest.raises(Unreadable, match="expected a path"):
        endpoint_with(route=route)


def test_a_schema_whose_parts_are_no_schemas_says_nothing() -> None:
    endpoint = endpoint_with(input={"properties": 5, "required": "x"}, output={"is_stream": "yes"}, doc=5)

    assert (endpoint.properties, endpoint.required, endpoint.is_stream) == ({}, (), False)
