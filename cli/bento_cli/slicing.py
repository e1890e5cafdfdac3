"""Which installed modules one service needs, out of all that the project's files import."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bento_cli.discovery import Definition, Discovery
from bento_cli.source import Module, Project, statements

# Always in an image, whatever a service reaches.
_ALWAYS = frozenset({"bentoml", "pydantic", "__future__"}) | sys.stdlib_module_names
_OPAQUE_CALLS = frozenset({"__import__", "import_module", "globals", "eval", "exec"})


@dataclass(frozen=True, kw_only=True)
class Slice:
    """What one service needs of the modules that its project imports.

    Args:
        reached: top-level modules that its image must hold, each with where and why.
        absent: top-level modules that are imported while it loads, and that it does not need.
        modules: the project's own modules that it loads.
    """

    service: str
    reached: Mapping[str, str]
    absent: frozenset[str]
    modules: tuple[str, ...]


def slice_service(project: Project, discovery: Discovery, service: str) -> Slice:
    """The slice of one service of the graph.

    A module is kept when the service's class reaches it through names, when a module of the project
    really uses it while loading, and wherever the source does not say.
    """
    return _Slicer(project, discovery).run(service)


@dataclass
class _Slicer:
    project: Project
    discovery: Discovery
    reached: dict[str, str] = field(default_factory=dict)
    visited: set[tuple[str, str]] = field(default_factory=set)
    waiting: list[tuple[Module, str]] = field(default_factory=list)
    own: Definition | None = None

    def run(self, service: str) -> Slice:
        self.own = self.discovery.definitions[service]
        loaded = self._loaded(self.own.module)
        self._visit(self.own.module, self.own.node)
        for module in loaded:
            self._visit_loading(module)
        while self.waiting:
            self._reach_name(*self.waiting.pop())
        imported = {name: where for module in loaded for name, where in self._imported(module)}
        return Slice(
            service=service,
            reached=dict(sorted(self.reached.items())),
            absent=frozenset(imported) - self.reached.keys(),
            modules=tuple(module.name for module in loaded),
        )

    def _loaded(self, start: Module) -> list[Module]:
        """The project's modules that are executed when `start` is imported."""
        found = {start.name: start}
        waiting = [start]
        while waiting:
            module = waiting.pop()
            for statement in statements(module.tree.body):
                for name in _imported_names(module, statement):
                    # Importing a.b.c runs a and a.b too.
                    parts = name.split(".")
                    for depth in range(1, len(parts) + 1):
                        target = self.project.module(".".join(parts[:depth]))
                        if target is not None and target.name not in found:
                            found[target.name] = target
                            waiting.append(target)
        return list(found.values())

    def _imported(self, module: Module) -> Iterator[tuple[str, str]]:
        """Top-level modules, not of the project, that a module's statements import."""
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for name in _import_sources(module, node):
                    top = name.partition(".")[0]
                    if top not in _ALWAYS and self.project.module(top) is None:
                        yield top, _place(module, node)

    def _keep(self, name: str, why: str) -> None:
        top = name.partition(".")[0]
        if top not in _ALWAYS and self.project.module(top) is None:
            self.reached.setdefault(top, why)

    def _visit_loading(self, module: Module) -> None:
        """Keep what a module of the project really uses while it is loaded."""
        for star in module.star_imports:
            self._keep(module.absolute(star), f"{_place(module, star)}: `import *`")
        used = {node.id for node in ast.walk(module.tree) if isinstance(node, ast.Name)}
        used |= set(_exported(module))
        for statement in statements(module.tree.body):
            if isinstance(statement, ast.Import):
                for alias in statement.names:
                    # Nothing names it: it is imported for what its import does.
                    if (alias.asname or alias.name.partition(".")[0]) not in used:
                        self._keep(alias.name, f"{_place(module, statement)}: imported for its effect")
            for expression in _evaluated(statement):
                self._visit(module, expression)

    def _visit(self, module: Module, node: ast.AST) -> None:
        """Reach everything that a piece of code names."""
        for inner in _walk(node):
            if isinstance(inner, ast.Name):
                self._name(module, inner.id)
            elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                self._annotation_text(module, inner.value)
            elif isinstance(inner, ast.Import | ast.ImportFrom):
                self._inner_import(module, inner)
            elif isinstance(inner, ast.Call):
                self._opaque_call(module, inner)

    def _name(self, module: Module, name: str) -> None:
        if (module.name, name) not in self.visited:
            self.visited.add((module.name, name))
            self.waiting.append((module, name))

    def _annotation_text(self, module: Module, text: str) -> None:
        """A string may be an annotation, `"np.ndarray"`: its first name counts when the module binds it."""
        first = text.partition(".")[0].partition("[")[0].strip()
        if first.isidentifier() and first in module.bindings:
            self._name(module, first)

    def _reach_name(self, module: Module, name: str) -> None:
        for star in module.star_imports:
            source = self.project.module(module.absolute(star))
            if source is not None and name in source.bindings:
                self._name(source, name)
        for statement in module.bindings.get(name, []):
            if isinstance(statement, ast.Import):
                for alias in statement.names:
                    if (alias.asname or alias.name.partition(".")[0]) == name:
                        self._reach_module(alias.name, f"{_place(module, statement)}: `{name}`")
            elif isinstance(statement, ast.ImportFrom):
                self._reach_from(module, statement, name)
            elif not self._is_other_service(module, statement):
                self._visit(module, statement)

    def _reach_from(self, module: Module, statement: ast.ImportFrom, name: str) -> None:
        source = module.absolute(statement)
        original = next(a.name for a in statement.names if (a.asname or a.name) == name)
        target = self.project.module(source)
        if self.project.module(f"{source}.{original}") is not None:
            self._reach_module(f"{source}.{original}", f"{_place(module, statement)}: `{name}`")
        elif target is not None:
            self._name(target, original)
        else:
            self._keep(source, f"{_place(module, statement)}: `{name}`")

    def _reach_module(self, name: str, why: str) -> None:
        """A module as a whole: any of its names may be taken from it."""
        target = self.project.module(name)
        if target is None:
            self._keep(name, why)
            return
        for bound in target.bindings:
            self._name(target, bound)

    def _inner_import(self, module: Module, node: ast.Import | ast.ImportFrom) -> None:
        for name in _import_sources(module, node):
            self._reach_module(name, f"{_place(module, node)}: imported where it is used")

    def _opaque_call(self, module: Module, call: ast.Call) -> None:
        """`importlib.import_module(name)` and the like: a literal says what, anything else means all."""
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if name not in _OPAQUE_CALLS:
            return
        why = f"{_place(module, call)}: `{name}(...)`"
        match call.args:
            case [ast.Constant(value=str() as text), *_] if name in ("import_module", "__import__"):
                self._keep(text, why)
            case _:
                for other in self._loaded(module):
                    for top, _ in self._imported(other):
                        self._keep(top, why)

    def _is_other_service(self, module: Module, statement: ast.stmt) -> bool:
        """Whether a statement defines another service: that one runs in a process of its own."""
        own_bases = {ast.unparse(base) for base in self.own.node.bases} if self.own else set()
        return any(
            definition.node is statement
            and definition is not self.own
            and definition.node.name not in own_bases
            for definition in self.discovery.definitions.values()
        )


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Like `ast.walk`, without the class that a `depends(Service)` names."""
    waiting = [node]
    while waiting:
        inner = waiting.pop()
        yield inner
        children = list(ast.iter_child_nodes(inner))
        if isinstance(inner, ast.Call) and _call_name(inner) == "depends":
            children = [child for child in children if child not in inner.args[:1]]
        waiting.extend(children)


def _call_name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _import_sources(module: Module, node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [module.absolute(node)]


def _imported_names(module: Module, statement: ast.stmt) -> Iterator[str]:
    """Modules that a statement may load: `from a import b` may mean the module `a.b`."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        source = module.absolute(statement)
        yield source
        yield from (f"{source}.{alias.name}" for alias in statement.names)


def _exported(module: Module) -> Iterator[str]:
    """Names that `__all__` lists, and all of a package's `__init__`: others import them from there."""
    for statement in module.bindings.get("__all__", []):
        for node in ast.walk(statement):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
    if module.is_package:
        yield from module.bindings


def _evaluated(statement: ast.stmt) -> Iterator[ast.AST]:
    """The parts of a statement that really use what they name while the module loads.

    A placeholder may stand where a name is only read, annotated, subclassed or decorated with, so those
    parts are left out.
    """
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            defaults = [*statement.args.defaults, *(d for d in statement.args.kw_defaults if d is not None)]
            yield from _used(*defaults)
            yield from _used_decorators(statement.decorator_list)
        case ast.ClassDef():
            yield from _used_decorators(statement.decorator_list)
            yield from _used(*(base for base in statement.bases))
            for inner in statements(statement.body):
                yield from _evaluated(inner)
        case ast.Import() | ast.ImportFrom() | ast.Pass() | ast.Global():
            return
        case ast.If(test=test) | ast.While(test=test):
            yield test
        case ast.For(iter=iterated):
            yield iterated
        case ast.With(items=items):
            for item in items:
                # `with bentoml.importing():` says what may be missing, and uses nothing.
                yield from _used(item.context_expr)
        case ast.Assign(value=value) | ast.Expr(value=value):
            yield from _used(value)
        case ast.AnnAssign(value=value):
            yield from _used(*([value] if value else []))
        case ast.Try() | ast.Match():
            return
        case _:
            yield statement


def _used(*expressions: ast.expr) -> Iterator[ast.expr]:
    yield from (expression for expression in expressions if not _is_only_read(expression))


def _used_decorators(decorators: list[ast.expr]) -> Iterator[ast.expr]:
    for decorator in decorators:
        if isinstance(decorator, ast.Call):
            yield from _used(*decorator.args, *(keyword.value for keyword in decorator.keywords))
            if not isinstance(decorator.func, ast.Attribute):
                yield decorator.func
        elif isinstance(decorator, ast.Name):
            yield decorator


def _is_only_read(node: ast.expr | None) -> bool:
    """Whether evaluating an expression does no more than look names up."""
    match node:
        case None | ast.Constant() | ast.Name() | ast.Lambda():
            return True
        case ast.Attribute(value=value):
            return _is_only_read(value)
        case ast.Subscript(value=value, slice=index):
            return _is_only_read(value) and _is_only_read(index)
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return all(_is_only_read(item) for item in items)
        case ast.Dict(keys=keys, values=values):
            return all(_is_only_read(item) for item in [*keys, *values])
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _is_only_read(left) and _is_only_read(right)
    return False


def _place(module: Module, node: ast.stmt | ast.expr) -> str:
    return f"{module.path.name}:{node.lineno}"
