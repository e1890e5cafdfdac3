"""Placeholders: what stands in a service's process for modules that its image does not hold.

A project's file may import everything that any of its services needs. In a service's process only the
modules of its own slice are there; for the others an import inside *the project's own modules* yields a
placeholder. `sys.modules` stays honest, so that libraries which look there see the truth, and
`try: import x / except ImportError` still sees the failure.

While modules load, a placeholder may be read, subclassed, annotated and decorated with. Anything else
is real use, and says which module is missing and how to add it.
"""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn

from bentoml.exceptions import MissingDependencyException


class Placeholder:
    """Stands for a module, or for something of a module, that this process does not have."""

    _path: str
    _service: str

    def __init__(self, path: str, service: str) -> None:
        self.__dict__["_path"] = path
        self.__dict__["_service"] = service
        self.__dict__["__doc__"] = f"Stands for `{path}`, which is not part of {service}."

    def __getattr__(self, name: str) -> Placeholder:
        if name.startswith("__") and name.endswith("__"):
            top = self._path.partition(".")[0]
            raise AttributeError(f"no `{self._path}.{name}`: {top!r} is not part of {self._service}'s image")
        return Placeholder(f"{self._path}.{name}", self._service)

    def __getitem__(self, item: object) -> Placeholder:
        return Placeholder(f"{self._path}[...]", self._service)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not _loading:
            self._refuse()
        # `@torch.no_grad()` and `@torch.compile`: the function itself stays what it was.
        if len(args) == 1 and not kwargs and (isinstance(args[0], type) or hasattr(args[0], "__code__")):
            return args[0]
        return Placeholder(f"{self._path}(...)", self._service)

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        return ()

    def __or__(self, other: object) -> Any:
        return self

    __ror__ = __or__

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        top = self._path.partition(".")[0]
        raise MissingDependencyException(
            f"`{self._path}` is used, and {top!r} is not part of {self._service}'s image: its class does not "
            f"reach it. Add the requirement that brings it to bentofile.yaml:\n\n"
            f"services:\n  {self._service}:\n    python:\n      packages: [{top}]"
        )

    __bool__ = __iter__ = __next__ = __len__ = __int__ = __float__ = __index__ = __contains__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __matmul__ = __rmatmul__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __mod__ = __pow__ = __and__ = __neg__ = __invert__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __instancecheck__ = __subclasscheck__ = _refuse
    __enter__ = __exit__ = __aenter__ = __aexit__ = __await__ = __aiter__ = __fspath__ = _refuse
    __setattr__ = __delattr__ = __setitem__ = __delitem__ = _refuse

    def __repr__(self) -> str:
        return f"<placeholder for {self._path}, not part of {self._service}>"


_loading = 0
_IMPORT_ERRORS: Final = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


@contextmanager
def loading() -> Iterator[None]:
    """While this is open, calling a placeholder yields another one instead of an error."""
    global _loading  # noqa: PLW0603  # imports nest, and they are the process's own state
    _loading += 1
    try:
        yield
    finally:
        _loading -= 1


@contextmanager
def importing() -> Iterator[None]:
    """Let imports fail where a module is not installed: `with bentoml.importing(): import torch`.

    In a service's process a placeholder stands for a module that other services alone need. Elsewhere the
    names of a module that is missing are not bound, and the log says which.
    """
    try:
        yield
    except ImportError as error:
        import logging  # for this alone, and not for everyone who declares a service

        logging.getLogger("bentoml").info("not imported, and not bound: %s", error)


class ProjectFinder:
    """Finds the modules of one project and gives them an import function of their own.

    Args:
        root: the folder that holds the project's modules.
        absent: top-level modules for which placeholders stand in.
        service: whose process this is, for messages.
    """

    def __init__(self, root: Path, absent: frozenset[str], service: str) -> None:
        self._root = root
        self._absent = absent
        self._service = service

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Part of the import system: the spec of a module below the project's root, else None."""
        search = [str(self._root)] if path is None else list(path)
        if not all(self._holds(Path(folder)) for folder in search):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, search)
        # Anything else, such as a folder of data that has an installed package's name, is as without us.
        if spec is None or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            return None
        spec.loader = _ProjectLoader(fullname, spec.loader.path, self)
        return spec

    def _holds(self, folder: Path) -> bool:
        if not folder.is_relative_to(self._root):
            return False
        # An environment inside the project's folder holds what others wrote.
        return not {"site-packages", "dist-packages"}.intersection(folder.relative_to(self._root).parts)

    def placeholder_import(self, guarded: frozenset[int]) -> Any:
        """An `__import__` for one module; `guarded` are its lines inside `try: ... except ImportError`."""

        def import_(
            name: str,
            globals: Mapping[str, object] | None = None,  # noqa: A002  # the names of `__import__`
            locals: Mapping[str, object] | None = None,  # noqa: A002
            fromlist: Sequence[str] | None = (),
            level: int = 0,
        ) -> Any:
            top = name.partition(".")[0]
            if level == 0 and top in self._absent:
                if sys._getframe(1).f_lineno in guarded:
                    raise ModuleNotFoundError(
                        f"No module named {name!r}: it is not part of {self._service}'s image", name=name
                    )
                return Placeholder(name if fromlist else top, self._service)
            return builtins.__import__(name, globals, locals, fromlist or (), level)

        return import_


class _ProjectLoader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, finder: ProjectFinder) -> None:
        super().__init__(fullname, path)
        self._finder = finder

    def exec_module(self, module: ModuleType) -> None:
        guarded = frozenset(_guarded_lines(ast.parse(self.get_data(self.path), self.path)))
        # A module's own `__builtins__` is where its `import` statements look for `__import__`.
        own = dict(vars(builtins), __import__=self._finder.placeholder_import(guarded))
        module.__dict__["__builtins__"] = own
        with loading():
            super().exec_module(module)


def _guarded_lines(tree: ast.AST) -> Iterator[int]:
    """Lines of import statements whose failure the module itself handles."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(_catches_import_error(handler) for handler in node.handlers):
            body: list[ast.stmt] = node.body
        elif isinstance(node, ast.With) and any(_swallows_import_error(item) for item in node.items):
            body = node.body
        else:
            continue
        for statement in body:
            for inner in ast.walk(statement):
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    yield from range(inner.lineno, (inner.end_lineno or inner.lineno) + 1)


def _swallows_import_error(item: ast.withitem) -> bool:
    names = _names(item.context_expr)
    return "suppress" in names and not names.isdisjoint(_IMPORT_ERRORS)


def _catches_import_error(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or not _names(handler.type).isdisjoint(_IMPORT_ERRORS)


def _names(expression: ast.expr) -> set[str]:
    names = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
    return names | {node.attr for node in ast.walk(expression) if isinstance(node, ast.Attribute)}
