"""Which installed modules one service needs, out of all that the project's files import."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bento_cli.project.definitions import Definition, is_service, lineage
from bento_cli.project.discovery import Discovery
from bento_cli.project.evaluation import evaluated, unguarded_names
from bento_cli.project.opacity import Reach, reach_of_call, reach_of_name
from bento_cli.project.source import (
    Module,
    Project,
    children,
    imported_module,
    imported_modules,
    statements,
    walk,
)

# Always in an image, whatever a service reaches.
_ALWAYS = frozenset({"bentoml", "pydantic", "__future__"}) | sys.stdlib_module_names


@dataclass(frozen=True, kw_only=True)
class Slice:
    """What one service needs of the modules that its project imports.

    Args:
        reached: top-level modules that its image must hold, each with where and why.
        absent: top-level modules that are imported while it loads, and that it does not need.
        modules: the project's own modules that it loads.
        command: words of the command that answers for it, if one does.
    """

    service: str
    reached: Mapping[str, str]
    absent: frozenset[str]
    modules: tuple[str, ...]
    command: tuple[str, ...] = ()


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
    imported: set[str] = field(default_factory=set)
    loaded: dict[str, Module] = field(default_factory=dict)
    # What changes a name of a module after it was bound, wherever that stands.
    changes: dict[tuple[str, str], list[tuple[Module, ast.stmt]]] = field(default_factory=dict)
    visited: set[tuple[str, str]] = field(default_factory=set)
    waiting: list[tuple[Module, str, str | None]] = field(default_factory=list)
    is_loading: bool = True
    # The line that really uses, while its module loads, what is being reached.
    cause: str | None = None
    opaque: str | None = None
    may_import_anything: bool = False
    own: list[ast.stmt] = field(default_factory=list)

    def run(self, service: str) -> Slice:
        definition = self.discovery.definitions[service]
        self.own = [d.node for d in lineage(self.project, definition)]
        home, _, name = self.discovery.graph.services[service].target.partition(":")
        self._load(home)
        self._load(definition.module.name)
        self._reach_all()
        # What a name was given after it was bound counts from here on: loading runs none of it.
        self.is_loading = False
        self.visited.clear()
        # By its name: what is mounted on it behind its class counts as well.
        module = definition.module if definition.module.name == home else self.loaded[home]
        self._name(module, name.partition(".")[0])
        if service in self.discovery.imported:
            self._reach_what_makes(definition)
        elif definition.outer:
            self._visit(definition.module, definition.node)
        self._reach_all()
        command = self.discovery.commands.get(service, ())
        for word in command:
            self._reach_started(word)
        if self.opaque is not None:
            hidden = imported_modules(self.project) if self.may_import_anything else self.imported
            for top in hidden:
                self._keep(top, self.opaque)
        return Slice(
            service=service,
            reached=dict(sorted(self.reached.items())),
            absent=frozenset(self.imported - self.reached.keys()),
            modules=tuple(self.loaded),
            command=command,
        )

    def _reach_all(self) -> None:
        outer = self.cause
        while self.waiting:
            module, name, self.cause = self.waiting.pop()
            self._reach_name(module, name)
        self.cause = outer

    def _reach_what_makes(self, definition: Definition) -> None:
        """The function around a class that was made while the project ran; where there is none, anything."""
        module = definition.module
        for statement in module.tree.body:
            if any(node is definition.node for node in ast.walk(statement)):
                self._visit(module, statement)
                return
        self._hide(f"{module.path.name} makes it while it runs")

    def _hide(self, why: str, reach: Reach = Reach.anything) -> None:
        """Something that nobody can see through: all stays in."""
        self.opaque = self.opaque or why
        self.may_import_anything |= reach is Reach.anything

    def _load(self, name: str) -> None:
        """Run a module of the project, in thought: the packages around it, it, and what it imports."""
        waiting = [name]
        while waiting:
            parts = waiting.pop().split(".")
            for depth in range(1, len(parts) + 1):
                module = self.project.module(".".join(parts[:depth]))
                if module is None or module.name in self.loaded:
                    continue
                self.loaded[module.name] = module
                self._record(module)
                self._visit_loading(module)
                for statement in statements(module.tree.body):
                    waiting += _imported_names(module, statement)

    def _reach_started(self, word: str) -> None:
        """A module of the project that a service's command runs: no placeholders in that process."""
        name = word.removeprefix("./").removesuffix(".py").replace("/", ".")
        if self.project.module(name) is None:
            return
        started = _Slicer(self.project, self.discovery)
        started._load(name)
        self.loaded.update(started.loaded)
        for top in started.imported:
            self._keep(top, f"imported by what `{word}` in its command runs")

    def _record(self, module: Module) -> None:
        """Note the modules that a file imports anywhere, and the names that it changes."""
        for node in walk(module.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imported.update(self._installed(module, node))
        for name, changing in module.mutations.items():
            symbol = self.project.resolve(module, ast.Name(name))
            home = self.project.module(symbol.module) if symbol and symbol.name else None
            if home is None or symbol is None:
                continue
            key = (home.name, symbol.name)
            for statement in changing:
                self.changes.setdefault(key, []).append((module, statement))
                if key in self.visited and not self.is_loading:
                    self._visit_statement(module, statement)

    def _installed(self, module: Module, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        """Top-level modules, neither the project's nor always there, that a statement imports."""
        if isinstance(node, ast.ImportFrom):
            sources = [list(_imported_names(module, node))]
        else:
            sources = [[alias.name] for alias in node.names]
        for names in sources:
            top = names[0].partition(".")[0]
            if top not in _ALWAYS and not any(self.project.is_own(name) for name in names):
                yield top

    def _keep(self, name: str, why: str) -> None:
        top = name.partition(".")[0]
        if top not in _ALWAYS and not self.project.is_own(name):
            self.reached.setdefault(top, self.cause or why)

    def _visit_loading(self, module: Module) -> None:
        """Keep what a module of the project really uses while it is loaded."""
        for star in module.star_imports:
            self._keep(module.absolute(star), f"{self._place(module, star)}: `import *`")
        used = set(_used_names(module))
        for statement in statements(module.tree.body):
            if isinstance(statement, ast.Import):
                for alias in statement.names:
                    # Nothing names it: it is imported for what its import does.
                    if (alias.asname or alias.name.partition(".")[0]) not in used:
                        self._keep(alias.name, f"{self._place(module, statement)}: imported for its effect")
            for node in evaluated(self.project, module, statement):
                self._use(module, node, node)
        for name in unguarded_names(self.project, module, lambda s: any(self._installed(module, s))):
            self._use(module, name, name)

    def _use(self, module: Module, node: ast.AST, at: ast.expr | ast.stmt) -> None:
        """Reach what a piece of code names that runs while its module loads."""
        outer, self.cause = self.cause, f"{self._place(module, at)}: used while it loads"
        self._visit(module, node)
        self._reach_all()  # before the next one, so that the first line is named
        self.cause = outer

    def _visit(self, module: Module, node: ast.AST) -> None:
        """Reach everything that a piece of code names."""
        waiting = [node]
        while waiting:
            inner = waiting.pop()
            match inner:
                case ast.Name() | ast.Attribute():
                    waiting += self._reach_named(module, inner)
                    continue
                case ast.Import() | ast.ImportFrom():
                    self._inner_import(module, inner)
                case ast.ClassDef() if self._is_other_service(module, inner):
                    # It runs in a process of its own, and is made in this one too.
                    waiting += evaluated(self.project, module, inner)
                    continue
                case ast.Call():
                    waiting += self._reach_called(module, inner)
                    continue
            waiting += children(inner)
            waiting += _annotations_in_quotes(inner)

    def _reach_named(self, module: Module, node: ast.Name | ast.Attribute) -> list[ast.AST]:
        """Reach what a name or dotted name stands for; what of it is to be visited."""
        reach = reach_of_name(self.project, module, node)
        if reach is not None:
            self._hide(f"{self._place(module, node)}: `{ast.unparse(node)}`", reach)
        if isinstance(node, ast.Name):
            self._name(module, node.id)
        elif not self._reach_member(module, node):
            if not isinstance(node.value, ast.Name):
                return [node.value]
            self._name(module, node.value.id)
        return []

    def _reach_called(self, module: Module, call: ast.Call) -> list[ast.AST]:
        """Reach what a call may need that it does not name; what of it is to be visited."""
        if self._is_call_of(module, call, "bentoml.depends"):
            # Nothing of the other service's class is needed, unless it is computed which.
            ons = [*call.args, *(k.value for k in call.keywords if k.arg == "on")]
            computed = [on for on in ons if not isinstance(on, ast.Name | ast.Attribute)]
            return [*computed, *(k.value for k in call.keywords if k.arg != "on")]
        reach = reach_of_call(self.project, module, call)
        if reach is None:
            return list(children(call))
        why = f"{self._place(module, call)}: `{ast.unparse(call.func)}(...)`"
        if isinstance(reach, Reach):
            self._hide(why, reach)
            return list(children(call))
        for name in reach:
            self._load(name)
            self._reach_module(name, why)
        # Of the function itself everything is said.
        return [*call.args, *(keyword.value for keyword in call.keywords)]

    def _visit_statement(self, module: Module, statement: ast.stmt) -> None:
        if not self._is_other_service(module, statement):
            self._visit(module, statement)

    def _name(self, module: Module, name: str) -> None:
        if (module.name, name) not in self.visited:
            self.visited.add((module.name, name))
            self.waiting.append((module, name, self.cause))

    def _reach_name(self, module: Module, name: str) -> None:
        for statement in module.bindings.get(name, []):
            if isinstance(statement, ast.Import):
                for alias in statement.names:
                    if (alias.asname or alias.name.partition(".")[0]) == name:
                        self._reach_module(alias.name, f"{self._place(module, statement)}: `{name}`")
            elif isinstance(statement, ast.ImportFrom):
                original = next(a.name for a in statement.names if (a.asname or a.name) == name)
                self._reach_from(module, statement, original, f"`{name}`")
            else:
                self._visit_statement(module, statement)
        for home, statement in () if self.is_loading else self.changes.get((module.name, name), ()):
            self._visit_statement(home, statement)
        if name not in module.bindings:
            for star in module.star_imports:
                source = self.project.module(module.absolute(star))
                if source is not None:
                    self._name(source, name)

    def _reach_from(self, module: Module, statement: ast.ImportFrom, name: str, what: str) -> None:
        """`from source import name`."""
        source = module.absolute(statement)
        why = f"{self._place(module, statement)}: {what}"
        target = self.project.module(source)
        if self.project.module(f"{source}.{name}") is not None:
            self._reach_module(f"{source}.{name}", why)
        elif target is not None:
            self._member(target, name)
        else:
            self._keep(source, why)

    def _member(self, module: Module, name: str) -> None:
        """A name as others see it: a module's own `__getattr__` makes those that nothing binds."""
        self._name(module, name)
        if name not in module.bindings:
            self._name(module, "__getattr__")

    def _reach_member(self, module: Module, node: ast.Attribute) -> bool:
        """`helpers.resize` reaches one name of the project's module; False when it is no such thing."""
        names: list[str] = []
        root: ast.expr = node
        while isinstance(root, ast.Attribute):
            names.insert(0, root.attr)
            root = root.value
        bindings = module.bindings.get(root.id, []) if isinstance(root, ast.Name) else []
        bound = {self._bound_module(module, statement, ast.unparse(root)) for statement in bindings}
        current = bound.pop() if len(bound) == 1 else None
        if current is None:
            return False
        for name in names:
            if self.project.module(f"{current}.{name}") is not None:
                current = f"{current}.{name}"
                continue
            target = self.project.module(current)
            if target is not None and name != "__dict__":
                self._member(target, name)
            elif target is not None:
                break
            return target is not None
        self._reach_module(current, f"{self._place(module, node)}: `{ast.unparse(node)}`")
        return True

    def _bound_module(self, module: Module, statement: ast.stmt, name: str) -> str | None:
        """The module that a statement binds a name to."""
        match statement:
            case ast.Import(names=names):
                return imported_module(names, name)
            case ast.ImportFrom(names=names):
                original = next(a.name for a in names if (a.asname or a.name) == name)
                dotted = f"{module.absolute(statement)}.{original}"
                return dotted if self.project.module(dotted) is not None else None
        return None

    def _reach_module(self, name: str, why: str) -> None:
        """A module as a whole: any of its names may be taken from it."""
        target = self.project.module(name)
        if target is None:
            self._keep(name, why)
            return
        for bound in target.bindings:
            self._name(target, bound)

    def _inner_import(self, module: Module, node: ast.Import | ast.ImportFrom) -> None:
        """An import in a function: what it loads is loaded when the function runs."""
        for name in _imported_names(module, node):
            self._load(name)
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name != "*":
                    self._reach_from(module, node, alias.name, "imported where it is used")
            return
        for alias in node.names:
            self._reach_module(alias.name, f"{self._place(module, node)}: imported where it is used")

    def _is_call_of(self, module: Module, call: ast.Call, dotted: str) -> bool:
        symbol = self.project.resolve(module, call.func)
        return symbol is not None and symbol.dotted == dotted

    def _is_other_service(self, module: Module, statement: ast.stmt) -> bool:
        """Whether a statement defines a service whose code does not run here.

        That of other services runs in processes of their own, and while modules load that of none.
        """
        if not isinstance(statement, ast.ClassDef | ast.Assign | ast.AnnAssign):
            return False
        if statement in self.own and not self.is_loading:
            return False
        return is_service(self.project, Definition(module, statement))

    def _place(self, module: Module, node: ast.stmt | ast.expr) -> str:
        return f"{module.path.relative_to(self.project.root).as_posix()}:{node.lineno}"


def _imported_names(module: Module, statement: ast.stmt) -> Iterator[str]:
    """Modules that a statement may load: `from a import b` may mean the module `a.b`."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        source = module.absolute(statement)
        yield source
        yield from (f"{source}.{alias.name}" for alias in statement.names)


def _used_names(module: Module) -> Iterator[str]:
    """Names that a module's own code names, in annotations as well, or offers to others."""
    for node in walk(module.tree):
        for inner in (node, *(i for quoted in _annotations_in_quotes(node) for i in ast.walk(quoted))):
            if isinstance(inner, ast.Name):
                yield inner.id
    for statement in module.bindings.get("__all__", []):
        for node in ast.walk(statement):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
    if module.is_package:  # others import from there what it has imported
        yield from module.bindings


def _annotations_in_quotes(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions that stand as text in a node's own annotation: `"np.ndarray"`."""
    match node:
        case ast.arg(annotation=annotation) | ast.AnnAssign(annotation=annotation):
            pass
        case ast.FunctionDef(returns=annotation) | ast.AsyncFunctionDef(returns=annotation):
            pass
        case _:
            return
    for inner in ast.walk(annotation) if annotation is not None else ():
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            try:
                yield ast.parse(inner.value, mode="eval").body
            except (SyntaxError, ValueError):
                continue  # a text that is none, as in `Literal["a b"]`
