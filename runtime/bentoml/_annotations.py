"""Annotations as they are written, and the types that they say.

As objects they would depend on what is installed: `npt.ArrayLike` is one thing with one NumPy, another with
the next, and a placeholder with none. So they are read in the source of their module, where it is there.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import EllipsisType, ModuleType, UnionType
from typing import Any, Final

from bentoml._context import Context
from bentoml._placeholder import Placeholder

MAX_DEPTH: Final = 8
"""Levels of types in types; what is deeper is `Any`."""

_MAX_RECORDS: Final = 64
_SAME: Final[Mapping[str, str]] = {
    "List": "list",
    "Dict": "dict",
    "Tuple": "tuple",
    "Set": "set",
    "FrozenSet": "frozenset",
    "Deque": "deque",
    "DefaultDict": "defaultdict",
    "Type": "type",
    "NoneType": "None",
    "object": "Any",
}
_QUALIFIERS: Final = ("Annotated", "Final", "ClassVar", "Required", "NotRequired", "ReadOnly")
_SPELLED: Final = (ast.Name, ast.Attribute, ast.Subscript, ast.BinOp)


@dataclass(frozen=True)
class Type:
    """What an annotation says, however it is spelled: `t.Optional[np.ndarray]` is `None | ndarray`."""

    name: str
    arguments: tuple[Type, ...] = ()

    def __str__(self) -> str:
        inside = [str(argument) for argument in self.arguments]
        if self.name == "|":
            return " | ".join(inside)
        return f"{self.name}[{', '.join(inside)}]" if inside else self.name

    @property
    def members(self) -> tuple[Type, ...]:
        """The members of a union; of any other type, itself."""
        return self.arguments if self.name == "|" else (self,)


ANY: Final = Type("Any")
NONE: Final = Type("None")
DOTS: Final = Type("...")


@dataclass(frozen=True)
class Field:
    """A field of a model, dataclass or TypedDict, by the name under which it travels."""

    name: str
    type: Type
    is_required: bool


@dataclass(frozen=True)
class _Source:
    """What the text of a module says of its annotations.

    Attributes:
        annotations: of each function and class, by qualified name: its parameters or fields. A function's
            result is its `return`.
        imported: names that `from x import a as b` brings, with those that they have there.
        aliases: names that stand for another type.
    """

    annotations: dict[str, dict[str, ast.expr]] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, ast.expr] = field(default_factory=dict)

    def collect(self, body: Iterable[ast.AST], scope: str = "") -> None:
        for node in body:
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    self.annotations[scope + name] = _annotations_of(node)
                    self.collect(node.body, f"{scope}{name}.<locals>.")
                case ast.ClassDef(name=name):
                    self.annotations[scope + name] = {
                        one.target.id: one.annotation
                        for one in node.body
                        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
                    }
                    self.collect(node.body, f"{scope}{name}.")
                case ast.ImportFrom(names=names) if not scope:
                    self.imported.update((name.asname, name.name) for name in names if name.asname)
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.expr() as value) if not scope:
                    self._alias(name, value)
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if not scope:
                    self._alias(name, value)
                case ast.If() | ast.Try() | ast.With() | ast.ExceptHandler():
                    self.collect(ast.iter_child_nodes(node), scope)

    def _alias(self, name: str, value: ast.expr) -> None:
        if isinstance(value, _SPELLED):
            self.aliases[name] = value


def _annotations_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, ast.expr]:
    arguments = function.args
    named = (
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    )
    found = {one.arg: one.annotation for one in named if one is not None and one.annotation is not None}
    return found if function.returns is None else found | {"return": function.returns}


@dataclass(frozen=True)
class Home:
    """A module in which annotations stand: its text, and what its names are in this process."""

    source: _Source = field(default_factory=_Source)
    names: Mapping[str, object] = field(default_factory=dict)

    def find(self, name: ast.expr) -> object:
        """What a name, dotted or not, is here; None where that is not known. No module is loaded for it."""
        match name:
            case ast.Name(id=own):
                return self.names.get(own)
            case ast.Attribute(value=owner, attr=attribute):
                found = self.find(owner)
                return vars(found).get(attribute) if isinstance(found, ModuleType | type) else None
        return None


def home_of(thing: Any) -> Home:
    module = sys.modules.get(thing.__module__)
    if module is None:
        return Home()
    try:
        file = Path(module.__file__ or "")
        source = _source(file, file.stat().st_mtime_ns)
    except (AttributeError, OSError, SyntaxError, ValueError):
        source = _Source()  # made at run time, or not of Python's text: the annotations' objects have to do
    return Home(source, vars(module))


@lru_cache(maxsize=32)
def _source(file: Path, _modified_ns: int) -> _Source:
    source = _Source()
    source.collect(ast.parse(file.read_bytes(), str(file)).body)
    return source


def _is_of_project(kind: type) -> bool:
    top = kind.__module__.partition(".")[0]
    if top == "bentoml" or top in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(kind.__module__), "__file__", None) or "site-packages"
    return "site-packages" not in file and "dist-packages" not in file


def call_signature(func: Callable[..., Any]) -> inspect.Signature:
    """What a method's calls bring: all but the instance and the `Context`, with annotations as written."""
    home = home_of(func)
    written = home.source.annotations.get(func.__qualname__, {})
    signature = inspect.signature(func)
    _, *parameters = (
        parameter.replace(annotation=written.get(parameter.name, parameter.annotation))
        for parameter in signature.parameters.values()
    )
    return signature.replace(
        parameters=[parameter for parameter in parameters if not _is_context(parameter, home)],
        return_annotation=written.get("return", signature.return_annotation),
    )


def _is_context(parameter: inspect.Parameter, home: Home) -> bool:
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        return parameter.name in ("ctx", "context")
    if isinstance(annotation, str):
        annotation = _expression(annotation)
    found = home.find(annotation) if isinstance(annotation, ast.expr) else annotation
    # `bentoml.Context` cannot be found before it was used: the package brings it on demand.
    return found is Context or (found is None and _last_name(annotation) == "Context")


class Reader:
    """Reads the annotations of one endpoint, and those of the classes that they name."""

    def __init__(self) -> None:
        self._classes: dict[str, type] = {}
        self._ambiguous: set[str] = set()

    def read(self, annotation: object, home: Home, depth: int = 0) -> Type:
        """The type that an annotation says: an expression, its text, or an object."""
        if depth > MAX_DEPTH or annotation is inspect.Signature.empty:
            return ANY
        match annotation:
            case str(text) | ast.Constant(value=str(text)) | typing.ForwardRef(__forward_arg__=text):
                return self.read(_expression(text), home, depth + 1)
            case None | ast.Constant(value=None):
                return NONE
            case EllipsisType() | ast.Constant(value=EllipsisType()):
                return DOTS
            case ast.Name(id=name) if name in home.source.aliases:
                return self.read(home.source.aliases[name], home, depth + 1)
            case ast.Name(id=name):
                return self._named(home.source.imported.get(name, name), home.find(annotation))
            case ast.Attribute(attr=name):
                return self._named(name, home.find(annotation))
            case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inside):
                arguments = inside.elts if isinstance(inside, ast.Tuple) else [inside]
                return self._generic(home.source.imported.get(name, name), arguments, home, depth + 1)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return _union(self.read(one, home, depth) for one in (left, right))
            case ast.AST():
                return ANY
        return self._of_object(annotation, home, depth)

    def _of_object(self, annotation: Any, home: Home, depth: int) -> Type:
        if isinstance(annotation, Placeholder):
            return ANY  # of `Image | None` it keeps the first name alone
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        named = annotation if origin is None else origin
        name = getattr(named, "__name__", None) or getattr(named, "_name", None) or "Any"
        if named is typing.Union or named is UnionType:
            name = "Union"
        if arguments:
            return self._generic(name, arguments, home, depth + 1)
        return self._named(name, annotation)

    def _named(self, name: str, found: object) -> Type:
        if not name.isidentifier():
            return ANY
        if (
            isinstance(found, type)
            and _is_of_project(found)
            and self._classes.setdefault(name, found) is not found
        ):
            self._ambiguous.add(name)
        return Type(_SAME.get(name, name))

    def _generic(self, name: str, arguments: Sequence[object], home: Home, depth: int) -> Type:
        name = _SAME.get(name, name)
        if name in _QUALIFIERS:
            return self.read(arguments[0], home, depth)
        if name == "Literal":
            return _union(map(_type_of_literal, arguments))
        types = [self.read(argument, home, depth) for argument in arguments]
        if name in ("Optional", "Union"):
            return _union([*types, *([NONE] if name == "Optional" else [])])
        if name == "dtype":
            return types[0]
        if name in ("ndarray", "NDArray"):
            return Type("ndarray", (ANY, types[-1]))  # a shape is checked with the values
        return Type(name, tuple(types))

    def records(self) -> dict[str, tuple[Field, ...]]:
        """The fields of the classes that were named, and of those that their fields name."""
        found: dict[str, tuple[Field, ...]] = {}
        read: set[str] = set()
        while unread := self._classes.keys() - read:
            name = min(unread)
            read.add(name)
            fields = self.fields(self._classes[name])
            if fields is not None and len(found) < _MAX_RECORDS:
                found[name] = fields
        return {name: fields for name, fields in found.items() if name not in self._ambiguous}

    def fields(self, kind: object) -> tuple[Field, ...] | None:
        """The fields of a model, dataclass or TypedDict; None of any other class."""
        if not isinstance(kind, type) or (fields := _fields_of(kind)) is None:
            return None
        written: dict[str, tuple[object, Home]] = {}
        for base in filter(_is_of_project, reversed(kind.__mro__)):
            home = home_of(base)
            annotations = home.source.annotations.get(base.__qualname__, {})
            written.update((name, (annotation, home)) for name, annotation in annotations.items())
        found = []
        for one in fields:
            annotation, home = written.get(one.attribute, (one.annotation, home_of(kind)))
            # Python's own list of required keys takes `NotRequired` that stands in a string for required.
            is_required = one.is_required and _last_name(getattr(annotation, "value", None)) != "NotRequired"
            found.append(Field(one.name, self.read(annotation, home), is_required))
        return tuple(found)


@dataclass(frozen=True)
class _Declared:
    attribute: str
    name: str
    annotation: object
    is_required: bool


def _fields_of(kind: Any) -> list[_Declared] | None:
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(kind, pydantic.BaseModel):
        if issubclass(kind, pydantic.RootModel):
            return None  # it travels as the value it holds
        return [
            _Declared(name, _wire_name(name, info.validation_alias), info.annotation, info.is_required())
            for name, info in kind.model_fields.items()
        ]
    if dataclasses.is_dataclass(kind):
        return [
            _Declared(one.name, one.name, one.type, one.default is one.default_factory is dataclasses.MISSING)
            for one in dataclasses.fields(kind)
            if one.init
        ]
    if hasattr(kind, "__required_keys__"):
        required = kind.__required_keys__
        return [_Declared(name, name, hint, name in required) for name, hint in kind.__annotations__.items()]
    return None


def _wire_name(name: str, alias: object) -> str:
    return alias if isinstance(alias, str) and alias.isprintable() and "`" not in alias else name


def _last_name(expression: object) -> str | None:
    match expression:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return None


def _expression(text: str) -> object:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return Any


def _union(types: Iterable[Type]) -> Type:
    members = sorted({member for one in types for member in one.members}, key=str)
    return members[0] if len(members) == 1 else Type("|", tuple(members))


def _type_of_literal(value: object) -> Type:
    if isinstance(value, ast.Constant):
        value = value.value
    if isinstance(value, ast.UnaryOp):  # a number below zero
        return Type("int")
    is_plain = value is None or isinstance(value, str | bytes | bool | int)
    return Type(_SAME.get(type(value).__name__, type(value).__name__)) if is_plain else ANY
