"""What the source says outright: literals, names bound to them, and what is made of such."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from bento_cli.project.source import Module, Project, bound_names
from bentoml.images import Image

# Types of arguments that are taken as they are given.
_PLAIN: Final[Mapping[str, type]] = {"bool": bool, "float": float, "int": int, "str": str}
# Methods of a model that run while it is made, and settings of one that leave values as they are.
_MAKERS: Final = frozenset({"__init__", "__new__", "__getattribute__", "model_post_init", "model_validate"})
_HARMLESS_CONFIG: Final = frozenset({"extra", "frozen", "arbitrary_types_allowed", "protected_namespaces"})
_IMAGES = frozenset({"bentoml.images.Image", "bentoml.images.PythonImage"})
# What an image is told, step by step; each of these returns the image.
_STEPS = frozenset(
    {
        *("build_include", "pyproject_toml", "python_packages", "requirements_file", "run", "run_script"),
        *("system_packages", "uv_lock"),
    }
)


def literal(project: Project, module: Module, node: ast.expr) -> object:
    """The value of a literal, of a name bound once to a literal, and of what is made of such.

    Raises:
        ValueError: it is computed.
    """

    def value_of(inner: ast.expr) -> object:
        return literal(project, module, inner)

    match node:
        case ast.Dict(keys=keys, values=values):
            return _mapping(zip(keys, values, strict=True), value_of)
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            named = ((ast.Constant(k.arg) if k.arg else None, k.value) for k in keywords)
            return _mapping(named, value_of)
        case ast.List(elts=items):
            return list(_items(items, value_of))
        case ast.Tuple(elts=items):
            return tuple(_items(items, value_of))
        case ast.BinOp(left=left, op=operator, right=right):
            return _combined(value_of(left), operator, value_of(right))
        case ast.JoinedStr(values=parts):
            return "".join(_text(part, value_of) for part in parts)
        case ast.Subscript(value=container, slice=index):
            return _item(value_of(container), value_of(index))
        case ast.Name() | ast.Attribute():
            return _bound(project, module, node)
    try:
        return ast.literal_eval(node)
    except TypeError as error:  # a set of lists
        raise ValueError(str(error)) from None


def _mapping(
    items: Iterable[tuple[ast.expr | None, ast.expr]], value_of: Callable[[ast.expr], object]
) -> dict[object, object]:
    """A mapping of literals; no key means one that is unpacked."""
    mapping: dict[object, object] = {}
    for key, node in items:
        value = value_of(node)
        if key is None:
            if not isinstance(value, dict):
                raise ValueError("unpacks what is no mapping")
            mapping.update(value)
            continue
        try:
            mapping[value_of(key)] = value
        except TypeError as error:
            raise ValueError(str(error)) from None
    return mapping


def _items(nodes: Iterable[ast.expr], value_of: Callable[[ast.expr], object]) -> Iterator[object]:
    for node in nodes:
        if not isinstance(node, ast.Starred):
            yield value_of(node)
            continue
        values = value_of(node.value)
        if not isinstance(values, list | tuple):
            raise ValueError("unpacks what is no list")
        yield from values


def _combined(left: object, operator: ast.operator, right: object) -> object:
    """`60 * 10`, `"a" + "b"`, `[1] + [2]`, `{...} | {...}` and the like."""
    match left, operator, right:
        case int() | float(), _, int() | float():
            return _number(left, operator, right)
        case str(), ast.Add(), str():
            return left + right
        case list(), ast.Add(), list():
            return [*left, *right]
        case tuple(), ast.Add(), tuple():
            return (*left, *right)
        case dict(), ast.BitOr(), dict():
            return {**left, **right}
    raise ValueError("no literals that go together")


def _number(left: int | float, operator: ast.operator, right: int | float) -> int | float:
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div() if right:
            return left / right
    raise ValueError("no arithmetic of numbers")


def _text(part: ast.expr, value_of: Callable[[ast.expr], object]) -> str:
    """One part of `f"a {NAME}"`."""
    match part:
        case ast.Constant(value=str(text)):
            return text
        case ast.FormattedValue(value=node, conversion=-1, format_spec=None):
            value = value_of(node)
            if isinstance(value, str | int):
                return str(value)
    raise ValueError("formats a value")


def _item(container: object, index: object) -> object:
    match container, index:
        case dict(), str() | int() if index in container:
            return container[index]
        case list() | tuple(), int() if -len(container) <= index < len(container):
            return container[index]
    raise ValueError("no item of a literal")


def image(project: Project, module: Module, node: ast.expr) -> Image:
    """The image that `bentoml.images.Image(...)` and what it is told make, also behind a name.

    Raises:
        ValueError: it is computed.
        TypeError: it is given what it does not take.
    """
    match node:
        case ast.Call(func=ast.Attribute(value=inner, attr=step)) if step in _STEPS:
            return _told(project, module, image(project, module, inner), node)
        case ast.Call(func=function, args=args, keywords=keywords):
            symbol = project.resolve(module, function)
            if symbol is not None and symbol.dotted in _IMAGES and all(k.arg for k in keywords):
                named = {str(k.arg): literal(project, module, k.value) for k in keywords}
                return Image(*_arguments(project, module, args), **named)  # type: ignore[arg-type]  # checked where it is used
        case ast.Name() | ast.Attribute():
            symbol = project.resolve(module, node)
            home = project.module(symbol.module) if symbol else None
            is_changed = ast.unparse(node).partition(".")[0] in module.mutations and home is not module
            if home is not None and symbol is not None and not is_changed:
                return _named_image(project, home, symbol.name)
    raise ValueError(f"{ast.unparse(node)} is computed")


def _named_image(project: Project, home: Module, name: str) -> Image:
    """The image that a name stands for, with what it is told in the statements that follow."""
    match home.bindings.get(name):
        case [ast.Assign(targets=[ast.Name()], value=value)] if not _names(value, name):
            found = image(project, home, value)
        case _:
            raise ValueError(f"{name} is bound more than once")
    for statement in home.mutations.get(name, ()):
        match statement:
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(), attr=step)) as call) if (
                step in _STEPS and statement in home.tree.body
            ):
                found = _told(project, home, found, call)
            case _:
                raise ValueError(f"{name} is changed")
    return found


def _names(node: ast.expr, name: str) -> bool:
    return any(isinstance(inner, ast.Name) and inner.id == name for inner in ast.walk(node))


def _told(project: Project, module: Module, found: Image, call: ast.Call) -> Image:
    """An image that was told one more step."""
    assert isinstance(call.func, ast.Attribute)  # noqa: S101  # what a step is
    if call.keywords:
        raise ValueError("names an argument")
    arguments = _arguments(project, module, call.args)
    if not all(isinstance(argument, str) for argument in arguments):
        raise TypeError(f"`{call.func.attr}()` takes text, found {arguments}")
    told: Image = getattr(found, call.func.attr)(*arguments)
    return told


def _arguments(project: Project, module: Module, nodes: Iterable[ast.expr]) -> list[object]:
    return list(_items(nodes, lambda inner: literal(project, module, inner)))


def _bound(project: Project, module: Module, node: ast.Name | ast.Attribute) -> object:
    symbol = project.resolve(module, node)
    home = project.module(symbol.module) if symbol else None
    if home is not None and symbol is not None and _is_bound_once(module, ast.unparse(node).split(".")[0]):
        match home.bindings.get(symbol.name):
            case _ if symbol.name in home.mutations:
                pass
            case [ast.Assign(targets=[ast.Name()], value=value)] | [ast.AnnAssign(value=ast.expr() as value)]:
                # A name that is bound to itself in a roundabout way ends in Python's own recursion limit.
                try:
                    return literal(project, home, value)
                except RecursionError:
                    pass
        owner, _, name = symbol.name.rpartition(".")
        match home.bindings.get(owner):
            case [ast.Assign(targets=[ast.Name()], value=ast.Call() as call)] if owner not in home.mutations:
                return _argument(project, home, call, name)
    raise ValueError(f"{ast.unparse(node)} is computed")


def _is_bound_once(module: Module, name: str) -> bool:
    return len(module.bindings.get(name, ())) <= 1 and name not in module.mutations


def _argument(project: Project, module: Module, call: ast.Call, name: str) -> object:
    """What `args.name` is, where `args` is what `bentoml.use_arguments(...)` returns: given, or a default."""
    symbol = project.resolve(module, call.func)
    if symbol is not None and symbol.dotted == "bentoml.use_arguments":
        match call.args:
            case [] if name in project.arguments:
                return project.arguments[name]
            case [model]:
                return _field_value(project, *_model_field(project, module, model, name))
    raise ValueError(f"nothing says what `{name}` is")


def _field_value(project: Project, module: Module, declared: ast.AnnAssign) -> object:
    # What is called, such as `Field(alias="n")`, may say what the argument is named.
    if any(isinstance(node, ast.Call) for node in ast.walk(declared)):
        raise ValueError(f"{ast.unparse(declared)} is more than a type and a value")
    name = ast.unparse(declared.target)
    if name in project.arguments:
        return _fitting(project.arguments[name], list(_types(project, module, declared.annotation)))
    if declared.value is None:
        raise ValueError(f"{name} is not given")
    return literal(project, module, declared.value)


def _model_field(
    project: Project, module: Module, model: ast.expr, name: str
) -> tuple[Module, ast.AnnAssign]:
    """A field of a pydantic model that takes values as they are given, and where it stands."""
    symbol = project.resolve(module, model)
    home = project.module(symbol.module) if symbol else None
    match home.bindings.get(symbol.name) if home and symbol else None:
        case [ast.ClassDef(bases=[base], keywords=[], decorator_list=[], body=body)] if home:
            brought = project.resolve(home, base)
            is_model = brought is not None and brought.dotted == "pydantic.BaseModel"
            match [s for s in body if _is_of_field(s, name)]:
                case [ast.AnnAssign() as declared] if is_model and not any(map(_changes_fields, body)):
                    return home, declared
    raise ValueError(f"{ast.unparse(model)} is no model that takes values as they are given")


def _is_of_field(statement: ast.stmt, name: str) -> bool:
    if isinstance(statement, ast.AnnAssign):
        return ast.unparse(statement.target) == name
    return name in bound_names(statement)


def _changes_fields(statement: ast.stmt) -> bool:
    """Whether something in a model's body may make another value of one that is given, or rename it."""
    match statement:
        case ast.AnnAssign(target=ast.Name(id="model_config")):
            return True
        case ast.Assign(targets=[ast.Name(id="model_config")], value=value):
            keywords = value.keywords if isinstance(value, ast.Call) else []
            return not keywords or any(keyword.arg not in _HARMLESS_CONFIG for keyword in keywords)
        case ast.FunctionDef(name=name, decorator_list=decorators):
            markers = (ast.unparse(d.func if isinstance(d, ast.Call) else d) for d in decorators)
            return name in _MAKERS or any(marker.endswith("validator") for marker in markers)
    return not isinstance(statement, ast.AnnAssign | ast.Assign | ast.Expr | ast.Pass)


def _types(project: Project, module: Module, annotation: ast.expr) -> Iterator[object]:
    """The types and values of `int`, `str | None`, `Optional[float]`, `Literal["a", "b"]` and the like."""
    match annotation:
        case ast.Constant(value=None):
            yield None
            return
        case ast.Name(id=name) if name in _PLAIN and name not in module.bindings:
            yield _PLAIN[name]
            return
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield from _types(project, module, left)
            yield from _types(project, module, right)
            return
        case ast.Subscript(value=outer, slice=inner):
            symbol = project.resolve(module, outer)
            match symbol.dotted if symbol else "":
                case "typing.Optional":
                    yield None
                    yield from _types(project, module, inner)
                    return
                case "typing.Literal":
                    values = literal(project, module, inner)
                    yield from values if isinstance(values, tuple) else [values]
                    return
    raise ValueError(f"{ast.unparse(annotation)} may make something else of a value")


def _fitting(value: object, alternatives: list[object]) -> object:
    """A value as a field holds it that takes values of these types, and these values."""
    if any(type(value) is one or (type(value) is type(one) and value == one) for one in alternatives):
        return value
    if type(value) is int and float in alternatives:
        return float(value)
    raise ValueError(f"{value!r} is converted, or refused")
