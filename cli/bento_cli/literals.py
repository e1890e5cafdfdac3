"""What the source says outright: literals, names bound to them, and what is made of such."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable

from bento_cli.source import Module, Project


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
            return [value_of(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(value_of(item) for item in items)
        case ast.BinOp(left=left, op=operator, right=right):
            return _number(value_of(left), operator, value_of(right))
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


def _number(left: object, operator: ast.operator, right: object) -> object:
    """`60 * 10` and the like."""
    if not isinstance(left, int | float) or not isinstance(right, int | float):
        raise ValueError("no arithmetic of numbers")
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
