"""An endpoint's contract: what it takes and returns, in a form that two versions of a project can compare.

During a rolling update a caller's image and its peer's hold different versions of one class. Where their
contracts have one hash, nothing is compared; annotations are therefore read as they are written.

What is called breaking surely is: text for a number, an argument that the peer has no more. A name of which
nothing is known (a `NewType`, a class that one side does not see) fits anything, and so does what depends on
values (a `Literal`, a validator, the range of an integer): the peer checks every value it is called with.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import zip_longest
from typing import Any, Final, Literal

from bentoml._annotations import (
    ANY,
    DOTS,
    MAX_DEPTH,
    NONE,
    Field,
    Home,
    Reader,
    Type,
    call_signature,
    home_of,
)
from bentoml._endpoint import Endpoint
from bentoml.exceptions import BadInput

MAX_SIZE: Final = 8192
"""Characters of a contract's text at most."""

Kind = Literal["root", "positional", "keyword", "args", "kwargs"]

_FORMAT: Final = 1
_REST: Final = "*args"
_ITERATORS: Final = (
    "Iterator", "Iterable", "Generator", "AsyncIterator", "AsyncIterable", "AsyncGenerator"
)  # fmt: skip
_KINDS: Final[Mapping[Any, Kind]] = {
    inspect.Parameter.POSITIONAL_ONLY: "root",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
    inspect.Parameter.VAR_POSITIONAL: "args",
    inspect.Parameter.VAR_KEYWORD: "kwargs",
}


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
    if depth > 2 * MAX_DEPTH + 1:  # a union and its members are two levels
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
    reader, home = Reader(), home_of(endpoint.func)
    signature = call_signature(endpoint.func)
    spec = endpoint.output_spec  # perhaps a placeholder, which is neither true nor false
    result = reader.read(signature.return_annotation if spec is None else spec, home)
    if endpoint.is_stream:
        result = result.arguments[0] if result.name in _ITERATORS and result.arguments else ANY
    parameters = _parameters_of(endpoint, signature, reader, home)
    records = {name: _passed_by_name(fields) for name, fields in reader.records().items()}
    whole = Contract(parameters, result, endpoint.is_stream, records)
    # What no peer would read is left out, the finest things first.
    plain = replace(whole, records={})
    untyped = replace(plain, parameters=tuple(replace(one, type=ANY) for one in parameters), result=ANY)
    return next((one for one in (whole, plain) if len(one.text()) <= MAX_SIZE), untyped)


def _parameters_of(
    endpoint: Endpoint, signature: inspect.Signature, reader: Reader, home: Home
) -> tuple[Parameter, ...]:
    if isinstance(endpoint.input_spec, Mapping):
        hints = endpoint.input_spec.items()
        return tuple(Parameter(str(name), "keyword", reader.read(hint, home), True) for name, hint in hints)
    if endpoint.input_spec is not None:
        # Of a model that is not part of this process any field may be passed.
        fields = reader.fields(endpoint.input_spec)
        return _passed_by_name(fields) if fields else (Parameter("fields", "kwargs", ANY, False),)
    return tuple(
        Parameter(one.name, _KINDS[one.kind], reader.read(one.annotation, home), _is_required(one))
        for one in signature.parameters.values()
    )


def _passed_by_name(fields: Iterable[Field]) -> tuple[Parameter, ...]:
    return tuple(Parameter(one.name, "keyword", one.type, one.is_required) for one in fields)


def _is_required(parameter: inspect.Parameter) -> bool:
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        return False
    pydantic: Any = sys.modules.get("pydantic.fields")
    if pydantic is not None and isinstance(parameter.default, pydantic.FieldInfo):
        return bool(parameter.default.is_required())
    return parameter.default is inspect.Parameter.empty


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
    elif mine.result != NONE:  # else nobody looks at what comes
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
    return [(one, other) for one in sent.arguments for other in wanted.arguments if DOTS not in (one, other)]


def _is_fixed(type_: Type) -> bool:
    return type_.name == "tuple" and DOTS not in type_.arguments
