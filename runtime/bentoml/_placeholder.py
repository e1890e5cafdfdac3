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
from typing import Any, NoReturn

from bentoml.exceptions import MissingDependencyException


class Placeholder:
    """Stands for a module, or for something of a module, that this process does not have."""

    def __init__(self, path: str, service: str) -> None:
        self.__dict__["_path"] = path
        self.__dict__["_service"] = service
        self.__dict__["__doc__"] = f"Stands for `{path}`, which is not part of {service}."

    def __getattr__(self, name: str) -> Placeholder:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Placeholder(f"{self._path}.{name}", self._service)

    def __getitem__(self, item: object) -> Placeholder:
        return Placeholder(f"{self._path}[...]", self._service)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # `@torch.no_grad()` and `@torch.compile`: the function itself stays what it was.
        if len(args) == 1 and not kwargs and (isinstance(args[0], type) or hasattr(args[0], "__code__")):
            return args[0]
        if _loading:
            return Placeholder(f"{self._path}(...)", self._service)
        self._refuse()

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

    __bool__ = __iter__ = __len__ = __int__ = __float__ = __index__ = __contains__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __lt__ = __gt__ = _refuse
    __enter__ = __exit__ = __await__ = __setattr__ = __delattr__ = __setitem__ = _refuse

    def __repr__(self) -> str:
        return f"<placeholder for {self._path}, not part of {self._service}>"


_loading = 0
_tolerant = 0


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

    The names of a module that is missing are simply not bound, outside a service that needs them.
    """
    try:
        yield
    except ImportError:
        pass


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
        if not all(Path(folder).is_relative_to(self._root) for folder in search):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, search)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _ProjectLoader(fullname, spec.loader.path, self)
        return spec

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
        guarded = frozenset(_guarded_lines(ast.parse(self.get_data(self.path))))
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
        elif isinstance(node, ast.With) and any("importing" in ast.dump(item) for item in node.items):
            body = node.body
        else:
            continue
        for statement in body:
            for inner in ast.walk(statement):
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    yield from range(inner.lineno, (inner.end_lineno or inner.lineno) + 1)


def _catches_import_error(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
    return bool(caught & {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
