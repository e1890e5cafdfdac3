"""What of a module really runs while it is loaded, and so needs what it names."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from bento_cli.project.definitions import Definition, lineage
from bento_cli.project.source import Module, Project, bound_names, children, statements

_PARTS = (ast.Attribute, ast.Subscript)
# Packages whose base classes and decorators look at annotations as soon as they are used.
_ANNOTATION_READERS = frozenset(
    {
        *("beartype", "fastapi", "fastmcp", "langchain_core", "mcp", "pydantic", "pydantic_settings"),
        *("sqlmodel", "typeguard", "typer"),
    }
)


def evaluated(project: Project, module: Module, statement: ast.stmt) -> Iterator[ast.expr | ast.stmt]:
    """The parts of a statement that really use what they name while the module loads.

    A placeholder may stand where a name is only read, annotated, subclassed or decorated with, so
    those parts are left out.
    """
    match statement:
        case ast.FunctionDef(args=arguments) | ast.AsyncFunctionDef(args=arguments):
            yield from _used(*arguments.defaults, *(d for d in arguments.kw_defaults if d is not None))
            yield from _used_decorators(project, module, statement.decorator_list)
            if any(_reads_signature(project, module, decorator) for decorator in statement.decorator_list):
                yield from _annotations(statement)
        case ast.ClassDef():
            yield from _used_decorators(project, module, statement.decorator_list)
            yield from _used(*statement.bases)
            yield from (keyword.value for keyword in statement.keywords)
            reads_annotations = _reads_annotations(project, module, statement)
            for inner in statements(statement.body):
                yield from evaluated(project, module, inner)
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


def _used_decorators(project: Project, module: Module, decorators: list[ast.expr]) -> Iterator[ast.expr]:
    """Arguments of decorators, and decorators of the project itself: those run while it loads."""
    for decorator in decorators:
        function = decorator
        if isinstance(decorator, ast.Call):
            yield from _used(*decorator.args, *(keyword.value for keyword in decorator.keywords))
            function = decorator.func
        symbol = project.resolve(module, function)
        if symbol is None or project.module(symbol.module) is not None:
            yield function


def _reads_signature(project: Project, module: Module, decorator: ast.expr) -> bool:
    """Whether a decorator looks at annotations: `@validate_call`, or `@app.get("/")` of a `FastAPI()`."""
    function = _called(decorator)
    symbol = project.resolve(module, function)
    home = project.module(symbol.module) if symbol else None
    if symbol is not None and home is not None:
        match home.bindings.get(symbol.name.partition(".")[0], [])[-1:]:
            case [ast.Assign(value=ast.Call(func=maker))]:
                symbol = project.resolve(home, maker)
    return symbol is not None and symbol.module.partition(".")[0] in _ANNOTATION_READERS


def _annotations(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.expr]:
    arguments = function.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    yield from (argument.annotation for argument in every if argument.annotation is not None)
    if function.returns is not None:
        yield function.returns


def _reads_annotations(project: Project, module: Module, cls: ast.ClassDef) -> bool:
    """Whether a class is a pydantic model or the like, through base classes of the project too."""
    named = [
        (d.module, expression)
        for d in lineage(project, Definition(module, cls))
        for expression in (*d.bases, *(_called(decorator) for decorator in d.decorators))
    ]
    symbols = [project.resolve(home, _called(expression)) for home, expression in named]
    return any(s.module.partition(".")[0] in _ANNOTATION_READERS for s in symbols if s is not None)


def unguarded_names(
    project: Project, module: Module, is_installed: Callable[[ast.Import | ast.ImportFrom], bool]
) -> Iterator[ast.Name]:
    """Where a module looks up names whose import it lets fail: there is no placeholder behind those.

    Behind `with bentoml.importing():` there is one.

    Args:
        is_installed: whether a statement imports what is none of the project's own.
    """
    names: set[str] = set()
    # What runs only where the import does not fail.
    guarded: list[ast.stmt] = []
    for statement in statements(module.tree.body):
        match statement:
            case ast.Try(body=body, orelse=rest, handlers=[_, *_]):
                inner = list(statements([*body, *rest]))
            case ast.With(items=items, body=body) if not all(
                _is_importing(project, module, i) for i in items
            ):
                inner = list(statements(body))
            case _:
                continue
        imports = [i for i in inner if isinstance(i, ast.Import | ast.ImportFrom) and is_installed(i)]
        names.update(name for statement in imports for name in bound_names(statement))
        guarded += inner
    for statement in statements(module.tree.body) if names else ():
        if statement not in guarded:
            yield from (name for name in _named(module, statement) if name.id in names)


def _is_importing(project: Project, module: Module, item: ast.withitem) -> bool:
    symbol = project.resolve(module, _called(item.context_expr))
    return symbol is not None and symbol.dotted == "bentoml.importing"


def _named(module: Module, statement: ast.stmt) -> Iterator[ast.Name]:
    """The names that a statement looks up when it runs; not those in the bodies of functions."""
    parts: list[ast.AST] = []
    match statement:
        case ast.FunctionDef(args=arguments) | ast.AsyncFunctionDef(args=arguments):
            parts = [*statement.decorator_list, *arguments.defaults]
            parts += [default for default in arguments.kw_defaults if default is not None]
            if "annotations" not in module.bindings:  # `from __future__ import annotations`
                parts += _annotations(statement)
        case ast.ClassDef():
            parts = [*statement.decorator_list, *statement.bases, *statement.keywords]
            for inner in statements(statement.body):
                yield from _named(module, inner)
        case ast.Import() | ast.ImportFrom():
            return
        case ast.AnnAssign() if "annotations" in module.bindings:
            parts = [statement.value] if statement.value else []
        case _:
            parts = [child for child in children(statement) if isinstance(child, ast.expr)]
    for part in parts:
        yield from (n for n in ast.walk(part) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))


def _called(node: ast.expr) -> ast.expr:
    """What is called or subscripted: `f` of `f(x)`, `Base` of `Base[T]`."""
    match node:
        case ast.Call(func=inner) | ast.Subscript(value=inner):
            return inner
    return node


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
