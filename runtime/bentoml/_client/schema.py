"""What a service's `/schema.json` says of its endpoints."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel

Schema = Mapping[str, object]

NOTHING: Final = object()

# A path on the service's own origin: `//host/path` would be one on another.
_ROUTE = re.compile(r"/(?!/)[^\s?#\\]*")


class Unreadable(ValueError):
    """An answer is not what the service's schema says, or no answer of a service at all."""


@dataclass(frozen=True, kw_only=True)
class EndpointSchema:
    """One endpoint, as a client knows it.

    Args:
        properties: the schema of each argument, in the order in which they may be given by position.
        required: those of them that have no default.
        takes_others: arguments of any other name are taken too.
        root: the schema of the one value that is the whole body, where it is not an object.
        is_root: the arguments are the fields of one value, which may be given instead of them.
    """

    name: str
    route: str
    properties: Mapping[str, Schema] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    takes_others: bool = False
    root: Schema | None = None
    is_root: bool = False
    output: Schema = field(default_factory=dict)
    is_task: bool = False
    description: str = ""

    @property
    def is_stream(self) -> bool:
        """Whether the result is a series of items rather than one value."""
        return self.output.get("is_stream") is True

    def __str__(self) -> str:
        if self.root is not None:
            return f"{self.name}({kind_of(self.root)})"
        arguments = [self._argument(name) for name in self.properties]
        return f"{self.name}({', '.join([*arguments, '...'] if self.takes_others else arguments)})"

    def _argument(self, name: str) -> str:
        schema = self.properties[name]
        default = repr(schema["default"]) if "default" in schema else "..."
        return f"{name}: {kind_of(schema)}" + ("" if name in self.required else f" = {default}")

    def arguments(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        """The call's arguments by name.

        Raises:
            TypeError: says what is wrong with them, and what the endpoint takes.
        """
        if self.is_root and len(args) == 1 and not kwargs:
            return self.arguments((), self._fields(args[0]))
        problems = []
        if len(args) > len(self.properties):
            problems.append(f"takes at most {len(self.properties)} by position, found {len(args)}")
        by_position = dict(zip(self.properties, args, strict=False))
        problems += [f"got `{name}` twice" for name in by_position.keys() & kwargs.keys()]
        given = {**by_position, **kwargs}
        if not self.takes_others:
            problems += [f"takes no `{name}`" for name in given if name not in self.properties]
        problems += [f"misses `{name}`" for name in self.required if name not in given]
        if problems:
            raise TypeError(f"{self.name}() {', '.join(problems)}: {self}")
        return given

    def root_value(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        """The one argument of a call whose body is that argument; `NOTHING` where it has a default.

        Raises:
            TypeError: there is not exactly one, given by position.
        """
        if not args and not kwargs and self.root is not None and "default" in self.root:
            return NOTHING
        if len(args) != 1 or kwargs:
            raise TypeError(
                f"{self.name}() takes one argument by position, found {len(args) + len(kwargs)}: {self}"
            )
        return args[0]

    def check(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        """Say now what is wrong with the arguments of a call that is sent later.

        Raises:
            TypeError: as `arguments` and `root_value` do.
        """
        if self.root is None:
            self.arguments(args, kwargs)
        else:
            self.root_value(args, kwargs)

    def _fields(self, value: object) -> dict[str, object]:
        if isinstance(value, BaseModel):
            return dict(value)
        if isinstance(value, Mapping):
            return {str(name): item for name, item in value.items()}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        raise TypeError(f"{self.name}() takes a mapping or a model, found {type(value).__name__}: {self}")


def is_file(schema: Schema) -> bool:
    """Whether a value of this schema is the content of a file, or several."""
    schema = plain(schema)
    return schema.get("type") == "file" or (
        schema.get("type") == "array" and plain(as_schema(schema.get("items"))).get("type") == "file"
    )


def plain(schema: Schema) -> Schema:
    """The schema of what a value is when it is there: that of `X` for `X | None`."""
    options = schema.get("anyOf")
    if isinstance(options, list):
        others = [option for option in map(as_schema, options) if option.get("type") != "null"]
        if len(others) == 1:
            return others[0]
    return schema


def as_schema(value: object) -> Schema:
    """The value if it is a schema that says anything; else one that says nothing, as `true` does."""
    return value if isinstance(value, dict) else {}


def kind_of(schema: Schema) -> str:
    """What a value of this schema is, in a word."""
    match plain(schema):
        case {"type": "file", "pil": True}:
            return "image"
        case {"type": "tensor"}:
            return "array of numbers"
        case {"type": str(kind)}:
            return kind
    return "any"


def endpoints_in(document: object) -> dict[str, EndpointSchema]:
    """The endpoints that a schema document lists, by name.

    Raises:
        Unreadable: the document is no schema of a service.
    """
    match document:
        case {"routes": [*routes]}:
            return {endpoint.name: endpoint for endpoint in map(_endpoint, routes)}
    raise Unreadable("expected an object with `routes`, as the schema of a service is")


def _endpoint(route: object) -> EndpointSchema:
    match route:
        case {"name": str(name), "route": str(path), "input": dict(takes), "output": dict(output), **others}:
            if not _ROUTE.fullmatch(path):
                raise Unreadable(f"route {path!r} of {name}: expected a path")
            properties, required = takes.get("properties"), takes.get("required")
            is_root = takes.get("root_input") is True
            fields = properties if isinstance(properties, dict) else None
            text = others.get("doc") or others.get("description")
            return EndpointSchema(
                name=name,
                route=path,
                properties={key: as_schema(item) for key, item in (fields or {}).items()},
                required=tuple(map(str, required)) if isinstance(required, list) else (),
                takes_others=takes.get("additionalProperties") is True,
                root=takes if is_root and fields is None else None,
                is_root=is_root,
                output=output,
                is_task=others.get("is_task") is True,
                description=text if isinstance(text, str) else "",
            )
    raise Unreadable(f"expected `name`, `route`, `input` and `output` of a route, found {str(route)[:200]}")
