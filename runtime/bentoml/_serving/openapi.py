"""The OpenAPI document of a service, from its endpoints' signatures."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from bentoml._endpoint import Endpoint
from bentoml._service import Service
from bentoml._serving.schema import STREAM_TYPE, AnySchema, signatures_of
from bentoml._signature import EndpointSignature
from bentoml._version import __version__

_ERROR = {
    "type": "object",
    "properties": {
        "error": {"type": "string", "description": "What is wrong, in words"},
        "type": {"type": "string", "description": "The exception's name, where it may be told"},
        "detail": {
            "type": "array",
            "items": {"type": "object"},
            "description": "Each field that does not fit",
        },
    },
    "required": ["error"],
}
_REFUSALS = {
    "400": "The request cannot be read, or does not fit the parameters",
    "413": "The body is larger than `traffic.max_request_size`",
    "429": "As many calls run as `traffic.max_concurrency` allows",
    "500": "The service failed; its log says why",
    "504": "The call took longer than `traffic.timeout`",
}


def openapi_document(
    service: Service[Any], signatures: Mapping[str, EndpointSignature] | None = None
) -> dict[str, Any]:
    """An OpenAPI 3.1 document with one path for each endpoint.

    Args:
        signatures: those of its endpoints, where they are there already.
    """
    signatures = signatures_of(service) if signatures is None else signatures
    definitions: dict[str, Any] = {"Error": _ERROR}
    paths = {
        service.path_prefix + endpoint.route: {"post": _operation(endpoint, signatures[name], definitions)}
        for name, endpoint in service.endpoints.items()
    }
    for endpoint in service.endpoints.values():
        if endpoint.is_task:
            paths |= _task_paths(service.path_prefix + endpoint.route, endpoint, paths)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": service.name,
            "description": inspect.cleandoc(service.description or ""),
            "version": __version__,
        },
        "paths": paths,
        "components": {"schemas": definitions},
    }


def _operation(
    endpoint: Endpoint, signature: EndpointSignature, definitions: dict[str, Any]
) -> dict[str, Any]:
    template = "#/components/schemas/{model}"
    options: dict[str, Any] = {"ref_template": template, "schema_generator": AnySchema}
    if signature.root is not None:
        body = signature.root_type.json_schema(**options)
    else:
        body = signature.input_model.model_json_schema(**options)
    result = signature.output.json_schema(**options)
    for schema in (body, result):
        definitions.update({name: _plain(one) for name, one in schema.pop("$defs", {}).items()})
    doc = inspect.getdoc(endpoint.func) or endpoint.name
    error = {"application/json": {"schema": {"$ref": template.format(model="Error")}}}
    responses: dict[str, Any] = {
        "200": {
            "description": "What the endpoint returns",
            "content": {_result_type(endpoint, signature): {"schema": _plain(result)}},
        }
    }
    responses |= {status: {"description": text, "content": error} for status, text in _REFUSALS.items()}
    return {
        "operationId": endpoint.name,
        "summary": doc.splitlines()[0],
        "description": doc,
        "requestBody": {
            "required": bool(body.get("required"))
            or (signature.root is not None and signature.without_body() is None),
            "content": {_body_type(signature): {"schema": _plain(body)}},
        },
        "responses": responses,
    }


def _task_paths(path: str, endpoint: Endpoint, paths: Mapping[str, Any]) -> dict[str, Any]:
    """What a task has beside its own path."""
    by_id = [{"name": "task_id", "in": "query", "required": True, "schema": {"type": "string"}}]
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    state = {"application/json": {"schema": {"type": "object"}}}

    def operation(name: str, summary: str, content: Any, **more: Any) -> dict[str, Any]:
        refusals = {status: {"description": _REFUSALS[status], "content": error} for status in ("400", "413")}
        missing = {"404": {"description": "There is no such task", "content": error}}
        good = {"200": {"description": summary, "content": content}}
        return {
            "operationId": f"{endpoint.name}_{name}",
            "summary": summary,
            "responses": good | refusals | missing,
            **more,
        }

    direct = paths[path]["post"]
    return {
        f"{path}/submit": {
            "post": operation(
                "submit", "Keep the request, to be run soon", state, requestBody=direct["requestBody"]
            )
        },
        f"{path}/status": {"get": operation("status", "How far it has come", state, parameters=by_id)},
        f"{path}/get": {
            "get": operation("get", "Its result", direct["responses"]["200"]["content"], parameters=by_id)
        },
        f"{path}/retry": {"post": operation("retry", "Submit it again", state, parameters=by_id)},
        f"{path}/cancel": {"put": operation("cancel", "Stop it", state, parameters=by_id)},
    }


def _body_type(signature: EndpointSignature) -> str:
    if signature.root is None:
        return "multipart/form-data" if signature.file_fields else "application/json"
    kinds = {"file": "application/octet-stream", "text": "text/plain", "json": "application/json"}
    return kinds[signature.root_kind]


def _result_type(endpoint: Endpoint, signature: EndpointSignature) -> str:
    if signature.media_type is not None:
        return signature.media_type
    if endpoint.is_stream:
        return STREAM_TYPE
    if signature.returns_file:
        return "*/*"
    return "text/plain" if signature.result_hint in (str, bytes) else "application/json"


def _plain(schema: Any) -> Any:
    """A schema with the types of this interface in words of JSON Schema."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    match schema.get("type"):
        case "file":
            return {**_others(schema), "type": "string", "format": "binary"}
        case "tensor":
            return {**_others(schema), **_nested(schema.get("shape"), schema.get("dtype"))}
        case "dataframe" if schema.get("orient") == "columns":
            return {**_others(schema), "type": "object", "additionalProperties": {"type": "array"}}
        case "dataframe":
            return {**_others(schema), "type": "array", "items": {"type": "object"}}
    return {key: _plain(value) for key, value in schema.items()}


def _others(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key in ("title", "description", "default")}


def _nested(shape: list[int] | None, dtype: str | None) -> dict[str, Any]:
    kind = "integer" if dtype is not None and dtype.lstrip("u").startswith("int") else "number"
    number: dict[str, Any] = {"type": "boolean" if dtype == "bool" else kind}
    if shape is None:
        return {"type": ["array", "number"], "items": {}}
    for side in reversed(shape):
        number = {"type": "array", "items": number}
        if side >= 0:
            number |= {"minItems": side, "maxItems": side}
    return number
