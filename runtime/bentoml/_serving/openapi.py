"""The OpenAPI document of a service, from its endpoints' signatures."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from bentoml._service import Service
from bentoml._signature import EndpointSignature
from bentoml._version import __version__


def openapi_document(service: Service[Any], signatures: Mapping[str, EndpointSignature]) -> dict[str, Any]:
    """An OpenAPI 3.1 document with one path for each endpoint."""
    definitions: dict[str, Any] = {}
    paths = {
        service.path_prefix + endpoint.route: {
            "post": _operation(name, inspect.getdoc(endpoint.func), signatures[name], definitions)
        }
        for name, endpoint in service.endpoints.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": service.name, "description": service.description or "", "version": __version__},
        "paths": paths,
        "components": {"schemas": definitions},
    }


def _operation(
    name: str, doc: str | None, signature: EndpointSignature, definitions: dict[str, Any]
) -> dict[str, Any]:
    template = "#/components/schemas/{model}"
    body = signature.input_model.model_json_schema(ref_template=template, schema_generator=_AnySchema)
    result = signature.output.json_schema(ref_template=template, schema_generator=_AnySchema)
    for schema in (body, result):
        definitions.update(schema.pop("$defs", {}))
    takes_files = any(_is_file(field) for field in body.get("properties", {}).values())
    media_type = "multipart/form-data" if takes_files else "application/json"
    result_type = "image/*" if _is_file(result) else "application/json"
    return {
        "operationId": name,
        "summary": (doc or name).splitlines()[0],
        "requestBody": {"required": True, "content": {media_type: {"schema": body}}},
        "responses": {
            "200": {"description": "What the endpoint returns", "content": {result_type: {"schema": result}}},
            "400": {"description": "The request does not fit the parameters"},
        },
    }


class _AnySchema(GenerateJsonSchema):
    """Says nothing about a type that JSON has no words for, such as a class that only peers can send."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}


def _is_file(schema: Mapping[str, Any]) -> bool:
    return bool(schema.get("format") == "binary") or any(_is_file(s) for s in schema.get("anyOf", ()))
