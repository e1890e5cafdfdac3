"""An endpoint's parameters and result as pydantic types, read from its annotations when first needed."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, Union

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    create_model,
)
from pydantic.fields import FieldInfo
from pydantic_core import from_json

from bentoml._context import Context
from bentoml._endpoint import Endpoint
from bentoml._types import is_type, wire_type
from bentoml._types.model import holds_plain_path, names_files
from bentoml._types.opaque import opaque_inputs, opaque_results
from bentoml.exceptions import InvalidArgument, UnservableException
from bentoml.validators import ContentType, Device

_POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
_POSITIONAL_OR_KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD
_KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY
_VAR_POSITIONAL = inspect.Parameter.VAR_POSITIONAL
_VAR_KEYWORD = inspect.Parameter.VAR_KEYWORD
_VARIADIC_NAMES: dict[Any, str] = {_VAR_POSITIONAL: "args", _VAR_KEYWORD: "kwargs"}
_GENERATORS = (
    collections.abc.Generator,
    collections.abc.AsyncGenerator,
    collections.abc.Iterator,
    collections.abc.AsyncIterator,
    collections.abc.Iterable,
    collections.abc.AsyncIterable,
)
# A result's own configuration has no say in how floats are written: as Python's `json` does.
_ADAPTER = ConfigDict(arbitrary_types_allowed=True, ser_json_inf_nan="constants")
_ROOT = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Arguments:
    """What a method is called with."""

    positional: tuple[Any, ...]
    keywords: dict[str, Any]


class EndpointSignature:
    """What an endpoint takes and returns.

    Attributes:
        signature: the parameters that requests fill in.
        context: the parameter that gets the request's `Context`, if there is one.
        root: the parameter whose value is the whole body, if there is one.

    Raises:
        UnservableException: an annotation names nothing, or is of a type that no request can carry.
        TypeError: a parameter that is the whole body stands beside others, or a batch does.
    """

    def __init__(self, endpoint: Endpoint, service: str) -> None:
        self.where = f"{service}.{endpoint.attribute}"
        self._endpoint = endpoint
        self._hints = _type_hints(endpoint.func, self.where)
        parameters = self._beside_the_instance()
        contexts = [p for p in parameters if self._is_context(p)]
        self.context = contexts[0].name if contexts else None
        self._context_place = (
            None if not contexts or contexts[0].kind is _KEYWORD_ONLY else parameters.index(contexts[0])
        )
        parameters = [p for p in parameters if p not in contexts]
        roots = [p.name for p in parameters if p.kind is _POSITIONAL_ONLY]
        if roots and len(parameters) > 1:
            raise TypeError(
                f"{self.where}: `{roots[0]}` is positional-only, which makes it the whole body; "
                "it can have no parameter beside it"
            )
        if endpoint.batchable and len(parameters) == 1:
            self._check_batch(parameters[0])
        if endpoint.batchable and len(parameters) != 1:
            raise TypeError(
                f"{self.where}: a batchable endpoint takes one batch, found {len(parameters)} parameters"
            )
        self.root = roots[0] if roots else None
        self.signature = inspect.Signature(parameters)
        kinds = {parameter.kind for parameter in parameters}
        self._names = dict.fromkeys(self.signature.parameters)
        self._required = {name for name, p in self.signature.parameters.items() if p.default is p.empty}
        self._is_plain = endpoint.input_spec is None and kinds.isdisjoint(
            {_KEYWORD_ONLY, _VAR_POSITIONAL, _VAR_KEYWORD}
        )

    def _beside_the_instance(self) -> list[inspect.Parameter]:
        first, *others = inspect.signature(self._endpoint.func).parameters.values() or (None,)
        is_instance = first is not None and first.kind in (_POSITIONAL_ONLY, _POSITIONAL_OR_KEYWORD)
        if first is None or not is_instance or (first.name != "self" and first.name in self._hints):
            raise UnservableException(
                f"{self.where}: it takes no `self`; its first parameter is the instance of the service"
            )
        self._instance = first.name
        return others

    def _check_batch(self, parameter: inspect.Parameter) -> None:
        hint = _bare(self._hints.get(parameter.name, Any))
        if hint in (int, float, bool, str, bytes, dict):
            raise UnservableException(
                f"{self.where}: a batchable endpoint takes a batch: a list, an array, a tensor or a frame; "
                f"`{parameter.name}` is a {hint.__name__}"
            )

    def _wire_name(self, parameter: inspect.Parameter) -> str:
        """What a parameter is called in requests: `*values` and `**options` are `args` and `kwargs` there."""
        usual = _VARIADIC_NAMES.get(parameter.kind, parameter.name)
        return parameter.name if usual in self.signature.parameters else usual

    def _is_context(self, parameter: inspect.Parameter) -> bool:
        hint = self._hints.get(parameter.name)
        return hint is Context or (hint is None and parameter.name in ("ctx", "context"))

    @cached_property
    def input_model(self) -> type[BaseModel]:
        """A pydantic model with one field for each parameter; `**kwargs` takes fields of any name.

        It is for public callers, whose JSON has no number that is infinite or none.
        """
        return self._model(allow_inf_nan=False)

    @cached_property
    def _peer_model(self) -> type[BaseModel]:
        """The same for peers, which send floats as they are."""
        return self._model(allow_inf_nan=True)

    def _model(self, *, allow_inf_nan: bool) -> type[BaseModel]:
        if self._endpoint.input_spec is not None:
            return _model_of(self._endpoint.input_spec, self.where)
        fields: dict[str, Any] = {}
        extra: Literal["allow", "ignore"] = "ignore"
        for number, parameter in enumerate(self.signature.parameters.values()):
            annotation = self._input_type(parameter.name)
            default = ... if parameter.default is parameter.empty else parameter.default
            if parameter.kind is _VAR_KEYWORD:
                annotation, default, extra = dict[str, annotation], Field(default_factory=dict), "allow"  # type: ignore[valid-type]
            elif parameter.kind is _VAR_POSITIONAL:
                annotation, default = list[annotation], Field(default_factory=list)  # type: ignore[valid-type]
            # An alias may have any name; a field may be called neither `_x` nor as a method of the model.
            fields[_field(number)] = (Annotated[annotation, Field(alias=self._wire_name(parameter))], default)
        config = ConfigDict(arbitrary_types_allowed=True, extra=extra, allow_inf_nan=allow_inf_nan)
        try:
            return create_model("Input", __config__=config, **fields)
        except Exception as error:  # pydantic raises several kinds for a type it cannot handle
            raise UnservableException(f"{self.where}: {error}") from error

    def _input_type(self, name: str) -> Any:
        """The type of a parameter; never one through which a caller names a file of the server's."""
        hint = self._wire_type(self._hints.get(name, Any), f"`{name}`")
        if holds_plain_path(hint):
            raise UnservableException(
                f"{self.where}: `{name}` has a file in a dataclass or TypedDict, where no upload gets to; "
                "take it as a parameter, or as a field of a pydantic model"
            )
        return hint

    @cached_property
    def root_type(self) -> TypeAdapter[Any]:
        """The type of a body that is one value, with the parameter's default."""
        hint = self._input_type(self.root or "")
        default = self.signature.parameters[self.root or ""].default
        if default is not inspect.Parameter.empty:
            hint = Annotated[hint, default if isinstance(default, FieldInfo) else Field(default=default)]
        return self._adapter(hint, "its parameter", _ROOT)

    def without_body(self) -> Arguments | None:
        """The arguments that an empty body stands for, where the body is one value that has a default."""
        default = None if self.root is None else self.root_type.get_default_value()
        return None if default is None else Arguments((default.value,), {})

    @cached_property
    def file_fields(self) -> frozenset[str]:
        """The fields that are files, or lists of them."""
        return frozenset(name for name, hint in self._field_hints.items() if _is_file(hint))

    @cached_property
    def list_fields(self) -> frozenset[str]:
        """The fields for which a single part of a form is a list of one."""
        named = frozenset(name for name, hint in self._field_hints.items() if _is_list(hint))
        variadic = [p for p in self.signature.parameters.values() if p.kind is _VAR_POSITIONAL]
        return named.union(*((p.name, self._wire_name(p)) for p in variadic))

    @cached_property
    def root_kind(self) -> Literal["file", "text", "json"]:
        """How a body that is one value is read."""
        hint = _bare(self._hints.get(self.root or "", Any))
        if _is_file(hint) or hint is bytes:
            return "file"
        return "text" if hint is str else "json"

    @property
    def _field_hints(self) -> dict[str, Any]:
        if self._endpoint.input_spec is not None:
            fields = self.input_model.model_fields
            return {field.alias or name: field.annotation for name, field in fields.items()}
        return {name: self._hints.get(name, Any) for name in self.signature.parameters}

    @cached_property
    def result_hint(self) -> Any:
        """The annotation of the result; for a stream, of one item of it."""
        hint = self._endpoint.output_spec or self._hints.get("return", Any)
        if not self._endpoint.is_stream:
            return hint
        bare = _bare(hint)
        origin = typing.get_origin(bare) or bare
        if origin not in _GENERATORS:
            return Any
        return (typing.get_args(bare) or (Any,))[0]

    @property
    def returns_file(self) -> bool:
        """Whether the result is a file or an image."""
        return _is_file(self.result_hint)

    @cached_property
    def media_type(self) -> str | None:
        """The media type that the result's annotation declares."""
        hint: Any = self._hints.get("return")
        markers = hint.__metadata__ if typing.get_origin(hint) is Annotated else ()
        return next((m.content_type for m in markers if isinstance(m, ContentType)), None)

    @cached_property
    def returns_files_inside(self) -> bool:
        """Whether a model or record of the result holds files, which no response can carry."""
        return not self.returns_file and names_files(self.result_hint)

    @property
    def returns_classes(self) -> bool:
        """Whether the result's annotation names classes that travel as what they hold, or a device."""
        return _names_classes(self.result_hint)

    @cached_property
    def output(self) -> TypeAdapter[Any]:
        """The type of the result, or of a stream's items, for schemas and for what is not sent as it is."""
        return self._adapter(self._wire_type(self.result_hint, "its result"), "its result", _ADAPTER)

    def _wire_type(self, hint: Any, what: str) -> Any:
        try:
            return wire_type(hint)
        except (TypeError, ValueError) as error:  # an element type or a device that there is not
            raise UnservableException(f"{self.where}: {what}: {error}") from error

    def _adapter(self, hint: Any, what: str, config: ConfigDict) -> TypeAdapter[Any]:
        try:
            try:
                return TypeAdapter(hint, config=config)
            except PydanticUserError:
                # A model, dataclass or TypedDict has a configuration of its own.
                return TypeAdapter(hint)
        except Exception as error:
            raise UnservableException(f"{self.where}: {what}: {error}") from error

    def prepare(self) -> None:
        """Make the types now: what cannot be served is said before anything starts.

        Raises:
            UnservableException: an annotation is of a type that no request can carry.
        """
        is_model = self.root is None
        checked = self.input_model.__pydantic_core_schema__ if is_model else self.root_type.core_schema
        _ = self.file_fields, self.list_fields, self.media_type
        problems = [_no_input(self._place(path), cls) for path, cls in opaque_inputs(checked)]
        problems += [_no_result(path, cls) for path, cls in opaque_results(self.output.core_schema)]
        if problems:
            raise UnservableException("\n".join(f"{self.where}: {problem}" for problem in problems))

    def _place(self, path: str) -> str:
        return path if self.root is None else ".".join(filter(None, (self.root, path)))

    def from_json(self, body: bytes | bytearray, context: Context | None = None) -> Arguments:
        """Read a JSON body, check it, and make the call's arguments of it.

        Raises:
            pydantic.ValidationError: the body is not JSON, and where; or every value that does not fit.
        """
        # Python's spellings of what JSON has no number for; text may hold the words.
        if b"NaN" in body or b"Infinity" in body:
            _refuse_constants(body)
        if self.root is not None:
            value = self.root_type.validator.validate_json(body, context=context)
            return Arguments((value,), {})
        if self._is_plain:
            model = self.input_model.__pydantic_validator__.validate_json(body or b"{}", context=context)
            return Arguments(tuple(model.__dict__.values()), {})
        return self.from_fields(_mapping(body), context)

    def from_fields(self, fields: Mapping[str, Any], context: Context | None = None) -> Arguments:
        """Check the fields of a public request and make the call's arguments of them.

        Raises:
            pydantic.ValidationError: lists every field that does not fit.
        """
        return self._arguments(self.input_model.model_validate(self._folded(fields), context=context))

    def from_root(self, value: Any, context: Context | None = None) -> Arguments:
        """Check a body that is one value.

        Raises:
            pydantic.ValidationError: says what does not fit.
        """
        return Arguments((self.root_type.validate_python(value, context=context),), {})

    def from_call(
        self, positional: Sequence[Any], keywords: Mapping[str, Any], context: Context | None = None
    ) -> Arguments:
        """Check the arguments that a peer called with.

        Raises:
            InvalidArgument: they do not fit the parameters; in Python's own words.
            pydantic.ValidationError: a value does not fit its annotation.
        """
        fields = self._plain_fields(positional, keywords)
        if fields is not None:
            checked = self._peer_model.__pydantic_validator__.validate_python(fields, context=context)
            return Arguments(tuple(checked.__dict__.values()), {})
        try:
            bound = self.signature.bind(*positional, **keywords)
        except TypeError as error:
            raise InvalidArgument(f"{self.where}: {error}") from None
        if self.root is not None:
            if self.root in bound.arguments:
                return self.from_root(bound.arguments[self.root], context)
            default = self.without_body()
            if default is None:
                raise InvalidArgument(f"{self.where}: missing a required argument: {self.root!r}")
            return default
        names = {name: self._wire_name(parameter) for name, parameter in self.signature.parameters.items()}
        fields = {names[name]: value for name, value in bound.arguments.items()}
        if self._endpoint.input_spec is not None:
            # The model has fields of its own, which a call fills in by name.
            for parameter in self.signature.parameters.values():
                if parameter.kind is _VAR_KEYWORD:
                    fields |= fields.pop(names[parameter.name], {})
        return self._arguments(self._peer_model.model_validate(fields, context=context))

    def _plain_fields(self, positional: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arguments by name, where that is plain and surely right; `Signature.bind` is slow."""
        if not self._is_plain or self.root is not None or len(positional) > len(self._names):
            return None
        fields = dict(zip(self._names, positional, strict=False))
        if keywords:
            if not fields.keys().isdisjoint(keywords) or not keywords.keys() <= self._names.keys():
                return None
            fields.update(keywords)
        return fields if fields.keys() >= self._required else None

    def with_context(self, arguments: Arguments, context: Context | None) -> Arguments:
        """The arguments with the request's context where the method has a parameter for it."""
        if self.context is None:
            return arguments
        positional, place = arguments.positional, self._context_place
        if place is None or place > len(positional):
            return Arguments(positional, {**arguments.keywords, self.context: context})
        return Arguments((*positional[:place], context, *positional[place:]), arguments.keywords)

    def _folded(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """`fields` with those that no parameter takes put together for `**kwargs`, if there is one."""
        if self._endpoint.input_spec is not None:
            return dict(fields)
        named: dict[str, Any] = {}
        left = dict(fields)
        variadic: inspect.Parameter | None = None
        for parameter in self.signature.parameters.values():
            # Under its own name too, for those that have another in requests.
            found = [name for name in (parameter.name, self._wire_name(parameter)) if name in left]
            if parameter.kind is _VAR_KEYWORD:
                variadic = parameter
                found = [name for name in found if isinstance(left[name], Mapping)]
            if found:
                named[self._wire_name(parameter)] = left.pop(found[0])
        if variadic is not None:
            name = self._wire_name(variadic)
            named[name] = {**named.get(name, {}), **left}
        return named

    def _check_free(self, names: Mapping[str, Any]) -> None:
        """Refuse names for `**kwargs` that are those of other parameters."""
        taken = sorted(names.keys() & {*self.signature.parameters, self._instance, self.context})
        variadic = {p.name for p in self.signature.parameters.values() if p.kind is _VAR_KEYWORD}
        if taken and not variadic.issuperset(taken):
            raise InvalidArgument(f"{self.where}: {', '.join(taken)}: given twice, or not to be given at all")

    def _arguments(self, model: BaseModel) -> Arguments:
        if self._endpoint.input_spec is not None:
            names = type(model).model_fields
            return Arguments((), {name: getattr(model, name) for name in names} | (model.model_extra or {}))
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        for number, parameter in enumerate(self.signature.parameters.values()):
            value = getattr(model, _field(number))
            if parameter.kind is _VAR_KEYWORD:
                self._check_free(value)
                keywords.update(value)
            elif parameter.kind is _VAR_POSITIONAL:
                positional.extend(value)
            elif parameter.kind is _KEYWORD_ONLY:
                keywords[parameter.name] = value
            else:
                positional.append(value)
        return Arguments(tuple(positional), keywords)


def _mapping(body: bytes | bytearray) -> dict[str, Any]:
    if not body:
        return {}
    try:
        fields = from_json(body)
    except ValueError as error:
        raise _not_json(error) from None
    if not isinstance(fields, dict):
        raise ValidationError.from_exception_data(
            "Input",
            [{"type": "model_type", "loc": (), "input": None, "ctx": {"class_name": "Input"}}],
            "json",
        )
    return fields


def _refuse_constants(body: bytes | bytearray) -> None:
    try:
        from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise _not_json(error) from None


def _not_json(error: ValueError) -> ValidationError:
    problem = {"type": "json_invalid", "loc": (), "input": None, "ctx": {"error": str(error)}}
    return ValidationError.from_exception_data("Input", [problem], "json")  # type: ignore[list-item]


def _model_of(spec: Any, where: str) -> type[BaseModel]:
    if isinstance(spec, Mapping):
        fields: dict[str, Any] = {str(name): (wire_type(hint), ...) for name, hint in spec.items()}
        config = ConfigDict(arbitrary_types_allowed=True)
        return create_model("Input", __config__=config, **fields)
    if isinstance(spec, type) and issubclass(spec, BaseModel):
        model: type[BaseModel] = wire_type(spec)
        return model
    raise UnservableException(
        f"{where}: input_spec: expected a pydantic model or a dict of types, found {spec!r}"
    )


def _bare(hint: Any) -> Any:
    """An annotation without `Annotated` and without `Optional`."""
    while True:
        if typing.get_origin(hint) is Annotated:
            hint = hint.__origin__
            continue
        arguments = [item for item in typing.get_args(hint) if item is not type(None)]
        if _is_union(hint) and len(arguments) == 1:
            hint = arguments[0]
            continue
        return hint


def _is_union(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    return origin is Union or getattr(origin, "__name__", "") == "UnionType"


def _is_list(hint: Any) -> bool:
    bare = _bare(hint)
    return (typing.get_origin(bare) or bare) in (list, tuple, set, frozenset, collections.abc.Sequence)


def _is_file(hint: Any) -> bool:
    bare = _bare(hint)
    if _is_list(bare):
        return any(_is_file(item) for item in typing.get_args(bare) if item is not ...)
    return bare is Path or is_type(bare, "PIL.Image", "Image")


def _names_classes(hint: Any, seen: frozenset[Any] = frozenset()) -> bool:
    """Whether values of this type hold some of the project's own classes, which travel as what they hold.

    Or tensors on a device, which travel without it.
    """
    if isinstance(hint, Device):
        return True
    kind = typing.get_origin(hint) or hint
    if isinstance(kind, type) and kind not in seen:
        if issubclass(kind, BaseModel | enum.Enum) or dataclasses.is_dataclass(kind):
            return True
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return True
        if typing.is_typeddict(kind):
            fields = typing.get_type_hints(kind)
            return any(_names_classes(field, seen | {kind}) for field in fields.values())
    return any(_names_classes(argument, seen) for argument in typing.get_args(hint))


def _type_hints(func: Any, where: str) -> dict[str, Any]:
    func = inspect.unwrap(func)
    try:
        return typing.get_type_hints(func, include_extras=True)
    except Exception as error:
        place = f"{func.__code__.co_filename}:{func.__code__.co_firstlineno}"
        problems = "; ".join(_unresolved(func)) or str(error)
        raise UnservableException(f"{place}: {where}: {problems}") from error


def _unresolved(func: Any) -> Iterator[str]:
    """Every annotation of a function that names something which is not there."""
    for name, annotation in func.__annotations__.items():
        one = SimpleNamespace(__annotations__={name: annotation})
        try:
            typing.get_type_hints(one, globalns=func.__globals__, include_extras=True)
        except Exception as error:  # noqa: BLE001  # an annotation is an expression, and may raise anything
            yield f"the annotation `{name}: {annotation}` cannot be resolved: {error}"


def _no_input(place: str, cls: type) -> str:
    return (
        f"`{place}` is a `{cls.__qualname__}`, which no request brings; make it a pydantic model or a "
        f"dataclass, or tell how one is made: `Annotated[{cls.__name__}, pydantic.BeforeValidator(...)]`"
    )


def _no_result(place: str, cls: type) -> str:
    what = f"`{place}` of its result" if place else "its result"
    return (
        f"{what} is a `{cls.__qualname__}`, of which no response can be made; make it a pydantic model or a "
        f"dataclass, or tell what stands for one: `Annotated[{cls.__name__}, pydantic.PlainSerializer(...)]`"
    )


def _field(number: int) -> str:
    return f"p{number}"
