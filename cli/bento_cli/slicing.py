"""Which installed modules one service needs, out of all that the project's files import."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bento_cli.discovery import Definition, Discovery, is_service, lineage
from bento_cli.source import Module, Project, children, imported_module, statements, walk

# Always in an image, whatever a service reaches.
_ALWAYS = frozenset({"bentoml", "pydantic", "__future__"}) | sys.stdlib_module_names
_PARTS = (ast.Attribute, ast.Subscript)
# What code may do with names that nobody can read from it.
_OPAQUE_CALLS = frozenset({"__import__", "globals", "eval", "exec"})
# Bases whose classes look at their annotations while the class is made.
_ANNOTATION_READERS = frozenset({"pydantic", "pydantic_settings", "sqlmodel"})


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
    waiting: list[tuple[Module, str]] = field(default_factory=list)
    is_loading: bool = True
    opaque: str | None = None
    own: list[ast.stmt] = field(default_factory=list)

    def run(self, service: str) -> Slice:
        definition = self.discovery.definitions[service]
        self.own = [d.node for d in lineage(self.project, definition)]
        self._load(definition.module.name)
        self._reach_all()
        # What a name was given after it was bound counts from here on: loading runs none of it.
        self.is_loading = False
        self.visited.clear()
        # By its name: what is mounted on it behind its class counts as well.
        self._name(definition.module, definition.name)
        self._reach_all()
        command = self.discovery.commands.get(service, ())
        for word in command:
            self._reach_started(word)
        if self.opaque is not None:
            for name in self.imported:
                self._keep(name, self.opaque)
        return Slice(
            service=service,
            reached=dict(sorted(self.reached.items())),
            absent=frozenset(self.imported - self.reached.keys()),
            modules=tuple(self.loaded),
            command=command,
        )

    def _reach_all(self) -> None:
        while self.waiting:
            self._reach_name(*self.waiting.pop())

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
            self.reached.setdefault(top, why)

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
            for node in self._evaluated(module, statement):
                self._visit(module, node)

    def _visit(self, module: Module, node: ast.AST) -> None:
        """Reach everything that a piece of code names."""
        waiting = [node]
        while waiting:
            inner = waiting.pop()
            match inner:
                case ast.Name(id=name):
                    self._name(module, name)
                case ast.Attribute() if self._reach_member(module, inner):
                    continue
                case ast.Import() | ast.ImportFrom():
                    self._inner_import(module, inner)
                case ast.Call():
                    self._opaque_call(module, inner)
                    if self._is_call_of(module, inner, "bentoml.depends"):
                        # The other service runs in a process of its own: nothing of its class is needed.
                        waiting += [k.value for k in inner.keywords if k.arg != "on"]
                        continue
            waiting += children(inner)
            waiting += _annotations_in_quotes(inner)

    def _visit_statement(self, module: Module, statement: ast.stmt) -> None:
        if not self._is_other_service(module, statement):
            self._visit(module, statement)

    def _name(self, module: Module, name: str) -> None:
        if (module.name, name) not in self.visited:
            self.visited.add((module.name, name))
            self.waiting.append((module, name))

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
            if target is not None:
                self._member(target, name)
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

    def _opaque_call(self, module: Module, call: ast.Call) -> None:
        """`importlib.import_module(name)` and the like: a literal says what, anything else means all."""
        is_import = self._is_call_of(module, call, "importlib.import_module") or (
            # As it is called where a function imports it for itself.
            ast.unparse(call.func) in ("importlib.import_module", "import_module")
        )
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        if not is_import and (name not in _OPAQUE_CALLS or name in module.bindings):
            return
        why = f"{self._place(module, call)}: `{ast.unparse(call.func)}(...)`"
        match call.args:
            case [ast.Constant(value=str(text)), *_] if is_import or name == "__import__":
                stem = text.lstrip(".")
                dotted = module.relative(len(text) - len(stem), stem) if stem != text else text
                self._load(dotted)
                self._reach_module(dotted, why)
            case _:
                self.opaque = self.opaque or why

    def _is_call_of(self, module: Module, call: ast.Call, dotted: str) -> bool:
        symbol = self.project.resolve(module, call.func)
        return symbol is not None and symbol.dotted == dotted

    def _is_other_service(self, module: Module, statement: ast.stmt) -> bool:
        """Whether a statement defines another service: that one runs in a process of its own."""
        if not isinstance(statement, ast.ClassDef | ast.Assign | ast.AnnAssign) or statement in self.own:
            return False
        return is_service(self.project, Definition(module, statement))

    def _evaluated(self, module: Module, statement: ast.stmt) -> Iterator[ast.AST]:
        """The parts of a statement that really use what they name while the module loads.

        A placeholder may stand where a name is only read, annotated, subclassed or decorated with, so
        those parts are left out.
        """
        match statement:
            case ast.FunctionDef(args=arguments) | ast.AsyncFunctionDef(args=arguments):
                yield from _used(*arguments.defaults, *(d for d in arguments.kw_defaults if d is not None))
                yield from self._used_decorators(module, statement.decorator_list)
            case ast.ClassDef():
                yield from self._used_decorators(module, statement.decorator_list)
                yield from _used(*statement.bases)
                yield from (keyword.value for keyword in statement.keywords)
                reads_annotations = self._reads_annotations(module, statement)
                for inner in statements(statement.body):
                    yield from self._evaluated(module, inner)
                    if reads_annotations and isinstance(inner, ast.AnnAssign):
                        yield inner
            case ast.Import() | ast.ImportFrom() | ast.Pass() | ast.Global() | ast.Try():
                return
            case ast.If(test=used) | ast.While(test=used) | ast.For(iter=used) | ast.Match(subject=used):
                yield used
            case ast.With(items=items):
                # `with bentoml.importing():` says what may be missing, and uses nothing.
                yield from _used(*(item.context_expr for item in items))
            case ast.Assign(targets=targets, value=value):
                yield from (n for t in targets for n in ast.walk(t) if isinstance(n, _PARTS))
                yield from [value] if _is_unpacked(targets, value) else _used(value)
            case ast.Expr(value=value):
                yield from _used(value)
            case ast.AnnAssign(value=value):
                yield from _used(*([value] if value else []))
            case _:
                # The inner statements of what has any come one by one.
                yield from (n for n in children(statement) if isinstance(n, ast.expr))

    def _used_decorators(self, module: Module, decorators: list[ast.expr]) -> Iterator[ast.expr]:
        """Arguments of decorators, and decorators of the project itself: those run while it loads."""
        for decorator in decorators:
            function = decorator
            if isinstance(decorator, ast.Call):
                yield from _used(*decorator.args, *(keyword.value for keyword in decorator.keywords))
                function = decorator.func
            symbol = self.project.resolve(module, function)
            if symbol is None or self.project.module(symbol.module) is not None:
                yield function

    def _reads_annotations(self, module: Module, cls: ast.ClassDef) -> bool:
        """Whether a class is a pydantic model or the like, through base classes of the project too."""
        named = [
            (d.module, expression)
            for d in lineage(self.project, Definition(module, cls))
            for expression in (*d.bases, *(_called(decorator) for decorator in d.decorators))
        ]
        symbols = [self.project.resolve(home, _called(expression)) for home, expression in named]
        return any(s.module.partition(".")[0] in _ANNOTATION_READERS for s in symbols if s is not None)

    def _place(self, module: Module, node: ast.stmt | ast.expr) -> str:
        return f"{module.path.relative_to(self.project.root).as_posix()}:{node.lineno}"


def _called(node: ast.expr) -> ast.expr:
    """What is called or subscripted: `f` of `f(x)`, `Base` of `Base[T]`."""
    match node:
        case ast.Call(func=inner) | ast.Subscript(value=inner):
            return inner
    return node


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


def _used(*expressions: ast.expr) -> Iterator[ast.expr]:
    yield from (expression for expression in expressions if not _is_only_read(expression))


def _is_unpacked(targets: list[ast.expr], value: ast.expr) -> bool:
    """Whether an assignment goes through what it assigns: `a, b = f`, and not `a, b = f, g`."""
    is_split = any(isinstance(target, ast.Tuple | ast.List) for target in targets)
    return is_split and not isinstance(value, ast.Tuple | ast.List)


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
