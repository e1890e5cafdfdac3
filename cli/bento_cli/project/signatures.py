"""What the endpoints of a service take and return, as the source is written."""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Iterable, Iterator

from bento_cli.project.definitions import Definition, definition_of, is_endpoint, lineage, members_of
from bento_cli.project.source import Module, Project


def signatures(project: Project, definition: Definition) -> dict[str, str]:
    """Each endpoint and its signature, such as `(prompt: str, steps: int=...) -> Image`, without values."""
    return {name: _signature(function) for name, (_, function) in _endpoints(project, definition).items()}


def contract_digest(project: Project, definition: Definition) -> str:
    """What stands for the signatures, and for the fields of the project's classes that they name."""
    lines = [f"{name}{text}" for name, text in signatures(project, definition).items()]
    waiting = [
        (owner.module, annotation)
        for owner, function in _endpoints(project, definition).values()
        for annotation in _annotations(function)
    ]
    seen: set[tuple[str, str]] = set()
    while waiting:
        module, annotation = waiting.pop()
        for found in _classes(project, module, annotation):
            if (found.module.name, found.qualname) not in seen:
                seen.add((found.module.name, found.qualname))
                for owner, field in _fields(project, found):
                    lines.append(f"{found.qualname}.{ast.unparse(_without_default(field))}")
                    waiting.append((owner.module, field.annotation))
    return f"sha256:{hashlib.sha256(chr(10).join(sorted(lines)).encode()).hexdigest()}"


def _endpoints(
    project: Project, definition: Definition
) -> dict[str, tuple[Definition, ast.FunctionDef | ast.AsyncFunctionDef]]:
    return {
        name: (owner, member)
        for name, (owner, member) in members_of(project, definition).items()
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and is_endpoint(project, owner, member)
    }


def _signature(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    arguments = copy.deepcopy(function.args)
    first = (arguments.posonlyargs or arguments.args)[:1]
    for listed in (arguments.posonlyargs, arguments.args):
        listed[:] = [argument for argument in listed if argument not in first]
    count = len(arguments.posonlyargs) + len(arguments.args)
    defaults: list[ast.expr] = [ast.Constant(...) for _ in arguments.defaults]
    arguments.defaults = defaults[-count:] if count else []
    arguments.kw_defaults = [value and ast.Constant(...) for value in arguments.kw_defaults]
    returned = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    return f"({ast.unparse(arguments)}){returned}"


def _annotations(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.expr]:
    own = function.args
    extra = (argument for argument in (own.vararg, own.kwarg) if argument is not None)
    for argument in (*own.posonlyargs, *own.args, *own.kwonlyargs, *extra):
        if argument.annotation is not None:
            yield argument.annotation
    if function.returns is not None:
        yield function.returns


def _classes(project: Project, module: Module, annotation: ast.expr) -> Iterator[Definition]:
    """The classes of the project that an annotation names, in quotes or without."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                yield from _classes(project, module, ast.parse(node.value, mode="eval").body)
            except SyntaxError:
                continue  # a text, such as one of a `Literal`
        elif isinstance(node, ast.Name | ast.Attribute):
            symbol = project.resolve(module, node)
            found = definition_of(project, symbol) if symbol else None
            if found is not None:
                yield found


def _fields(project: Project, definition: Definition) -> Iterable[tuple[Definition, ast.AnnAssign]]:
    for owner in lineage(project, definition):
        for statement in owner.body:
            if isinstance(statement, ast.AnnAssign):
                yield owner, statement


def _without_default(field: ast.AnnAssign) -> ast.AnnAssign:
    value = None if field.value is None else ast.Constant(...)
    return ast.AnnAssign(field.target, field.annotation, value, field.simple)
