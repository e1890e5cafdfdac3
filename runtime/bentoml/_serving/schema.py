"""`/schema.json`: what the clients of this interface read before they call.

The form is that of the interface's existing clients: definitions stand where they are used, and a choice
between types is told as its first.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from bentoml._service import Service
from bentoml._signature import EndpointSignature

STREAM_TYPE: Final = "text/event-stream"
"""The media type of a stream that declares none."""


class AnySchema(GenerateJsonSchema):
    """Says nothing about a type that JSON has no words for, such as a class with a check of its author's."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}


def signatures_of(service: Service[Any]) -> dict[str, EndpointSignature]:
    """The signature of every endpoint, by attribute.

    Raises:
        UnservableException: an annotation names nothing, or is of a type that no request can carry.
    """
    return {name: EndpointSignature(endpoint, service.name) for name, endpoint in service.endpoints.items()}


def service_schema(
    service: Service[Any], signatures: Mapping[str, EndpointSignature] | None = None
) -> dict[str, Any]:
    """The document for one service.

    Args:
        signatures: those of its endpoints, where they are there already.
    """
    signatures = signatures_of(service) if signatures is None else signatures
    routes = []
    for attribute, endpoint in sorted(service.endpoints.items(), key=lambda item: item[1].name):
        output = result_schema(signatures[attribute])
        if endpoint.is_stream:
            output |= {"is_stream": True, "media_type": signatures[attribute].media_type or STREAM_TYPE}
        elif signatures[attribute].media_type is not None:
            output["media_type"] = signatures[attribute].media_type
        route: dict[str, Any] = {
            "name": endpoint.name,
            "route": service.path_prefix + endpoint.route,
            "batchable": endpoint.batchable,
            "input": input_schema(signatures[attribute]),
            "output": output,
            "is_task": endpoint.is_task,
        }
        if endpoint.__doc__:
            route["doc"] = inspect.cleandoc(endpoint.__doc__)
        routes.append(route)
    document: dict[str, Any] = {"name": service.name, "type": "service", "routes": routes}
    if service.description:
        document["description"] = inspect.cleandoc(service.description)
    paths: dict[str, Any] = {route["route"]: {"mounted": False} for route in routes}
    for mount in service.mount_apps:
        start = (service.path_prefix + mount.path).rstrip("/")
        inner = [route.path for route in getattr(mount.app, "routes", []) if hasattr(route, "path")]
        paths |= {start + path: {"mounted": True} for path in inner or [""]}
    document["paths"] = paths
    return document


def input_schema(signature: EndpointSignature) -> dict[str, Any]:
    """The schema of what an endpoint takes, an object with a property for each parameter."""
    if signature.root is not None:
        document = signature.root_type.json_schema(schema_generator=AnySchema)
        return {**_inlined(document, document.get("$defs", {})), "root_input": True}
    return _model_schema(signature.input_model)


def result_schema(signature: EndpointSignature) -> dict[str, Any]:
    """The schema of a result, or of one item of a stream."""
    document = signature.output.json_schema(schema_generator=AnySchema)
    definitions = document.pop("$defs", {})
    # A choice of results stays one: the client must look at what has come.
    choices = {key: _inlined(document.pop(key), definitions) for key in ("anyOf", "oneOf") if key in document}
    return {**_inlined(document, definitions), **choices}


def _model_schema(model: type[BaseModel]) -> dict[str, Any]:
    document = model.model_json_schema(schema_generator=AnySchema)
    inlined = _inlined(document, document.get("$defs", {}))
    inlined.setdefault("properties", {})
    return dict(inlined)


def _inlined(schema: Any, definitions: Mapping[str, Any], seen: tuple[str, ...] = ()) -> Any:
    """The schema with what it refers to put in place, and each choice replaced by its first."""
    if isinstance(schema, list):
        return [_inlined(item, definitions, seen) for item in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if isinstance(reference, str):
        name = reference.removeprefix("#/$defs/")
        # A type that holds itself would never end.
        inner = (
            {"type": "object"} if name in seen else _inlined(definitions[name], definitions, (*seen, name))
        )
        return {**inner, **{key: value for key, value in schema.items() if key != "$ref"}}
    for choice in ("anyOf", "allOf", "oneOf"):
        if schema.get(choice):
            first = _inlined(schema[choice][0], definitions, seen)
            rest = {key: value for key, value in schema.items() if key != choice}
            return {**first, **_inlined(rest, definitions, seen)}
    return {key: _inlined(value, definitions, seen) for key, value in schema.items() if key != "$defs"}
