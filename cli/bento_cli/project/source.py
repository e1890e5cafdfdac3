"""A project's Python modules: parsed, with what their names are bound to; never imported."""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bento_cli.errors import InputError, Problem

_NAMED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# Folders that hold no modules of the project itself.
_FOREIGN = frozenset({"site-packages", "node_modules", "__pycache__"})


@dataclass(frozen=True)
class Symbol:
    """What an expression names: something of a project's module, or of an installed one.

    Args:
        module: dotted name of the module.
        name: the name in the module, dotted; empty for the module itself.
    """

    module: str
    name: str = ""

    @property
    def dotted(self) -> str:
        """`bentoml.service`, as a person writes it."""
        return f"{self.module}.{self.name}" if self.name else self.module

    @property
    def target(self) -> str:
        """`service:Class`, as `BENTOML_SERVICE` takes it."""
        return f"{self.module}:{self.name}"


@dataclass
class Module:
    """One parsed file of the project."""

    name: str
    path: Path
    tree: ast.Module
    is_package: bool

    @cached_property
    def bindings(self) -> dict[str, list[ast.stmt]]:
        """The statements that bind each of the module's names, in order; conditional ones too."""
        return self._by_name(bound_names)

    @cached_property
    def mutations(self) -> dict[str, list[ast.stmt]]:
        """The statements that change what a name holds: `NAME[0] = x`, `NAME.add(x)`, `@NAME.register`."""
        return self._by_name(_mutated_names)

    @cached_property
    def hides_names(self) -> bool:
        """Whether code of the module may bind names that no statement shows."""
        return "__getattr__" in self.bindings or any(map(self._binds_unseen, walk(self.tree)))

    def _binds_unseen(self, node: ast.AST) -> bool:
        match node:
            case ast.Call(func=ast.Name(id="exec" | "globals" as name)):
                return name not in self.bindings
            case ast.Call(func=ast.Name(id="locals" | "vars" as name), args=[]):
                return name not in self.bindings
            case ast.Attribute(value=ast.Name(id="sys"), attr="modules"):
                return True
        return False

    def binding(self, name: str) -> list[ast.stmt]:
        """The statements that bind a name; of a dotted one, those in the body of the class before the dot."""
        first, *rest = name.split(".")
        found = self.bindings.get(first, [])
        for part in rest:
            classes = [statement for statement in found if isinstance(statement, ast.ClassDef)]
            found = [s for cls in classes[-1:] for s in statements(cls.body) if part in bound_names(s)]
        return found

    def definition(self, qualname: str) -> ast.ClassDef | None:
        """The class of that `__qualname__`, also one inside a function: `make.<locals>.Class`."""
        found: list[ast.AST] = [self.tree]
        for part in (part for part in qualname.split(".") if part != "<locals>"):
            bodies = [s for node in found for s in statements(getattr(node, "body", []))]
            found = [s for s in bodies if isinstance(s, _NAMED) and s.name == part]
        return next((node for node in reversed(found) if isinstance(node, ast.ClassDef)), None)

    def _by_name(self, names: Callable[[ast.stmt], Iterator[str]]) -> dict[str, list[ast.stmt]]:
        found: dict[str, list[ast.stmt]] = {}
        for statement in statements(self.tree.body):
            for name in names(statement):
                found.setdefault(name, []).append(statement)
        return found

    @cached_property
    def never_bound(self) -> dict[str, ast.stmt]:
        """Names that only statements bind which never run in a service: `if TYPE_CHECKING: import x`."""
        tests = (s for s in statements(self.tree.body) if isinstance(s, ast.If))
        skipped = (inner for test in tests for inner in statements(_never_run(test)))
        return {name: s for s in skipped for name in bound_names(s) if name not in self.bindings}

    @cached_property
    def imported_names(self) -> dict[str, set[str]]:
        """What each name may stand for that an import binds anywhere, in functions too."""
        found: dict[str, set[str]] = {}
        for node in walk(self.tree):
            match node:
                case ast.Import(names=names):
                    pairs = [
                        (a.asname, a.name) if a.asname else 2 * (a.name.partition(".")[0],) for a in names
                    ]
                case ast.ImportFrom(names=names):
                    source = self.absolute(node)
                    pairs = [(a.asname or a.name, f"{source}.{a.name}") for a in names]
                case _:
                    continue
            for name, dotted in pairs:
                found.setdefault(name, set()).add(dotted)
        return found

    @cached_property
    def star_imports(self) -> list[ast.ImportFrom]:
        """`from x import *` statements: any name may come from them."""
        return [
            s for s in statements(self.tree.body) if isinstance(s, ast.ImportFrom) and s.names[0].name == "*"
        ]

    def absolute(self, statement: ast.ImportFrom) -> str:
        """The module that a `from` statement names, relative ones resolved."""
        if not statement.level:
            return statement.module or ""
        return relative_name(self.package, statement.level, statement.module or "")

    @property
    def package(self) -> str:
        """Its `__package__`."""
        return self.name if self.is_package else self.name.rpartition(".")[0]

    def problem(self, node: ast.stmt | ast.expr, message: str) -> Problem:
        """A problem with a piece of this file."""
        return Problem(self.path, node.lineno, message, node.col_offset + 1)


@dataclass
class Project:
    """The modules of a project, parsed when first asked for.

    Args:
        root: the folder with the bentofile; modules are found there and in `src/` below it.
        arguments: what `bentoml.use_arguments()` returns in them.
    """

    root: Path
    arguments: Mapping[str, object] = field(default_factory=dict)
    _modules: dict[str, Module | None] = field(default_factory=dict)

    @property
    def folders(self) -> tuple[Path, Path]:
        """Where modules are looked for, in this order."""
        return self.root, self.root / "src"

    def module(self, name: str) -> Module | None:
        """The project's module of that dotted name, None when it is not the project's.

        Raises:
            InputError: the file is no Python.
        """
        if name not in self._modules:
            self._modules[name] = self._load(name)
        return self._modules[name]

    def is_own(self, name: str) -> bool:
        """Whether a dotted name is of the project: a module of it, or something in one."""
        parts = name.split(".")
        return any(self.module(".".join(parts[:depth])) is not None for depth in range(1, len(parts) + 1))

    def modules_beside(self, name: str) -> list[str]:
        """Names of the modules in the folder where one of that name would be, for messages."""
        package = name.rpartition(".")[0]
        files = {
            path.parent.name if path.name == "__init__.py" else path.stem
            for folder in self.folders
            for pattern in ("*.py", "*/__init__.py")
            for path in folder.joinpath(*package.split(".")).glob(pattern)
        }
        return sorted(f"{package}.{file}" if package else file for file in files - {"__init__"})

    def all_modules(self) -> Iterator[Module]:
        """Every file that could be imported, those that are no Python left out."""
        root, src = self.folders
        for folder in (src, root):
            for path in sorted(_python_files(folder)):
                if folder == root and path.is_relative_to(src) and not (src / "__init__.py").exists():
                    continue
                name = ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
                try:
                    module = self.module(name)
                except InputError:
                    continue  # nothing has imported it so far, and what does will fail with the same words
                if module is not None and module.path == path:
                    yield module

    def resolve(self, module: Module, node: ast.expr, within: str = "") -> Symbol | None:
        """What a name or dotted name stands for in `module`; None for anything else.

        Args:
            within: the class in whose body it stands, which binds names of its own.
        """
        if within:
            match self._bound_within(module, node, within):
                case ast.ClassDef():
                    return Symbol(module.name, f"{within}.{ast.unparse(node)}")
                case ast.Assign(value=ast.Name() | ast.Attribute() as value) if isinstance(node, ast.Name):
                    is_class = isinstance(self._bound_within(module, value, within), ast.ClassDef)
                    return self.resolve(module, value, within if is_class else "")
        return self._resolve(module, node, frozenset())

    def _bound_within(self, module: Module, node: ast.expr, cls: str) -> ast.stmt | None:
        """The statement of a class's body that binds the first of a dotted name's parts."""
        root = next((inner for inner in ast.walk(node) if isinstance(inner, ast.Name)), None)
        bound = module.binding(f"{cls}.{root.id}") if root else []
        return bound[-1] if bound else None

    def _resolve(self, module: Module, node: ast.expr, seen: frozenset[tuple[str, str]]) -> Symbol | None:
        if isinstance(node, ast.Attribute):
            owner = self._resolve(module, node.value, seen)
            return None if owner is None else self._member(owner, node.attr)
        if isinstance(node, ast.Name):
            return self._resolve_name(module, node.id, seen)
        return None

    def _resolve_name(self, module: Module, name: str, seen: frozenset[tuple[str, str]]) -> Symbol | None:
        if (module.name, name) in seen:  # two modules that import one name from each other
            return None
        seen |= {(module.name, name)}
        for statement in reversed(module.bindings.get(name, [])):
            match statement:
                case ast.Import(names=names):
                    dotted = imported_module(names, name)
                    return None if dotted is None else Symbol(dotted)
                case ast.ImportFrom(names=names):
                    original = next(a.name for a in names if (a.asname or a.name) == name)
                    return self._follow(module.absolute(statement), original, seen)
                case ast.Assign(targets=[ast.Name()], value=ast.Name() | ast.Attribute() as value):
                    return self._resolve(module, value, seen)
            return Symbol(module.name, name)
        for star in module.star_imports:
            source = self.module(module.absolute(star))
            found = self._resolve_name(source, name, seen) if source is not None else None
            if found is not None:
                return found
        return None

    def _follow(self, source: str, name: str, seen: frozenset[tuple[str, str]]) -> Symbol | None:
        """`from source import name`, through the project's own modules to where it is defined."""
        dotted = f"{source}.{name}"
        if self.module(dotted) is not None:
            return Symbol(dotted)
        target = self.module(source)
        if target is not None:
            return self._resolve_name(target, name, seen)
        # A folder without `__init__.py` is a package too.
        return Symbol(dotted) if self._is_folder(dotted) else Symbol(source, name)

    def _member(self, owner: Symbol, attribute: str) -> Symbol | None:
        if owner.name:
            return Symbol(owner.module, f"{owner.name}.{attribute}")
        return self._follow(owner.module, attribute, frozenset())

    def _is_folder(self, name: str) -> bool:
        return any(folder.joinpath(*name.split(".")).is_dir() for folder in self.folders)

    def _load(self, name: str) -> Module | None:
        if not name or not all(part.isidentifier() for part in name.split(".")):
            return None
        relative = Path(*name.split("."))
        for folder in self.folders:
            for path, is_package in (
                (folder / relative / "__init__.py", True),
                (folder / relative.with_suffix(".py"), False),
            ):
                if path.is_file():
                    return Module(name, path, _parse(path), is_package)
        return None


def relative_name(package: str, level: int, name: str) -> str:
    """The module that `name` behind `level` dots stands for in a package."""
    parts = package.split(".") if package else []
    return ".".join([*parts[: max(0, len(parts) - level + 1)], *([name] if name else [])])


def imported_modules(project: Project) -> set[str]:
    """Top-level modules that any file of the project imports anywhere, the project's own left out."""
    return {
        name.partition(".")[0]
        for module in project.all_modules()
        for node in walk(module.tree)
        for name in _absolute_imports(node)
        if not project.is_own(name)
    }


def _absolute_imports(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=str(name), level=0):
            return [name]
    return []


def _python_files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name.isidentifier() and name not in _FOREIGN]
        if "pyvenv.cfg" in files:
            folders.clear()
            continue
        yield from (Path(parent, name) for name in files if name.endswith(".py"))


def _parse(path: Path) -> ast.Module:
    try:
        with warnings.catch_warnings():
            # About escapes such as "\d": the file's own matter, said when it runs.
            warnings.simplefilter("ignore")
            return ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        line = error.lineno or None
        raise InputError([Problem(path, line, f"not Python: {error.msg}", error.offset)]) from None
    except OSError as error:
        raise InputError([Problem(path, None, f"cannot be read: {error.strerror}")]) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError([Problem(path, None, f"not Python that can be read: {error}")]) from None


def statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that a module runs while it is imported, those inside `if`, `try` and `with` too."""
    for statement in body:
        yield statement
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from statements(_inner_statements(statement))


def _inner_statements(statement: ast.stmt) -> Iterator[ast.stmt]:
    for child in children(statement):
        if isinstance(child, ast.stmt):
            yield child
        elif isinstance(child, ast.excepthandler | ast.match_case):
            yield from (inner for inner in ast.iter_child_nodes(child) if isinstance(inner, ast.stmt))


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Like `ast.walk`, without what never runs in a service."""
    waiting = [node]
    while waiting:
        inner = waiting.pop()
        yield inner
        waiting.extend(children(inner))


def children(node: ast.AST) -> Iterator[ast.AST]:
    """A node's children but those for type checkers only, and for `python file.py` only."""
    never = _never_run(node) if isinstance(node, ast.If) else []
    yield from (child for child in ast.iter_child_nodes(node) if child not in never)


def _never_run(statement: ast.If) -> list[ast.stmt]:
    match _outcome(statement.test):
        case False:
            return statement.body
        case True:
            return statement.orelse
    return []


def _outcome(test: ast.expr) -> bool | None:
    """What a test gives in a service's process, where the source says so."""
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return False
        case ast.Compare(
            left=ast.Name(id="__name__") | ast.Constant(value="__main__"),
            ops=[ast.Eq()],
            comparators=[ast.Name(id="__name__") | ast.Constant(value="__main__")],
        ):
            return False
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            outcome = _outcome(operand)
            return None if outcome is None else not outcome
        case ast.BoolOp(op=ast.And(), values=values) if any(_outcome(v) is False for v in values):
            return False
    return None


def imported_module(names: list[ast.alias], name: str) -> str | None:
    """The module that `name` stands for behind `import a.b as c, d.e`: `a.b` for `c`, `d` for `d`."""
    for alias in names:
        if alias.asname == name:
            return alias.name
        if alias.asname is None and alias.name.partition(".")[0] == name:
            return name
    return None


def bound_names(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement binds, without those inside it."""
    match statement:
        case ast.Import(names=names):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in names)
        case ast.ImportFrom(names=names):
            yield from (alias.asname or alias.name for alias in names if alias.name != "*")
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            yield from _stored(*targets)
        case ast.AnnAssign(target=target, value=ast.expr()) | ast.AugAssign(target=target):
            yield from _stored(target)
        case ast.For(target=target):
            yield from _stored(target)
        case ast.With(items=items):
            yield from _stored(*(item.optional_vars for item in items if item.optional_vars))
        case _ if type(statement).__name__ == "TypeAlias":  # from Python 3.12 on
            yield from _stored(*ast.iter_child_nodes(statement))


def _stored(*nodes: ast.AST) -> Iterator[str]:
    for node in nodes:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                yield inner.id


def _mutated_names(statement: ast.stmt) -> Iterator[str]:
    changed: list[ast.expr] = []
    match statement:
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            changed = targets
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            changed = [target]
        case ast.Expr(value=ast.Call(func=function)):
            changed = [function]
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            decorators = statement.decorator_list
            changed = [d.func if isinstance(d, ast.Call) else d for d in decorators]
    for expression in changed:
        root = expression
        while isinstance(root, ast.Attribute | ast.Subscript):
            root = root.value
        if isinstance(root, ast.Name) and root is not expression:
            yield root.id
