"""Where a service is defined: its class or statement, what marks it, and its members."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from bento_cli.project.literals import literal
from bento_cli.project.source import Module, Project, Symbol, bound_names, statements

_DECORATORS = {"bentoml.service"}
_SERVICE_OBJECTS = {"bentoml.Service"}
_TASKS = {"bentoml.task"}
_ENDPOINTS = {"bentoml.api", *_TASKS}
_DEPENDS = {"bentoml.depends"}


@dataclass(frozen=True)
class Definition:
    """Where a service, or a base class of one, stands.

    Args:
        node: the class; where a service has none, the statement that binds a name to it.
        outer: the class that it stands in, if it stands in one.
    """

    module: Module
    node: ast.ClassDef | ast.Assign | ast.AnnAssign
    outer: str = ""

    @property
    def name(self) -> str:
        """What it is called where it stands."""
        return self.node.name if isinstance(self.node, ast.ClassDef) else next(bound_names(self.node))

    @property
    def qualname(self) -> str:
        """What it is called in its module: `Class` or `Outer.Class`."""
        return f"{self.outer}.{self.name}" if self.outer else self.name

    @property
    def bases(self) -> list[ast.expr]:
        return self.node.bases if isinstance(self.node, ast.ClassDef) else []

    @property
    def decorators(self) -> list[ast.expr]:
        return self.node.decorator_list if isinstance(self.node, ast.ClassDef) else []

    @property
    def body(self) -> list[ast.stmt]:
        return self.node.body if isinstance(self.node, ast.ClassDef) else []


def lineage(project: Project, definition: Definition) -> list[Definition]:
    """A class and its base classes in the project, in the order in which later ones win."""
    found: list[Definition] = []
    waiting = [definition]
    while waiting:
        current = waiting.pop(0)
        if current not in found:
            found.append(current)
            bases = (class_of(project, current.module, base) for base in current.bases)
            waiting.extend(base for base in bases if base is not None)
    return found[::-1]


def is_service(project: Project, definition: Definition) -> bool:
    """Whether a class is marked with `@bentoml.service`, or a statement makes a `bentoml.Service`."""
    return mark_of(project, definition) is not None


def definition_of(project: Project, symbol: Symbol) -> Definition | None:
    """The class that a symbol stands for, or the statement that makes a service without one."""
    module = project.module(symbol.module)
    if module is not None:
        outer = symbol.name.rpartition(".")[0]
        for statement in reversed(module.binding(symbol.name)):
            if isinstance(statement, ast.ClassDef):
                return Definition(module, statement, outer)
            if isinstance(statement, ast.Assign | ast.AnnAssign):
                definition = Definition(module, statement, outer)
                if is_service(project, definition):
                    return definition
    return None


def members_of(project: Project, definition: Definition) -> dict[str, tuple[Definition, ast.stmt]]:
    """What each name of a class is bound to in the end and by which class, inherited ones first."""
    members: dict[str, tuple[Definition, ast.stmt]] = {}
    for owner in lineage(project, definition):
        for statement in statements(owner.body):
            members.update((name, (owner, statement)) for name in bound_names(statement))
    return members


def own_code(project: Project, definition: Definition) -> Iterator[ast.AST]:
    """All nodes of a class but those of services that are defined inside it."""
    waiting: list[ast.AST] = [definition.node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [
            child
            for child in ast.iter_child_nodes(node)
            if not isinstance(child, ast.ClassDef)
            or not is_service(project, Definition(definition.module, child))
        ]


def is_endpoint(project: Project, owner: Definition, member: ast.stmt) -> bool:
    """Whether a member of a class is marked with `@bentoml.api` or `@bentoml.task`."""
    return _is_marked(project, owner.module, member, _ENDPOINTS)


def is_task(project: Project, owner: Definition, member: ast.stmt) -> bool:
    """Whether a member of a class is an endpoint whose results are kept."""
    return _is_marked(project, owner.module, member, _TASKS)


def is_depends(project: Project, module: Module, call: ast.Call) -> bool:
    """Whether a call is one of `bentoml.depends`."""
    return _names(project, module, call, _DEPENDS)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What a service is made with: the values of literals, where each stands, and what is computed."""

    module: Module
    mark: ast.expr
    values: dict[str, object] = field(default_factory=dict)
    places: dict[str, ast.expr] = field(default_factory=dict)
    computed: dict[str, ast.expr] = field(default_factory=dict)


def arguments_of(project: Project, definition: Definition) -> Arguments:
    """What a service is made with; what is no literal nor a name bound to one is `computed`."""
    module, mark = mark_of(project, definition) or (definition.module, ast.Constant(None))
    arguments = Arguments(module=module, mark=mark)
    if not isinstance(mark, ast.Call):
        return arguments
    is_object = not isinstance(definition.node, ast.ClassDef)
    given = [("name", value) for value in mark.args[:1]] if is_object else []
    for key, value in (*given, *((keyword.arg, keyword.value) for keyword in mark.keywords)):
        # `Service(config={...})` holds what a decorator takes as `**{...}`.
        is_unpacked = key is None or (is_object and key == "config")
        try:
            values = literal(project, module, ast.Dict([None if is_unpacked else ast.Constant(key)], [value]))
        except ValueError:
            arguments.computed[key or f"**{ast.unparse(value)}"] = value
            continue
        assert isinstance(values, dict)  # noqa: S101  # what a dictionary's display is
        arguments.values.update(values)
        arguments.places.update(dict.fromkeys(values, value))
    return arguments


def depends_call(
    project: Project, owner: Definition, member: ast.stmt
) -> tuple[Module, str, ast.Call] | None:
    """The `depends(...)` that a statement of a class's body binds, its module, and the class it stands in."""
    value = member.value if isinstance(member, ast.Assign | ast.AnnAssign) else None
    found = _written(project, owner.module, value, _DEPENDS) if value is not None else None
    match found:
        case (Module() as home, ast.Call() as call):
            # Behind a name it stands outside of the class.
            return home, owner.qualname if call is value else "", call
    return None


def class_of(project: Project, module: Module, base: ast.expr) -> Definition | None:
    """The project's class that a base class's expression names, `Base[T]` too."""
    symbol = project.resolve(module, base.value if isinstance(base, ast.Subscript) else base)
    return definition_of(project, symbol) if symbol else None


def mark_of(project: Project, definition: Definition) -> tuple[Module, ast.expr] | None:
    """The decorator or the call that makes a service, and the module it is written in."""
    module, node = definition.module, definition.node
    if isinstance(node, ast.ClassDef):
        found = (_written(project, module, decorator, _DECORATORS) for decorator in definition.decorators)
        return next((mark for mark in found if mark is not None), None)
    value = node.value
    if isinstance(value, ast.Call) and _names(project, module, value, _SERVICE_OBJECTS):
        return module, value
    return None


def _is_marked(project: Project, module: Module, member: ast.stmt, wanted: set[str]) -> bool:
    """Whether a member of a class is a function with one of the decorators wanted, or a call of one."""
    match member:
        case ast.FunctionDef(decorator_list=decorators) | ast.AsyncFunctionDef(decorator_list=decorators):
            return any(_written(project, module, decorator, wanted) for decorator in decorators)
        case ast.Assign(value=ast.Call() as call):
            return _names(project, module, call, wanted)
    return False


def _written(
    project: Project, module: Module, node: ast.expr, wanted: set[str]
) -> tuple[Module, ast.expr] | None:
    """`wanted` or a call of it, as it stands or behind a name: `gpu = bentoml.service(...)`, then `@gpu`."""
    if _names(project, module, node, wanted):
        return module, node
    symbol = project.resolve(module, node)
    home = project.module(symbol.module) if symbol else None
    match home.bindings.get(symbol.name) if home and symbol else None:
        case [ast.Assign(value=ast.Call() as call)] if home and _names(project, home, call, wanted):
            return home, call
    return None


def _names(project: Project, module: Module, node: ast.expr, wanted: set[str]) -> bool:
    """Whether a decorator or call, with or without arguments, is one of the names wanted."""
    target = node.func if isinstance(node, ast.Call) else node
    symbol = project.resolve(module, target)
    return symbol is not None and symbol.dotted in wanted
