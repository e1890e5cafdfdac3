"""Classes that neither requests nor responses carry, found in what pydantic has made of an annotation."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from bentoml.codec._registry import of_kind

# Whatever is made of a value here was the annotation's author's to decide.
_OWN_CHECKS: Final = frozenset({"function-before", "function-wrap", "function-plain"})
_INNER: Final = ("schema", "items_schema", "keys_schema", "values_schema", "extras_schema")
# What peers send of these packages arrives as it was, and so do the interpreter's own types.
_CARRIED_PACKAGES: Final = frozenset({"builtins", "numpy", "pandas", "torch", "PIL", "ml_dtypes"})
_PLAIN_BASES: Final = (dict, list, tuple, set, frozenset, str, bytes, int, float)


def opaque_inputs(schema: Mapping[str, Any]) -> Iterator[tuple[str, type]]:
    """Classes of which a request brings no instance, each once, with the dotted place of its field."""
    return _Search(is_result=False).run(schema, ())


def opaque_results(schema: Mapping[str, Any]) -> Iterator[tuple[str, type]]:
    """Classes of which no response can be made, each once, with the dotted place of its field."""
    return _Search(is_result=True).run(schema, ())


class _Search:
    def __init__(self, *, is_result: bool) -> None:
        self._is_result = is_result
        self._definitions: dict[str, Mapping[str, Any]] = {}
        self._seen: set[str] = set()
        self._told: set[type] = set()

    def run(self, schema: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, type]]:
        if self._is_result and "function" in schema.get("serialization", {}):
            return
        match schema["type"]:
            case "is-instance":
                cls = schema["cls"]
                if isinstance(cls, type) and cls not in self._told and not self._is_known(cls):
                    self._told.add(cls)
                    yield ".".join(path), cls
            case kind if kind in _OWN_CHECKS and not (self._is_result and "schema" in schema):
                return
            case "definitions":
                self._definitions |= {one["ref"]: one for one in schema["definitions"]}
                yield from self.run(schema["schema"], path)
            case "definition-ref":
                name = schema["schema_ref"]
                if name not in self._seen and name in self._definitions:
                    self._seen.add(name)
                    yield from self.run(self._definitions[name], path)
            case _:
                for name, inner in self._inner(schema):
                    yield from self.run(inner, (*path, name) if name else path)

    def _is_known(self, cls: type) -> bool:
        return _is_carried(cls) or (self._is_result and _is_written(cls))

    def _inner(self, schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The schemas that one is made of, fields with their names in requests."""
        match schema:
            case {"type": "model-fields" | "typed-dict", "fields": fields}:
                for name, field in fields.items():
                    if self._is_result and field.get("serialization_exclude"):
                        continue
                    alias = field.get("validation_alias")
                    yield alias if isinstance(alias, str) else name, field["schema"]
            case {"type": "dataclass-args", "fields": fields}:
                yield from ((field["name"], field["schema"]) for field in fields)
            case {"choices": choices}:
                for choice in choices.values() if isinstance(choices, dict) else choices:
                    yield "", choice[0] if isinstance(choice, tuple) else choice
            case {"steps": [first, *_]} | {"json_schema": first} | {"lax_schema": first}:
                yield "", first
            case _:
                found = [schema[key] for key in _INNER if key in schema]
                yield from (
                    ("", one) for item in found for one in (item if isinstance(item, list) else [item])
                )


def _is_carried(cls: type) -> bool:
    """Whether a peer can send an instance."""
    package = cls.__module__.partition(".")[0]
    return package in _CARRIED_PACKAGES or issubclass(cls, BaseException) or of_kind(cls) is not None


def _is_written(cls: type) -> bool:
    """Whether a response can be made of an instance, by what it is or by what it can turn itself into."""
    response = getattr(sys.modules.get("starlette.responses"), "Response", None)
    bases = _PLAIN_BASES if response is None else (*_PLAIN_BASES, response)
    return issubclass(cls, bases) or hasattr(cls, "tolist")
