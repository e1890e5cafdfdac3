"""What the source says outright: literals, names bound to them, and what is made of such."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator

from bento_cli.source import Module, Project
from bentoml.images import Image

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
    raise ValueError(f"{ast.unparse(node)} is computed")


def _is_bound_once(module: Module, name: str) -> bool:
    return len(module.bindings.get(name, ())) <= 1 and name not in module.mutations
