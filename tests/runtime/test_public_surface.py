"""What users import, and what importing it costs."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import bentoml
from bentoml._requirements import RUNTIME_REQUIREMENTS

PACKAGE = Path(bentoml.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported_by(module: Path) -> set[str]:
    """The top-level modules that a module imports, wherever in its text."""
    tops: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            tops.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            tops.add(node.module.partition(".")[0])
    return tops


def test_the_package_offers_these_names() -> None:
    assert bentoml.__all__ == [
        "AsyncHTTPClient",
        "Context",
        "Cookie",
        "Dependency",
        "Endpoint",
        "Field",
        "IODescriptor",
        "Service",
        "SyncHTTPClient",
        "__version__",
        "api",
        "asgi_app",
        "bentos",
        "build",
        "codec",
        "depends",
        "deployment",
        "exceptions",
        "export_bento",
        "get_current_service",
        "images",
        "import_bento",
        "importing",
        "metrics",
        "models",
        "monitor",
        "mount_asgi_app",
        "on_deployment",
        "on_shutdown",
        "on_startup",
        "serve",
        "server_context",
        "service",
        "task",
        "testing",
        "use_arguments",
        "validators",
    ]
    assert dir(bentoml) == sorted(bentoml.__all__)


@pytest.mark.parametrize("name", bentoml.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(bentoml, name) is not None


def test_a_name_that_is_not_there_is_told() -> None:
    with pytest.raises(AttributeError, match="module 'bentoml' has no attribute 'nothing'"):
        _ = bentoml.nothing
    with pytest.raises(AttributeError, match=r"'serivce', did you mean `service`\?"):
        _ = bentoml.serivce
    with pytest.raises(AttributeError, match="'sklearn': that part of this interface is not here"):
        _ = bentoml.sklearn
    with pytest.raises(AttributeError, match=r"'monitoring'; in its place: `bentoml\.monitor`"):
        _ = bentoml.monitoring
    with pytest.raises(AttributeError, match="'save': `create` gives a folder"):
        _ = bentoml.models.save


def test_how_an_image_is_made_is_told_as_data() -> None:
    image = bentoml.images.Image(python_version="3.11").python_packages("torch", "numpy").run("ls")

    assert image.steps == [("python_packages", ("torch", "numpy")), ("run", ("ls",))]


def test_declaring_a_service_loads_nothing_heavy(in_new_python: Callable[[str], str]) -> None:
    program = """
import sys, bentoml

@bentoml.service
class Leaf:
    @bentoml.api
    def double(self, x: int) -> int:
        return 2 * x

@bentoml.service
class Top:
    leaf = bentoml.depends(Leaf)

Top.graph()
assert Top().leaf.double(2) == 4
heavy = {"numpy", "PIL", "pydantic", "fastapi", "starlette", "httpx", "uvicorn", "ormsgpack", "asyncio"}
print(sorted(heavy & set(sys.modules)))
"""

    assert in_new_python(program) == "[]"


def test_the_codec_loads_neither_numpy_nor_pillow(in_new_python: Callable[[str], str]) -> None:
    program = """
import sys
from bentoml import codec
codec.decode(b"".join(codec.encode([1, (2, "a")])))
print(sorted({"numpy", "PIL", "pydantic"} & set(sys.modules)))
"""

    assert in_new_python(program) == "[]"


def test_a_service_of_numbers_is_served_without_packages_for_anything_else(
    in_new_python: Callable[[str], str],
) -> None:
    program = """
import asyncio, sys, bentoml
from bentoml import testing

@bentoml.service
class Adder:
    @bentoml.api
    def add(self, a: int, b: list[float]) -> float:
        return a + sum(b)

with testing.client(Adder) as client:
    assert client.add(1, [2.5]) == 3.5
print(sorted({"numpy", "PIL", "pandas", "torch", "redis", "websockets"} & set(sys.modules)))
"""

    assert in_new_python(program) == "[]"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_no_module_can_make_objects_of_what_arrives(module: Path) -> None:
    nodes = ast.walk(ast.parse(module.read_text()))
    calls = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}

    assert not imported_by(module) & {"pickle", "_pickle", "marshal", "shelve", "cloudpickle", "dill"}
    assert not calls & {"eval", "exec", "compile", "numpy.load", "numpy.save"}


def test_the_runtime_needs_what_it_says_it_needs() -> None:
    tops = set[str]().union(*map(imported_by, MODULES))
    own = {"bentoml", "bento_cli", *sys.stdlib_module_names}
    # What stands only in values of the project's own, and what comes with others.
    optional = {"huggingface_hub", "ml_dtypes", "numpy", "opentelemetry", "pandas", "PIL", "redis", "torch"}
    brought = {"annotated_types", "pydantic_core", "starlette"}
    # uvicorn parses with it; no module of ours imports it.
    unseen = {"httptools"}
    distributions = {top.replace("_", "-") for top in tops - own - optional - brought}

    assert distributions | unseen == RUNTIME_REQUIREMENTS


def test_every_requirement_of_the_runtime_has_a_version_range() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    lines = [line.strip().strip('",') for line in text.splitlines() if line.startswith('    "')]
    ranges = {}
    for line in lines:
        if line.partition(">")[0].partition(";")[0].strip() in RUNTIME_REQUIREMENTS:
            requirement = Requirement(line)
            ranges[requirement.name] = str(requirement.specifier)

    assert set(ranges) == RUNTIME_REQUIREMENTS
    assert all(ranges.values())
