"""A project's Python modules: parsed, with what their names are bound to; never imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from bento_cli.errors import InputError, Problem


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
        found: dict[str, list[ast.stmt]] = {}
        for statement in statements(self.tree.body):
            for name in _bound_names(statement):
                found.setdefault(name, []).append(statement)
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
        package = self.name.split(".")
        keep = len(package) - statement.level + (1 if self.is_package else 0)
        return ".".join([*package[:keep], *([statement.module] if statement.module else [])])


@dataclass
class Project:
    """The modules of a project, parsed when first asked for.

    Args:
        root: the folder with the bentofile; modules are found there and in `src/` below it.
    """

    root: Path
    _modules: dict[str, Module | None] = field(default_factory=dict)

    def module(self, name: str) -> Module | None:
        """The project's module of that dotted name, None when it is not the project's.

        Raises:
            InputError: the file is no Python.
        """
        if name not in self._modules:
            self._modules[name] = self._load(name)
        return self._modules[name]

    def resolve(self, module: Module, node: ast.expr) -> Symbol | None:
        """What a name or dotted name stands for in `module`; None for anything else."""
        if isinstance(node, ast.Attribute):
            owner = self.resolve(module, node.value)
            return None if owner is None else self._member(owner, node.attr)
        if isinstance(node, ast.Name):
            return self._resolve_name(module, node.id, frozenset())
        return None

    def _resolve_name(self, module: Module, name: str, seen: frozenset[tuple[str, str]]) -> Symbol | None:
        if (module.name, name) in seen:  # two modules that import one name from each other
            return None
        seen |= {(module.name, name)}
        for statement in reversed(module.bindings.get(name, [])):
            if isinstance(statement, ast.Import):
                for alias in statement.names:
                    if alias.asname == name:
                        return Symbol(alias.name)
                    if alias.asname is None and alias.name.partition(".")[0] == name:
                        return Symbol(name)
            elif isinstance(statement, ast.ImportFrom):
                source = module.absolute(statement)
                original = next(a.name for a in statement.names if (a.asname or a.name) == name)
                return self._follow(source, original, seen)
            else:
                return Symbol(module.name, name)
        for star in module.star_imports:
            source_module = self.module(module.absolute(star))
            if source_module is not None and name in source_module.bindings:
                return self._resolve_name(source_module, name, seen)
        return None

    def _follow(self, source: str, name: str, seen: frozenset[tuple[str, str]]) -> Symbol | None:
        """`from source import name`, through the project's own modules to where it is defined."""
        if self.module(f"{source}.{name}") is not None:
            return Symbol(f"{source}.{name}")
        target = self.module(source)
        if target is None:
            return Symbol(source, name)
        return self._resolve_name(target, name, seen)

    def _member(self, owner: Symbol, attribute: str) -> Symbol | None:
        if owner.name:
            return Symbol(owner.module, f"{owner.name}.{attribute}")
        return self._follow(owner.module, attribute, frozenset())

    def _load(self, name: str) -> Module | None:
        if not name or not all(part.isidentifier() for part in name.split(".")):
            return None
        relative = Path(*name.split("."))
        for folder in (self.root, self.root / "src"):
            for path, is_package in (
                (folder / relative / "__init__.py", True),
                (folder / relative.with_suffix(".py"), False),
            ):
                if path.is_file():
                    return Module(name, path, _parse(path), is_package)
        return None


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        raise InputError([Problem(path, error.lineno, f"not Python: {error.msg}", error.offset)]) from None
    except (ValueError, RecursionError) as error:
        raise InputError([Problem(path, None, f"not Python: {error}")]) from None


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that a module runs while it loads, those inside `if`, `try` and `with` too."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.For | ast.While):
            yield from statements([*statement.body, *statement.orelse])
        elif isinstance(statement, ast.With):
            yield from statements(statement.body)
        elif isinstance(statement, ast.Try):
            handlers = [inner for handler in statement.handlers for inner in handler.body]
            yield from statements([*statement.body, *handlers, *statement.orelse, *statement.finalbody])


def _bound_names(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.Import(names=names):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in names)
        case ast.ImportFrom(names=names):
            yield from (alias.asname or alias.name for alias in names if alias.name != "*")
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            for target in targets:
                yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.AugAssign(target=ast.Name(id=name)):
            yield name
        case ast.For(target=target):
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))
        case ast.With(items=items):
            for item in items:
                if isinstance(item.optional_vars, ast.Name):
                    yield item.optional_vars.id
