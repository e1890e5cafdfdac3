"""What the workers of a project can share: installed packages that are imported once, before the fork."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SURVIVES_A_FORK: Final = frozenset(
    {
        "PIL", "accelerate", "aiohttp", "cv2", "diffusers", "einops", "huggingface_hub", "imageio", "jinja2",
        "joblib", "lightgbm", "matplotlib", "networkx", "nltk", "numba", "numpy", "openai", "orjson",
        "pandas", "peft", "redis", "regex", "requests", "safetensors", "scipy", "sentence_transformers",
        "sentencepiece", "shapely", "skimage", "sklearn", "tiktoken", "timm", "tokenizers", "torch",
        "torchaudio", "torchvision", "tqdm", "transformers", "urllib3", "yaml",
    }
)  # fmt: skip
"""Packages that hold nothing after their import that a child process could not go on with.

Not here: `onnxruntime` (keeps a thread and a database open), `polars` and `pyarrow` (keep threads), `grpc`,
`tensorflow`, `jax`, `ray`, `cupy` and `bitsandbytes` (refuse to be forked, or touch the GPU). One that is
here and comes with a thread or an open file after all, such as `pandas` where it finds `pyarrow`, is left out
by the nursery when it sees that.
"""


@dataclass(frozen=True)
class Import:
    """One import statement: `import module`, or `from module import names`."""

    module: str
    names: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        """The top-level package."""
        return self.module.partition(".")[0]


@dataclass
class SharedImports:
    """What a project's modules import of installed packages while they load, in that order.

    Attributes:
        shared: statements that can run before the fork.
        left_out: packages that each worker imports for itself.
    """

    shared: list[Import] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def shared_imports(module: str, project: Path, absent: frozenset[str]) -> SharedImports:
    """Read the project's modules, from `module` on, without running any of them.

    Args:
        project: the folder that holds them; `src/` below it is searched too.
        absent: top-level modules that the service's image does not hold.
    """
    found = SharedImports()
    for statement in dict.fromkeys(_Source((project, project / "src")).installed(module)):
        package = statement.package
        if package in absent or package in sys.stdlib_module_names or package == "bentoml":
            continue
        if package in SURVIVES_A_FORK:
            found.shared.append(statement)
        elif package not in found.left_out and importlib.util.find_spec(package) is not None:
            found.left_out.append(package)
    return found


class _Source:
    """The modules of a project as files."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots
        self._seen: set[Path] = set()

    def installed(self, module: str) -> Iterator[Import]:
        """What a module and those of the project that it imports want of other packages."""
        for name, file in self._files(module):
            if file in self._seen:
                continue
            self._seen.add(file)
            with suppress(OSError, SyntaxError, ValueError):  # the worker meets it again, and says so
                tree = ast.parse(file.read_bytes(), file)
                package = name if file.name == "__init__.py" else name.rpartition(".")[0]
                for statement in _while_loading(tree.body, package):
                    yield from self._follow(statement)

    def _follow(self, statement: Import) -> Iterator[Import]:
        inner = [f"{statement.module}.{name}" for name in statement.names]
        own = [name for name in (statement.module, *inner) if any(self._files(name))]
        for name in own:
            yield from self.installed(name)
        if not own:
            yield statement

    def _files(self, module: str) -> Iterator[tuple[str, Path]]:
        """What importing a module runs: the packages around it, and its own file, with their names."""
        parts = module.split(".")
        for root in self._roots:
            for end in range(1, len(parts) + 1):
                path = root.joinpath(*parts[:end])
                for file in (path / "__init__.py", path.with_suffix(".py")):
                    if file.is_file():
                        yield ".".join(parts[:end]), file


def _while_loading(body: Sequence[ast.stmt], package: str) -> Iterator[Import]:
    """The import statements that run when the module does."""
    for statement in body:
        match statement:
            case ast.Import():
                yield from (Import(alias.name) for alias in statement.names)
            case ast.ImportFrom(module=module, level=level):
                # Each dot after the first leaves one more package.
                around = package.split(".")[: 1 - level or None] if level else []
                name = ".".join([*around, module] if module else around)
                if name:
                    yield Import(name, tuple(alias.name for alias in statement.names if alias.name != "*"))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                pass
            case ast.If() if "TYPE_CHECKING" in ast.unparse(statement.test):
                yield from _while_loading(statement.orelse, package)
            case _:
                for inner in ("body", "handlers", "orelse", "finalbody"):
                    yield from _while_loading(getattr(statement, inner, ()), package)
