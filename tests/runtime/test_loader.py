from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.runtime.conftest import Load

from bentoml._placeholder import Placeholder
from bentoml.exceptions import ImportServiceError

SERVICE = """
    import bentoml

    @bentoml.service
    class Iris:
        pass

    @bentoml.service(name="other")
    class Other:
        class Plain:
            pass

        @bentoml.service
        class Inner:
            pass

    class Unmarked:
        pass
"""

GRAPH = """
    import bentoml

    @bentoml.service
    class Leaf:
        pass

    @bentoml.service
    class Left:
        leaf = bentoml.depends(Leaf)

    @bentoml.service
    class Top:
        left = bentoml.depends(Left)
        elsewhere = bentoml.depends(url="http://elsewhere")

    entry = Top
"""


@pytest.mark.parametrize(
    ("files", "target", "name"),
    [
        ({"service.py": SERVICE}, "service:Iris", "Iris"),
        ({"service.py": SERVICE}, "service:Other", "other"),
        ({"service.py": SERVICE}, "service:Other.Inner", "Inner"),
        ({"shop/__init__.py": "", "shop/service.py": SERVICE}, "shop.service:Iris", "Iris"),
        ({"src/shop/service.py": SERVICE}, "shop.service:Iris", "Iris"),
        ({"service.py": SERVICE}, "service.py:Iris", "Iris"),
        ({"service.py": SERVICE}, "./service.py:Iris", "Iris"),
        ({"shop/service.py": SERVICE}, "shop/service.py:Iris", "Iris"),
        ({"src/shop/service.py": SERVICE}, "src/shop/service.py:Iris", "Iris"),
        ({"shop/__init__.py": SERVICE}, "shop/__init__.py:Iris", "Iris"),
        ({"service.py": GRAPH}, "service:Top.left", "Left"),
        ({"service.py": GRAPH}, "service:Top.left.leaf", "Leaf"),
        ({"service.py": GRAPH}, "service", "Top"),
        ({"service.py": GRAPH, "shop.py": "from service import Top"}, "shop.py", "Top"),
    ],
)
def test_a_target_leads_to_a_service(load: Load, files: dict[str, str], target: str, name: str) -> None:
    assert load(files, target).name == name


@pytest.mark.parametrize(
    "target", ["", "service:", ":Iris", "service:Iris.", "shop/service:Iris", "a-b.py:A"]
)
def test_a_target_is_a_module_and_a_class(load: Load, target: str) -> None:
    with pytest.raises(ImportServiceError) as caught:
        load({"service.py": SERVICE}, target)

    assert str(caught.value) == (
        f"{target!r}: expected `module:Class`, such as `service:ControlNet`, or `module` alone"
    )


def test_a_file_may_be_named_by_its_whole_path(load: Load, tmp_path: Path) -> None:
    assert load({"service.py": SERVICE}, f"{tmp_path}/service.py:Iris").name == "Iris"


@pytest.mark.parametrize("target", ["../service.py:Iris", "/elsewhere/service.py:Iris"])
def test_a_file_outside_the_project_is_refused(load: Load, tmp_path: Path, target: str) -> None:
    with pytest.raises(ImportServiceError) as caught:
        load({}, target)

    assert str(caught.value) == f"{target!r}: leads out of {tmp_path}, where the project's modules are"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("missing:Iris", "'missing:Iris': no module 'missing' in {folder}"),
        ("service.missing:Iris", "'service.missing:Iris': no module 'service.missing' in {folder}"),
        ("service:Iriss", "'service:Iriss': 'service' has no 'Iriss'; its services: Iris, Other"),
        ("service:Other.Missing", "'service:Other.Missing': 'service' has no 'Missing'; its services: Inner"),
        ("service:Iris.Missing", "'service:Iris.Missing': 'service' has no 'Missing'"),
        (
            "service:Unmarked",
            "'service:Unmarked' is a type, not a class marked with `@bentoml.service`",
        ),
        ("service:bentoml", "'service:bentoml' is a module, not a class marked with `@bentoml.service`"),
        (
            "service",
            "'service': 'service' has 2 services that no other one there depends on: Iris, Other; "
            "name one, `service:Iris`",
        ),
        ("graph:Top.nothing", "'graph:Top.nothing': 'graph' has no 'nothing'; its services: left"),
        (
            "graph:Top.elsewhere",
            "'graph:Top.elsewhere' is a dependency on http://elsewhere, which runs elsewhere",
        ),
        ("empty.py", "'empty.py': 'empty' has no service: mark a class with `@bentoml.service`"),
    ],
)
def test_a_target_that_leads_nowhere_is_told_where_it_ends(
    load: Load, tmp_path: Path, target: str, message: str
) -> None:
    with pytest.raises(ImportServiceError) as caught:
        load({"service.py": SERVICE, "graph.py": GRAPH, "empty.py": ""}, target)

    assert str(caught.value) == message.format(folder=tmp_path)


def test_a_module_that_the_project_fails_to_import_is_the_projects_own_trouble(load: Load) -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'nowhere'"):
        load({"service.py": "import nowhere"})


def test_an_error_of_the_module_stays_what_it_is(load: Load) -> None:
    with pytest.raises(ZeroDivisionError):
        load({"service.py": "1 / 0"})


def test_loading_twice_gives_the_same_service(load: Load) -> None:
    assert load({"service.py": SERVICE}) is load({})


def test_the_seeds_example_loads_where_its_models_cannot(load: Load) -> None:
    text = (Path(__file__).parents[2] / "examples" / "controlnet" / "service.py").read_text()
    service = load(
        {"service.py": text}, "service:ControlNet", absent=frozenset({"torch", "diffusers", "cv2"})
    )

    assert [node.name for node in service.graph()] == ["SDXLControlNetService", "ControlNet"]
    assert isinstance(sys.modules["service"].torch, Placeholder)
