"""An endpoint's contract: what it takes and returns, in a form that two versions of a project can compare.

During a rolling update a caller's image and its peer's hold different versions of one class. Where their
contracts have one hash, nothing is compared. Annotations are therefore read *as they are written*, in the
source of the endpoint's module: as objects they would depend on what is installed, for `npt.ArrayLike` is
one thing with one NumPy, another with the next, and a placeholder with none.

What is called breaking surely is: text for a number, an argument that the peer has no more. A name of which
nothing is known (a `NewType`, a class that one side does not see) fits anything, and so does what depends on
values (a `Literal`, a validator, the range of an integer): the peer checks every value it is called with.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import json
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import zip_longest
from pathlib import Path
from types import EllipsisType, ModuleType, UnionType
from typing import Any, Final, Literal

from bentoml._context import Context
from bentoml._endpoint import Endpoint
from bentoml._placeholder import Placeholder
from bentoml.exceptions import BadInput

MAX_SIZE: Final = 8192
"""Characters of a contract's text at most."""

Kind = Literal["root", "positional", "keyword", "args", "kwargs"]

_FORMAT: Final = 1
_MAX_DEPTH: Final = 8  # of types in types; what is deeper is `Any`
_MAX_RECORDS: Final = 64
_REST: Final = "*args"
_KINDS: Final[Mapping[Any, Kind]] = {
    inspect.Parameter.POSITIONAL_ONLY: "root",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
    inspect.Parameter.VAR_POSITIONAL: "args",
    inspect.Parameter.VAR_KEYWORD: "kwargs",
}


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
_NONE: Final = Type("None")
_DOTS: Final = Type("...")


@dataclass(frozen=True)
class Parameter:
    """A parameter of an endpoint, or a field of a record."""

    name: str
    kind: Kind
    type: Type
    is_required: bool


@dataclass(frozen=True)
class Contract:
    """What an endpoint takes and returns.

    Attributes:
        parameters: in their order, without the instance and the `Context`.
        result: the type of it; for a stream, of one item.
        records: the fields of the project's models, dataclasses and TypedDicts that the types name, as far
            as this process has these classes.
    """

    parameters: tuple[Parameter, ...]
    result: Type
    is_stream: bool = False
    records: Mapping[str, tuple[Parameter, ...]] = field(default_factory=dict)

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits, equal in all processes that have the same source and see its classes."""
        return hashlib.blake2b(self.text().encode(), digest_size=8).hexdigest()

    def text(self) -> str:
        """The contract as JSON, in ASCII; `parse` reads it."""
        records = {name: _parameters_data(fields) for name, fields in self.records.items()}
        data = [_FORMAT, _parameters_data(self.parameters), _type_data(self.result), self.is_stream, records]
        return json.dumps(data, separators=(",", ":"), sort_keys=True)

    @classmethod
    def parse(cls, text: str) -> Contract:
        """Read what a peer sent.

        Raises:
            BadInput: the text is no contract of this format, or too long for one.
        """
        if len(text) > MAX_SIZE:
            raise BadInput(f"a contract of {len(text)} characters, expected {MAX_SIZE} at most")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"a contract that is not JSON: {error}") from None
        match data:
            case [int(number), [*parameters], result, bool(is_stream), dict(records)] if number == _FORMAT:
                return cls(
                    _read_parameters(parameters),
                    _read_type(result),
                    is_stream,
                    {_read_name(name): _read_parameters(fields) for name, fields in records.items()},
                )
        raise BadInput(f"a contract that is not of format {_FORMAT}")

    @cached_property
    def named(self) -> Mapping[str, Parameter]:
        """The parameters that may be passed by name."""
        return {one.name: one for one in self.parameters if one.kind in ("positional", "keyword")}

    @property
    def root(self) -> Parameter | None:
        """The one parameter whose value is the whole body."""
        return self.only("root")

    def only(self, kind: Literal["root", "args", "kwargs"]) -> Parameter | None:
        """The parameter of a kind of which there is one at most."""
        return next((parameter for parameter in self.parameters if parameter.kind == kind), None)

    def places(self, count: int) -> list[str]:
        """Where the first `count` positional arguments go; less where the endpoint does not take so many."""
        names = [parameter.name for parameter in self.parameters if parameter.kind == "positional"]
        rest = [_REST] * (count - len(names)) if self.only("args") else []
        return [*names[:count], *rest]


def _parameters_data(parameters: Iterable[Parameter]) -> list[object]:
    return [[one.name, one.kind, _type_data(one.type), one.is_required] for one in parameters]


def _type_data(type_: Type) -> object:
    return [type_.name, *map(_type_data, type_.arguments)] if type_.arguments else type_.name


def _read_parameters(data: object) -> tuple[Parameter, ...]:
    if not isinstance(data, list):
        raise BadInput("a contract whose parameters are no list")
    parameters = tuple(map(_read_parameter, data))
    if len({parameter.name for parameter in parameters}) < len(parameters):
        raise BadInput("a contract that has a parameter twice")
    return parameters


def _read_parameter(data: object) -> Parameter:
    match data:
        case [
            name,
            ("root" | "positional" | "keyword" | "args" | "kwargs") as kind,
            type_,
            bool(is_required),
        ]:
            return Parameter(_read_name(name), kind, _read_type(type_), is_required)
    raise BadInput("a contract with a parameter that is none")


def _read_name(data: object) -> str:
    # It gets into messages and logs.
    if not isinstance(data, str) or not data.isprintable() or "`" in data:
        raise BadInput("a contract with a name that is none")
    return data


def _read_type(data: object, depth: int = 0) -> Type:
    if depth > 2 * _MAX_DEPTH + 1:  # a union and its members are two levels
        raise BadInput("a contract with types that are nested too deeply")
    match data:
        case str(name):
            return Type(_read_name(name))
        case [str(name), *arguments] if arguments:
            return Type(_read_name(name), tuple(_read_type(argument, depth + 1) for argument in arguments))
    raise BadInput("a contract with a type that is none")


@dataclass(frozen=True)
class Changes:
    """What a peer's contract, which is not the one that its caller knows, means for the caller's calls.

    Attributes:
        here: the contract that the caller knows.
        there: the peer's own.
        breaking: what breaks every call, a sentence each; `breaking_for` adds what breaks some.
    """

    here: Contract
    there: Contract
    breaking: tuple[str, ...]

    def breaking_for(self, positional: int, keywords: Iterable[str]) -> tuple[str, ...]:
        """What breaks a call with so many positional arguments and these keywords, a sentence each.

        An argument that is passed by position must have the same place on both sides.
        """
        if self.here.root or self.there.root:
            return self.breaking
        keywords = set(keywords)
        passed = keywords.union(self.here.places(positional))
        return (
            *self.breaking,
            *self._moved(positional),
            *self._unknown(keywords),
            *self._missing(passed),
        )

    def _moved(self, positional: int) -> Iterator[str]:
        here = self.here.places(positional)
        there = self.there.places(positional)[: len(here)]
        known = self.there.named
        for number, (mine, theirs) in enumerate(zip_longest(here, there), 1):
            if mine == theirs or (theirs == _REST and mine not in known):
                continue
            if mine not in known and (mine != _REST or theirs is None):
                yield f"`{mine}` is not known there"
            elif theirs is None:
                yield f"`{mine}` can only be passed by name there"
            else:
                yield f"positional argument {number} is `{theirs}` there, and `{mine}` here"
            return

    def _unknown(self, keywords: set[str]) -> Iterator[str]:
        if self.there.only("kwargs") is None:
            yield from (f"`{name}` is not known there" for name in sorted(keywords - self.there.named.keys()))

    def _missing(self, passed: set[str]) -> Iterator[str]:
        here = self.here.named
        for name, parameter in self.there.named.items():
            # One that is required here too is the caller's own mistake; one unknown here is in `breaking`.
            is_optional = not here[name].is_required if name in here else self.here.only("kwargs") is not None
            if parameter.is_required and is_optional and name not in passed:
                yield f"`{name}` has no default there, and is not passed"


def contract_of(endpoint: Endpoint) -> Contract:
    """The contract of an endpoint of this process's version of a service."""
    reader, home = _Reader(), _home_of(endpoint.func)
    signature = _signature_of(endpoint.func, home)
    spec = endpoint.output_spec  # perhaps a placeholder, which is neither true nor false
    result = reader.read(signature.return_annotation if spec is None else spec, home)
    if endpoint.is_stream:
        result = result.arguments[0] if result.name in _ITERATORS and result.arguments else ANY
    parameters = _parameters_of(endpoint, signature, reader, home)
    whole = Contract(parameters, result, endpoint.is_stream, reader.records())
    # What no peer would read is left out, the finest things first.
    plain = replace(whole, records={})
    untyped = replace(plain, parameters=tuple(replace(one, type=ANY) for one in parameters), result=ANY)
    return next((one for one in (whole, plain) if len(one.text()) <= MAX_SIZE), untyped)


def changes(mine: Contract, theirs: Contract) -> Changes:
    """What differs for a caller that knows `mine` and calls a peer whose own contract is `theirs`."""
    return Changes(mine, theirs, (*_changed_parameters(mine, theirs), *_changed_result(mine, theirs)))


def _changed_parameters(mine: Contract, theirs: Contract) -> Iterator[str]:
    call = _Flow(mine, theirs, is_call=True)
    if mine.root and theirs.root:
        yield from call.differences((mine.root.name,), mine.root.type, theirs.root.type)
        return
    if mine.root:
        yield f"`{mine.root.name}` is the whole body here, and is not there"
        return
    if theirs.root and mine.parameters:
        yield f"`{theirs.root.name}` is the whole body there, and is not here"
        return
    for name, parameter in mine.named.items():
        if name in theirs.named:
            yield from call.differences((name,), parameter.type, theirs.named[name].type)
    for one, other in (
        (mine.only("args"), theirs.only("args")),
        (mine.only("kwargs"), theirs.only("kwargs")),
    ):
        if one and other:
            yield from call.differences((one.name,), one.type, other.type)
    for parameter in theirs.parameters:
        if parameter.is_required and parameter.name not in mine.named and mine.only("kwargs") is None:
            yield f"`{parameter.name}` is required there, and not known here"


def _changed_result(mine: Contract, theirs: Contract) -> Iterator[str]:
    if mine.is_stream != theirs.is_stream:
        stream, value = ("there", "here") if theirs.is_stream else ("here", "there")
        yield f"the result is a stream {stream}, and one value {value}"
    elif mine.result != _NONE:  # else nobody looks at what comes
        yield from _Flow(theirs, mine, is_call=False).differences((), theirs.result, mine.result)


_FAMILIES: Final = {
    name: family
    for family, names in (
        ("list", "list tuple set frozenset deque Sequence MutableSequence AbstractSet Collection Iterable"),
        ("dict", "dict Mapping MutableMapping OrderedDict defaultdict"),
        ("bytes", "bytes bytearray memoryview Buffer"),
    )
    for name in names.split()
}
# What a receiver makes its own kind of: as pydantic does, and the runtime of arrays, tensors and frames.
_ACCEPTED: Final[Mapping[str, tuple[str, ...]]] = {
    "uint": ("bool",),
    "int": ("bool", "uint"),
    "float": ("bool", "uint", "int"),
    "complex": ("bool", "uint", "int", "float"),
    "Decimal": ("int", "float", "str"),
    "datetime": ("date",),
    "ndarray": ("list",),
    "Tensor": ("list",),
    "DataFrame": ("list", "dict"),
    "dict": ("record",),
    "record": ("dict",),
}
# Of these alone is it certain that another one of them is another thing.
_KNOWN: Final = frozenset(_ACCEPTED) | {
    "None", "bool", "str", "bytes", "list", "date", "time", "timedelta", "UUID", "Path", "Image", "Series",
}  # fmt: skip


@dataclass(frozen=True)
class _Flow:
    """Values that go from one side to the other: the arguments of a call, or the result of one."""

    sender: Contract
    receiver: Contract
    is_call: bool

    def differences(self, path: tuple[str, ...], sent: Type, wanted: Type) -> Iterator[str]:
        """What the receiver would refuse, or miss, of a value at `path`; a sentence each."""
        waiting, seen = [(path, sent, wanted)], set[tuple[str, str]]()
        while waiting:
            path, sent, wanted = waiting.pop()
            if not self._fits(sent, wanted):
                there, here = (wanted, sent) if self.is_call else (sent, wanted)
                yield f"{self._subject(path)} is `{there}` there, and `{here}` here"
                continue
            for one, other in self._pairs(sent, wanted):
                has, wants = self.sender.records.get(one.name), self.receiver.records.get(other.name)
                if has is None or wants is None:
                    waiting += [(path, *pair) for pair in _aligned(one, other) or ()]
                elif (one.name, other.name) not in seen:
                    seen.add((one.name, other.name))
                    types = {field.name: field.type for field in has}
                    for wanted_field in wants:
                        place = (*path, wanted_field.name)
                        if wanted_field.name in types:
                            waiting.append((place, types[wanted_field.name], wanted_field.type))
                        elif wanted_field.is_required:
                            yield self._missing(place)

    def _subject(self, path: tuple[str, ...]) -> str:
        if self.is_call:
            return f"`{'.'.join(path)}`"
        return f"`{'.'.join(path)}` of the result" if path else "the result"

    def _missing(self, path: tuple[str, ...]) -> str:
        wanted, sent = ("there", "here") if self.is_call else ("here", "there")
        return f"{self._subject(path)} is required {wanted}, and not known {sent}"

    def _pairs(self, sent: Type, wanted: Type) -> Iterator[tuple[Type, Type]]:
        """The members of what is sent, each with the one of its kind that takes it, where that is certain."""
        for one in sent.members:
            fitting = [
                other for other in wanted.members if self._is_alike(other, one) and self._takes(other, one)
            ]
            same = [other for other in fitting if other.name == one.name] or fitting
            if len(same) == 1:
                yield one, same[0]

    def _fits(self, sent: Type, wanted: Type) -> bool:
        return all(any(self._takes(other, one) for other in wanted.members) for one in sent.members)

    def _takes(self, wanted: Type, sent: Type) -> bool:
        if self._is_alike(wanted, sent):
            pairs = _aligned(sent, wanted)
            return pairs is not None and all(self._fits(one, other) for one, other in pairs)
        takes, sends = _kind(wanted, self.receiver), _kind(sent, self.sender)
        return not {takes, sends} <= _KNOWN or sends in _ACCEPTED.get(takes, ())

    def _is_alike(self, wanted: Type, sent: Type) -> bool:
        return wanted.name == sent.name or _kind(wanted, self.receiver) == _kind(sent, self.sender)


def _kind(type_: Type, contract: Contract) -> str:
    if type_.name in contract.records:
        return "record"
    name = type_.name.rstrip("0123456789")  # an array's own range of numbers is checked with its values
    return _FAMILIES.get(name, name)


def _aligned(sent: Type, wanted: Type) -> list[tuple[Type, Type]] | None:
    """The arguments of two types of one kind that stand in the same places; None where they cannot."""
    if not sent.arguments or not wanted.arguments:
        return []
    if _FAMILIES.get(wanted.name) != "list":
        return list(zip(sent.arguments, wanted.arguments, strict=False))
    if _is_fixed(sent) and _is_fixed(wanted):
        is_as_long = len(sent.arguments) == len(wanted.arguments)
        return list(zip(sent.arguments, wanted.arguments, strict=True)) if is_as_long else None
    return [(one, other) for one in sent.arguments for other in wanted.arguments if _DOTS not in (one, other)]


def _is_fixed(type_: Type) -> bool:
    return type_.name == "tuple" and _DOTS not in type_.arguments


_ITERATORS: Final = (
    "Iterator", "Iterable", "Generator", "AsyncIterator", "AsyncIterable", "AsyncGenerator"
)  # fmt: skip
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
class _Home:
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


def _home_of(thing: Any) -> _Home:
    module = sys.modules.get(thing.__module__)
    if module is None:
        return _Home()
    try:
        file = Path(module.__file__ or "")
        source = _source(file, file.stat().st_mtime_ns)
    except (AttributeError, OSError, SyntaxError, ValueError):
        source = _Source()  # made at run time, or not of Python's text: the annotations' objects have to do
    return _Home(source, vars(module))


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


def _signature_of(func: Callable[..., Any], home: _Home) -> inspect.Signature:
    """The function's signature with the annotations as they are written, where the text is there."""
    written = home.source.annotations.get(func.__qualname__, {})
    signature = inspect.signature(func)
    parameters = [
        parameter.replace(annotation=written.get(parameter.name, parameter.annotation))
        for parameter in signature.parameters.values()
    ]
    result = written.get("return", signature.return_annotation)
    return signature.replace(parameters=parameters, return_annotation=result)


def _parameters_of(
    endpoint: Endpoint, signature: inspect.Signature, reader: _Reader, home: _Home
) -> tuple[Parameter, ...]:
    if isinstance(endpoint.input_spec, Mapping):
        hints = endpoint.input_spec.items()
        return tuple(Parameter(str(name), "keyword", reader.read(hint, home), True) for name, hint in hints)
    if endpoint.input_spec is not None:
        # Of a model that is not part of this process any field may be passed.
        return reader.fields(endpoint.input_spec) or (Parameter("fields", "kwargs", ANY, False),)
    beside_the_instance = list(signature.parameters.values())[1:]
    return tuple(
        Parameter(one.name, _KINDS[one.kind], reader.read(one.annotation, home), _is_required(one))
        for one in beside_the_instance
        if not _is_context(one, home)
    )


def _is_context(parameter: inspect.Parameter, home: _Home) -> bool:
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        return parameter.name in ("ctx", "context")
    if isinstance(annotation, str):
        annotation = _expression(annotation)
    found = home.find(annotation) if isinstance(annotation, ast.expr) else annotation
    # `bentoml.Context` cannot be found before it was used: the package brings it on demand.
    return found is Context or (found is None and _last_name(annotation) == "Context")


def _is_required(parameter: inspect.Parameter) -> bool:
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        return False
    pydantic: Any = sys.modules.get("pydantic.fields")
    if pydantic is not None and isinstance(parameter.default, pydantic.FieldInfo):
        return bool(parameter.default.is_required())
    return parameter.default is inspect.Parameter.empty


class _Reader:
    """Reads the annotations of one endpoint, and those of the classes that they name."""

    def __init__(self) -> None:
        self._classes: dict[str, type] = {}
        self._ambiguous: set[str] = set()

    def read(self, annotation: object, home: _Home, depth: int = 0) -> Type:
        """The type that an annotation says: an expression, its text, or an object."""
        if depth > _MAX_DEPTH or annotation is inspect.Signature.empty:
            return ANY
        match annotation:
            case str(text) | ast.Constant(value=str(text)) | typing.ForwardRef(__forward_arg__=text):
                return self.read(_expression(text), home, depth + 1)
            case None | ast.Constant(value=None):
                return _NONE
            case EllipsisType() | ast.Constant(value=EllipsisType()):
                return _DOTS
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

    def _of_object(self, annotation: Any, home: _Home, depth: int) -> Type:
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

    def _generic(self, name: str, arguments: Sequence[object], home: _Home, depth: int) -> Type:
        name = _SAME.get(name, name)
        if name in _QUALIFIERS:
            return self.read(arguments[0], home, depth)
        if name == "Literal":
            return _union(map(_type_of_literal, arguments))
        types = [self.read(argument, home, depth) for argument in arguments]
        if name in ("Optional", "Union"):
            return _union([*types, *([_NONE] if name == "Optional" else [])])
        if name == "dtype":
            return types[0]
        if name in ("ndarray", "NDArray"):
            return Type("ndarray", (ANY, types[-1]))  # a shape is checked with the values
        return Type(name, tuple(types))

    def records(self) -> dict[str, tuple[Parameter, ...]]:
        """The fields of the classes that were named, and of those that their fields name."""
        found: dict[str, tuple[Parameter, ...]] = {}
        read: set[str] = set()
        while unread := self._classes.keys() - read:
            name = min(unread)
            read.add(name)
            fields = self.fields(self._classes[name])
            if fields is not None and len(found) < _MAX_RECORDS:
                found[name] = fields
        return {name: fields for name, fields in found.items() if name not in self._ambiguous}

    def fields(self, kind: object) -> tuple[Parameter, ...] | None:
        """The fields of a model, dataclass or TypedDict; None of any other class."""
        if not isinstance(kind, type) or (fields := _fields_of(kind)) is None:
            return None
        written: dict[str, tuple[object, _Home]] = {}
        for base in filter(_is_of_project, reversed(kind.__mro__)):
            home = _home_of(base)
            annotations = home.source.annotations.get(base.__qualname__, {})
            written.update((name, (annotation, home)) for name, annotation in annotations.items())
        found = []
        for one in fields:
            annotation, home = written.get(one.attribute, (one.annotation, _home_of(kind)))
            # Python's own list of required keys takes `NotRequired` that stands in a string for required.
            is_required = one.is_required and _last_name(getattr(annotation, "value", None)) != "NotRequired"
            found.append(Parameter(one.name, "keyword", self.read(annotation, home), is_required))
        return tuple(found)


@dataclass(frozen=True)
class _Field:
    attribute: str
    name: str
    annotation: object
    is_required: bool


def _fields_of(kind: Any) -> list[_Field] | None:
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(kind, pydantic.BaseModel):
        if issubclass(kind, pydantic.RootModel):
            return None  # it travels as the value it holds
        return [
            _Field(name, _wire_name(name, info.validation_alias), info.annotation, info.is_required())
            for name, info in kind.model_fields.items()
        ]
    if dataclasses.is_dataclass(kind):
        return [
            _Field(one.name, one.name, one.type, one.default is one.default_factory is dataclasses.MISSING)
            for one in dataclasses.fields(kind)
            if one.init
        ]
    if hasattr(kind, "__required_keys__"):
        required = kind.__required_keys__
        return [_Field(name, name, hint, name in required) for name, hint in kind.__annotations__.items()]
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
