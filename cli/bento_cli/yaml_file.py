"""A YAML file: its data, and the line that each value stands on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from bento_cli.errors import InputError, NotFoundError, Problem, nearest, shown

M = TypeVar("M", bound=BaseModel)

_Loader: TypeAlias = "type[yaml.SafeLoader] | type[yaml.CSafeLoader]"

# Where PyYAML comes without libyaml, its own.
_FAST: _Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_BYTES = 1 << 20
_MAX_DEPTH = 50
_EXPECTED = {
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
}


class FileModel(BaseModel):
    """A part of a file that a person writes: what it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class YamlFile:
    """Parsed YAML, and where it stands.

    Args:
        lines: the line of each key and list item by its location, written as texts.
        columns: the same of columns, as far as they are known.
    """

    path: Path
    data: object
    lines: dict[tuple[str, ...], int]
    columns: dict[tuple[str, ...], int] = field(default_factory=dict)

    def line_of(self, location: Sequence[str | int]) -> int | None:
        """The line of a value, or of the nearest thing around it that the file has."""
        return self.lines.get(self._known(location))

    def problem(self, location: Sequence[str | int], message: str) -> Problem:
        """A problem with the value at `location`."""
        known = self._known(location)
        return Problem(self.path, self.lines.get(known), message, self.columns.get(known))

    def _known(self, location: Sequence[str | int]) -> tuple[str, ...]:
        """The location of a value, or of the nearest thing around it that the file has."""
        known = tuple(str(part) for part in location)
        while known and known not in self.lines:
            known = known[:-1]
        return known


def load_yaml(path: Path, *, missing_hint: str | None = None) -> YamlFile:
    """Read a YAML file whose top level is a mapping.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is no YAML, says a key twice, or its top level is no mapping.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{shown(path)}: no such file", hint=missing_hint) from None
    except IsADirectoryError:
        message = f"{shown(path)}: is a folder, expected a YAML file"
        raise NotFoundError(message, hint=missing_hint) from None
    except OSError as error:
        raise InputError([Problem(path, None, f"cannot be read: {error.strerror}")]) from None
    if len(raw) > _MAX_BYTES:
        raise InputError([Problem(path, None, f"has more than the {_MAX_BYTES} bytes that are allowed")])
    return parse_yaml(raw, path)


def parse_yaml(raw: bytes | str, path: Path) -> YamlFile:
    """The same for text that is there already; `path` is where it came from.

    Raises:
        InputError: it is no YAML, says a key twice, or its top level is no mapping.
    """
    text = _decoded(raw, path) if isinstance(raw, bytes) else raw
    places: dict[tuple[str, ...], tuple[int, int]] = {}
    problems: list[Problem] = []
    try:
        node, data = _composed(text, path)
        for location, start, what in _walk(node, ()) if node is not None else ():
            line, column = start.line + 1, start.column + 1
            places.setdefault(location, (line, column))
            if what is not None:
                problems.append(Problem(path, line, what, column))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = (mark.line + 1, mark.column + 1) if mark else (None, None)
        message = f"not YAML: {error.problem or error.context}"
        raise InputError([Problem(path, place[0], message, place[1])]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"not YAML: the character U+{error.character:04X} cannot stand in it"
        raise InputError([Problem(path, line, message)]) from None
    except ValueError as error:  # a date such as 2026-02-31
        raise InputError([Problem(path, None, f"a value cannot be read: {error}")]) from None
    if problems:
        raise InputError(problems)
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise InputError([Problem(path, 1, f"expected keys and values, found {_kind(data)}")])
    lines = {location: line for location, (line, _) in places.items()}
    return YamlFile(path, data, lines, {location: column for location, (_, column) in places.items()})


def validate(file: YamlFile, model: type[M]) -> M:
    """The file's data as `model`.

    Raises:
        InputError: every value that does not fit, with its line and the nearest valid name.
    """
    try:
        return model.model_validate(file.data)
    except ValidationError as error:
        raise InputError(list(_problems(file, model, error))) from None


def without_problems(file: YamlFile, model: type[BaseModel]) -> YamlFile:
    """The file without what does not fit the model, so that more may be found out about the rest."""
    try:
        model.model_validate(file.data)
    except ValidationError as error:
        data = file.data
        for item in error.errors():
            data = _without(data, location_of(item))
        return replace(file, data=data)
    return file


def _without(data: object, location: Sequence[str | int]) -> object:
    """Data without a value; without what is around it where that is a list, whose others would move up."""
    first, *rest = location
    if not isinstance(data, dict) or first not in data:
        return data
    if rest and isinstance(inner := data[first], dict) and rest[0] in inner:
        return {**data, first: _without(inner, rest)}
    return {key: value for key, value in data.items() if key != first}


def _problems(file: YamlFile, model: type[BaseModel], error: ValidationError) -> Iterator[Problem]:
    for item in error.errors():
        location = location_of(item)
        where = ".".join(str(part) for part in location)
        if item["type"] == "extra_forbidden":
            yield file.problem(location, f"unknown field `{where}`{_nearest_field(model, location)}")
        elif item["type"] == "missing":
            yield file.problem(location, f"`{where}` is missing")
        else:
            yield file.problem(location, f"`{where}`: {in_words(item, model)}")


def location_of(error: ErrorDetails) -> tuple[str | int, ...]:
    """Where the value stands, or the key, that an error is about."""
    location = error["loc"]
    return location[:-1] if location[-1:] == ("[key]",) else location  # pydantic's word for a mapping's key


def _nearest_field(model: type[BaseModel], location: Sequence[str | int]) -> str:
    known = fields_at(model, location[:-1])
    return nearest(str(location[-1]), known, "valid") if known else ""


def in_words(error: ErrorDetails, model: type[BaseModel]) -> str:
    """What is wrong with a value, in the words of YAML."""
    if error["type"] == "extra_forbidden":
        return f"unknown field{_nearest_field(model, location_of(error))}"
    if error["type"] == "missing":
        return "missing"
    expected = _EXPECTED.get(error["type"])
    if expected is None:
        message = error["msg"].removeprefix("Value error, ")
        return f"{message[:1].lower()}{message[1:]}"
    found = error["input"]
    quotes = ": write it in quotes" if expected == "text" and isinstance(found, bool | int | float) else ""
    return f"expected {expected}, found {_kind(found)}{quotes}"


def fields_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Names of the fields that are valid at `location` of a model; empty where any name is."""
    current: object = model
    for part in location:
        current = _inside(current, part)
    for found in _models_in(current):
        return [field.alias or name for name, field in found.model_fields.items()]
    return []


def _inside(annotation: object, part: str | int) -> object:
    """The type of what stands at a key or index of a value; None where there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.items()
        return next((field.annotation for name, field in fields if part in (name, field.alias)), None)
    arguments = [argument for argument in get_args(annotation) if argument is not Ellipsis]
    if get_origin(annotation) in (tuple, list, dict):
        return arguments[-1]
    return next(filter(None, (_inside(argument, part) for argument in arguments)), None)


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """The models among a type and the alternatives of a union, not those inside a list or mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) not in (tuple, list, dict):
        for argument in get_args(annotation):
            yield from _models_in(argument)


def _walk(
    node: yaml.Node, location: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], yaml.Mark, str | None]]:
    """Every key and list item below a node: its location, its place, and what is wrong with it."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else f"{key_node.start_mark.line}"
            what = f"`{key}` stands here a second time" if key in seen else _unwritable(key_node, value_node)
            seen.add(key)
            yield (*location, key), key_node.start_mark, what
            yield from _walk(value_node, (*location, key))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*location, str(index)), item.start_mark, _unwritable(item)
            yield from _walk(item, (*location, str(index)))


def _unwritable(*nodes: yaml.Node) -> str | None:
    """What is wrong with a text that an escape made of half a character: no file can hold it."""
    for node in nodes:
        if isinstance(node, yaml.ScalarNode) and any("\ud800" <= c <= "\udfff" for c in node.value):
            return "half of a surrogate pair: write the character itself, or as `\\UXXXXXXXX`"
    return None


def read_text(path: Path) -> str:
    """A whole file of text that people write.

    Raises:
        InputError: it cannot be read, or is not UTF-8.
    """
    try:
        return _decoded(path.read_bytes(), path)
    except OSError as error:
        raise InputError([Problem(path, None, f"cannot be read: {error.strerror}")]) from None


def _decoded(raw: bytes, path: Path) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError([Problem(path, line, f"not UTF-8: the byte 0x{raw[error.start]:02X}")]) from None


def _composed(text: str, path: Path) -> tuple[yaml.Node | None, object]:
    """The tree of a text, and its data; read by libyaml, and what that refuses by what has better words."""
    try:
        return _composed_by(_FAST, text, path)
    except (yaml.YAMLError, UnicodeEncodeError):
        return _composed_by(yaml.SafeLoader, text, path)


def _composed_by(reader: _Loader, text: str, path: Path) -> tuple[yaml.Node | None, object]:
    _require_small_tree(reader, text, path)
    loader = reader(text)
    node = loader.get_single_node()
    return node, loader.construct_document(node) if node is not None else None


def _require_small_tree(reader: _Loader, text: str, path: Path) -> None:
    """Refuse what makes a huge tree of a small file, before there is any tree."""
    depth = 0
    for event in yaml.parse(text, reader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        line = event.start_mark.line + 1 if event.start_mark else None
        if isinstance(event, yaml.AliasEvent):
            message = f"the alias `*{event.anchor}`: write the value out, aliases are not read here"
            raise InputError([Problem(path, line, message)])
        if depth > _MAX_DEPTH:
            raise InputError([Problem(path, line, f"nested more than {_MAX_DEPTH} deep")])


def _kind(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case list():
            return "a list"
        case dict():
            return "keys and values"
        case str():
            return f"the text {value!r}"
        case bool():
            return f"`{str(value).lower()}`"
    return f"the number {value}" if isinstance(value, int | float) else f"a {type(value).__name__}"
