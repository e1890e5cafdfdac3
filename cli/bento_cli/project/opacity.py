"""Code that nobody can see through: what may take any name, or import or need any module."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from enum import Enum
from typing import Final

from bento_cli.project.source import Module, Project, relative_name


class Reach(Enum):
    """What code may need that does not say it."""

    loaded = "any name of the modules that are loaded"
    anything = "any module that a file of the project imports"


_LOOKUPS: Final = frozenset({"globals", "sys.modules"})
# Those that are given the name of one module.
_LOADERS: Final = frozenset({"__import__", "builtins.__import__", "importlib.import_module"})
_PICKLES: Final = ("cloudpickle", "dill", "pickle")
_IMPORTERS: Final = frozenset(
    {
        *_LOADERS,
        *("__builtins__", "compile", "eval", "exec", "builtins.compile", "builtins.eval", "builtins.exec"),
        *(f"{package}.{name}" for package in _PICKLES for name in ("load", "loads", "Unpickler")),
        *(
            "code.InteractiveInterpreter",
            "hydra.utils.call",
            "hydra.utils.get_class",
            "hydra.utils.get_method",
        ),
        *("hydra.utils.get_object", "hydra.utils.instantiate", "imp.load_module", "imp.load_source"),
        *("importlib.machinery.ExtensionFileLoader", "importlib.machinery.SourceFileLoader"),
        *("importlib.machinery.SourcelessFileLoader", "importlib.metadata.entry_points"),
        *("importlib.metadata.EntryPoint", "importlib.util.module_from_spec"),
        *("importlib.util.spec_from_file_location", "importlib.util.spec_from_loader"),
        *("importlib_metadata.entry_points", "joblib.load", "jsonpickle.decode", "pandas.read_pickle"),
        *("pkg_resources.get_entry_map", "pkg_resources.iter_entry_points", "pkg_resources.load_entry_point"),
        *("pkg_resources.working_set", "pkgutil.iter_modules", "pkgutil.resolve_name"),
        *("pkgutil.walk_packages", "pydoc.locate", "runpy.run_module", "runpy.run_path", "shelve.open"),
        *("skops.io.load", "sys.executable", "torch.hub.load", "werkzeug.utils.import_string"),
        *("yaml.unsafe_load", "yaml.unsafe_load_all", "zipimport.zipimporter"),
    }
)
# Modules that are one of these functions away from it.
_IMPORTING_MODULES: Final = frozenset({"builtins", "importlib", "pkgutil", "runpy"})
_LAST_PARTS: Final = frozenset(name.rpartition(".")[2] for name in _LOOKUPS | _IMPORTERS | _IMPORTING_MODULES)
# Arguments that let a library import what a file or a hub says, unless they are one value.
_PERMISSIONS: Final = {"allow_pickle": False, "trust_remote_code": False, "weights_only": True}
# Where a command line may start Python, in a process without placeholders.
_STARTERS: Final = (
    "asyncio.create_subprocess_",
    "os.exec",
    "os.popen",
    "os.spawn",
    "os.system",
    "subprocess.",
)
_PYTHON: Final = re.compile(r"(\S*/)?python\d?(\.\d+)?(\s|$)")
# Of `__import__`, before `level`.
_ARGUMENTS_OF_IMPORT: Final = 4


def reach_of_call(project: Project, module: Module, call: ast.Call) -> Reach | list[str] | None:
    """What a call may need beside what it names: the modules of a list where the source says which."""
    functions = _meanings(project, module, call.func)
    if functions & _LOADERS:
        names = _named_imports(project, module, call)
        return Reach.anything if names is None else names
    if any(map(_is_permission, call.keywords)) or any(_is_importer(name, call) for name in functions):
        return Reach.anything
    return Reach.loaded if functions & _LOOKUPS else None


def reach_of_name(project: Project, module: Module, node: ast.Name | ast.Attribute) -> Reach | None:
    """What the one may need to whom such a function, or a module that has it, is handed."""
    last = node.attr if isinstance(node, ast.Attribute) else node.id
    if last not in _LAST_PARTS and not (isinstance(node, ast.Name) and last in module.imported_names):
        return None
    meanings = _meanings(project, module, node)
    if meanings & (_IMPORTERS | _IMPORTING_MODULES):
        return Reach.anything
    return Reach.loaded if meanings & _LOOKUPS else None


def _meanings(project: Project, module: Module, node: ast.expr) -> set[str]:
    """Dotted names of what an expression may name, where that is of Python or of an installed package."""
    attributes: list[str] = []
    root = node
    while isinstance(root, ast.Attribute):
        attributes.insert(0, root.attr)
        root = root.value
    if not isinstance(root, ast.Name):
        return set()
    symbol = project.resolve(module, node)
    found = {symbol.dotted} if symbol else set()
    found.update(".".join([name, *attributes]) for name in module.imported_names.get(root.id, ()))
    if not found and root.id not in module.bindings:
        found.add(".".join([root.id, *attributes]))  # Python's own
    return found


def _is_importer(name: str, call: ast.Call) -> bool:
    if name.startswith("mlflow.") and name.endswith(".load_model"):
        return True
    return name in _IMPORTERS or (name.startswith(_STARTERS) and _names_python(call))


def _is_permission(keyword: ast.keyword) -> bool:
    if keyword.arg not in _PERMISSIONS:
        return False
    return not (isinstance(keyword.value, ast.Constant) and keyword.value.value is _PERMISSIONS[keyword.arg])


def _names_python(call: ast.Call) -> bool:
    texts = (node.value for node in ast.walk(call) if isinstance(node, ast.Constant))
    return any(isinstance(text, str) and _PYTHON.match(text) for text in texts)


def _named_imports(project: Project, module: Module, call: ast.Call) -> list[str] | None:
    """What a call may import by the text that it is given: `"plugins.ocr"`, or `f"plugins.{name}"`.

    None where the text does not say as much as a package.
    """
    text, is_whole = _begin(module, call.args[0]) if call.args else ("", False)
    level = len(text) - len(text.lstrip("."))
    if level:
        outer = relative_name(_package_argument(module, call), level, "")
        text = f"{outer}.{text[level:]}" if outer else ""
    elif len(call.args) > _ARGUMENTS_OF_IMPORT or any(keyword.arg == "level" for keyword in call.keywords):
        return None
    package, _, name = text.rpartition(".")
    if is_whole and name:
        # What `__import__` returns is the package around it.
        return [text, text.partition(".")[0]]
    if not package:
        return None
    return [package, *(other.name for other in project.all_modules() if other.name.startswith(text))]


def _package_argument(module: Module, call: ast.Call) -> str:
    """What a relative name is relative to; empty where the source does not say it."""
    given = [*call.args[1:2], *(k.value for k in call.keywords if k.arg == "package")]
    text, is_whole = _begin(module, given[0]) if given else ("", False)
    return text if is_whole else ""


def _begin(module: Module, node: ast.expr) -> tuple[str, bool]:
    """What a text begins with, and whether that is all of it."""
    match node:
        case ast.Constant(value=str(text)):
            return text, True
        case ast.Name(id="__package__") if "__package__" not in module.bindings:
            return module.package, True
        case ast.Name(id="__name__") if "__name__" not in module.bindings:
            return module.name, True
        case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
            return _begin(module, value)
        case ast.JoinedStr(values=parts):
            return _joined(_begin(module, part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _joined(_begin(module, part) for part in (left, right))
        case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Mod()):
            return text.partition("%")[0], False
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format")):
            return text.partition("{")[0], False
    return "", False


def _joined(parts: Iterator[tuple[str, bool]]) -> tuple[str, bool]:
    begin = ""
    for text, is_whole in parts:
        begin += text
        if not is_whole:
            return begin, False
    return begin, True
