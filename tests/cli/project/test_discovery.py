"""From the source to the graph: what is found, and what is refused, with nothing imported."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.cli.conftest import EXAMPLE, PROJECTS, Discover, Problems, WriteProject

from bento_cli.errors import InputError, Problem
from bento_cli.project.discovery import Discovery, discover
from bento_cli.project.source import Project
from bentoml._graph import Edge, ServiceGraph
from bentoml.images import Image


def names(discovery: Discovery) -> list[str]:
    return [node.name for node in discovery.graph]


def in_project(name: str, service: str) -> Discovery:
    root = PROJECTS / name
    return discover(Project(root), service, lambda message: Problem(root / "bentofile.yaml", 1, message))


def test_the_examples_graph_is_found() -> None:
    graph = discover(Project(EXAMPLE), "service:ControlNet", lambda m: Problem(EXAMPLE, 1, m)).graph

    assert [(node.name, node.target, node.endpoints) for node in graph] == [
        ("SDXLControlNetService", "service:SDXLControlNetService", ("generate",)),
        ("ControlNet", "service:ControlNet", ("generate",)),
    ]
    assert graph.services["ControlNet"].dependencies == (
        Edge(attribute="controlnet_service", service="SDXLControlNetService"),
    )


def test_the_examples_configuration_is_read() -> None:
    graph = discover(Project(EXAMPLE), "service:ControlNet", lambda m: Problem(EXAMPLE, 1, m)).graph

    assert graph.services["SDXLControlNetService"].config == {
        "traffic": {"timeout": 600},
        "workers": 1,
        "resources": {"gpu": "1", "gpu_type": "nvidia-l4"},
    }


@pytest.mark.parametrize(
    ("imports", "service", "api"),
    [
        ("import bentoml", "bentoml.service", "bentoml.api"),
        ("import bentoml", "bentoml.service()", "bentoml.api()"),
        ("import bentoml", "bentoml.service(workers=2)", 'bentoml.api(route="/x")'),
        ("import bentoml as b", "b.service", "b.api"),
        ("from bentoml import service, api", "service", "api"),
        ("from bentoml import service as s, api as a", "s()", "a"),
        ("import bentoml\nmark = bentoml.service", "mark", "bentoml.api"),
        ("import bentoml\nsmall = bentoml.service(workers=1)", "small", "bentoml.api"),
    ],
)
def test_a_service_is_marked_by(discovered: Discover, imports: str, service: str, api: str) -> None:
    text = f"{imports}\n\n@{service}\nclass Entry:\n    @{api}\n    def predict(self): ...\n"

    assert discovered({"service.py": text}).graph.services["Entry"].endpoints == ("predict",)


def test_a_dependency_is_declared_with_what_was_imported_under_another_name(discovered: Discover) -> None:
    text = """
        from bentoml import depends as needs, service

        @service
        class Leaf: ...

        Alias = Leaf

        @service
        class Entry:
            leaf: Leaf = needs(on=Alias)
        """

    assert discovered({"service.py": text}).graph.peers("Entry") == ("Leaf",)


def test_services_are_found_over_modules_and_packages() -> None:
    discovery = in_project("services-over-files", "entry.api:Entry")

    assert {node.name: node.target for node in discovery.graph} == {
        "Embedder": "models.embedding.service:Embedder",
        "Ranker": "models.ranking:Ranker",
        "Entry": "entry.api:Entry",
    }


def test_modules_below_src_are_named_as_they_are_imported() -> None:
    discovery = in_project("src-layout", "shop.service:Shop")

    assert [node.target for node in discovery.graph] == ["shop.stock:Stock", "shop.service:Shop"]


def test_a_diamonds_leaf_is_found_once() -> None:
    discovery = in_project("diamond", "service:Entry")

    assert names(discovery) == ["Leaf", "Left", "Right", "Entry"]
    assert discovery.graph.dependents("Leaf") == ("Left", "Right")


def test_a_chain_comes_with_its_end_first(discovered: Discover) -> None:
    services = ["import bentoml", "@bentoml.service\nclass S0: ..."]
    services += [f"@bentoml.service\nclass S{i}:\n    x = bentoml.depends(S{i - 1})" for i in range(1, 2000)]

    discovery = discovered({"service.py": "\n".join(services)}, "service:S1999")

    assert names(discovery) == [f"S{i}" for i in range(2000)]


def test_a_project_whose_modules_raise_is_read_and_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECTS / "module-that-raises")

    discovery = in_project("module-that-raises", "service:Entry")

    assert names(discovery) == ["Leaf", "Entry"]
    assert not Path("written-by-the-module").exists()


def test_endpoints_and_dependencies_are_inherited(discovered: Discover) -> None:
    files = {
        "service.py": """
            import bentoml
            from base import Base

            @bentoml.service
            class Entry(Base):
                @bentoml.api
                def own(self): ...
            """,
        "base.py": """
            import bentoml

            @bentoml.service
            class Leaf: ...

            class Root:
                leaf = bentoml.depends(Leaf)

                @bentoml.api
                def first(self): ...

            class Base(Root):
                @bentoml.api
                def second(self): ...
            """,
    }

    node = discovered(files).graph.services["Entry"]

    assert node.endpoints == ("first", "second", "own")
    assert node.dependencies == (Edge(attribute="leaf", service="Leaf"),)


def test_what_a_class_overrides_is_not_inherited(discovered: Discover) -> None:
    text = """
        import bentoml

        @bentoml.service
        class Old: ...

        @bentoml.service
        class New: ...

        class Base:
            leaf = bentoml.depends(Old)

            @bentoml.api
            def predict(self): ...

        @bentoml.service
        class Entry(Base):
            leaf = bentoml.depends(New)

            def predict(self): ...
        """

    discovery = discovered({"service.py": text})

    assert names(discovery) == ["New", "Entry"]
    assert discovery.graph.services["Entry"].endpoints == ()


def test_classes_that_inherit_from_each_other_are_read_to_an_end(discovered: Discover) -> None:
    text = "import bentoml\n@bentoml.service\nclass Entry(Other): ...\nclass Other(Entry): ...\n"

    assert names(discovered({"service.py": text})) == ["Entry"]


def test_a_dependency_may_have_several_names_and_stand_under_a_condition(discovered: Discover) -> None:
    text = """
        import bentoml

        @bentoml.service
        class Leaf: ...

        SHARED = bentoml.depends(Leaf)

        @bentoml.service
        class Entry:
            a = b = bentoml.depends(Leaf)
            if True:
                c = bentoml.depends(Leaf)
            d = SHARED
        """

    edges = discovered({"service.py": text}).graph.services["Entry"].dependencies

    assert [edge.attribute for edge in edges] == ["a", "b", "c", "d"]


def test_external_dependencies_are_edges_out_of_the_graph(discovered: Discover) -> None:
    text = """
        import bentoml
        from iris_client import Iris

        URL = "http://192.168.1.1:3000"

        @bentoml.service
        class Typed: ...

        @bentoml.service
        class Entry:
            a = bentoml.depends(url=URL)
            b = bentoml.depends(None, deployment="iris", cluster="east")
            c = bentoml.depends(Typed, url="https://<iris.example>")
            d = bentoml.depends(Iris, deployment="iris")
        """

    discovery = discovered({"service.py": text})

    assert names(discovery) == ["Entry"]
    assert discovery.graph.services["Entry"].dependencies == (
        Edge(attribute="a", url="http://192.168.1.1:3000"),
        Edge(attribute="b", deployment="iris", cluster="east"),
        Edge(attribute="c", service="Typed", url="https://<iris.example>"),
        Edge(attribute="d", deployment="iris"),
    )


def test_an_address_that_is_computed_is_noted_and_shown_as_it_is_written(discovered: Discover) -> None:
    text = """
        import os
        import bentoml

        @bentoml.service
        class Entry:
            iris = bentoml.depends(url=os.environ["IRIS"])
        """

    discovery = discovered({"service.py": text})

    [edge] = discovery.graph.services["Entry"].dependencies
    assert edge.url == "os.environ['IRIS']"
    assert [str(note) for note in discovery.unknown] == [
        "service.py:6: `url` of `depends()` is not known before the service starts"
    ]


def test_an_argument_that_is_computed_is_noted_and_left_out(discovered: Discover) -> None:
    text = """
        import os
        import bentoml

        @bentoml.service(workers=os.cpu_count(), threads=2 * 2)
        class Entry: ...
        """

    discovery = discovered({"service.py": text})

    assert discovery.graph.services["Entry"].config == {"threads": 4}
    assert [str(note) for note in discovery.unknown] == [
        "service.py:4: `workers` of Entry is not known before the service starts"
    ]


def test_only_the_service_whose_configuration_is_computed_counts_as_such(discovered: Discover) -> None:
    text = """
        import os
        import bentoml

        @bentoml.service(workers=os.cpu_count())
        class Leaf: ...

        @bentoml.service(image=bentoml.images.Image(), labels={"team": "a"})
        class Entry:
            leaf = bentoml.depends(Leaf)
        """

    discovery = discovered({"service.py": text})

    assert discovery.computed == {"Leaf"}
    assert [str(note) for note in discovery.unknown] == [
        "service.py:4: `workers` of Leaf is not known before the service starts",
    ]


def test_arguments_that_are_unpacked_are_read(discovered: Discover) -> None:
    text = """
        import bentoml

        COMMON = {"workers": 2, "traffic": {"timeout": 5}}

        @bentoml.service(**COMMON, threads=3)
        class Entry: ...
        """

    config = discovered({"service.py": text}).graph.services["Entry"].config

    assert config == {"workers": 2, "traffic": {"timeout": 5}, "threads": 3}


def test_what_a_decorator_says_beside_the_configuration(discovered: Discover) -> None:
    text = '''
        import bentoml

        @bentoml.service(
            name="classifier",
            envs=[{"name": "TOKEN"}, {"name": "MODE", "value": "fast", "stage": "build"}],
            labels={"team": "vision"},
        )
        class Entry:
            """Says what is on a picture."""
        '''

    node = discovered({"service.py": text}).graph.services["classifier"]

    assert node.envs == (
        {"name": "TOKEN", "value": "", "stage": "all"},
        {"name": "MODE", "value": "fast", "stage": "build"},
    )
    assert (node.labels, node.description) == ({"team": "vision"}, "Says what is on a picture.")


def test_what_a_service_says_of_its_image_is_read(discovered: Discover) -> None:
    text = """
        import bentoml
        from settings import IMAGE

        @bentoml.service(image=IMAGE)
        class Entry: ...
        """
    settings = """
        import bentoml

        IMAGE = bentoml.images.Image(python_version="3.11").python_packages("numpy")
        """

    images = discovered({"service.py": text, "settings.py": settings}).images

    assert images == {"Entry": Image(python_version="3.11").python_packages("numpy")}


def test_an_image_that_is_computed_is_a_problem(problems: Problems) -> None:
    text = """
        import os
        import bentoml

        @bentoml.service(image=bentoml.images.Image(os.environ["BASE"]))
        class Entry: ...
        """

    assert problems({"service.py": text}) == [
        "service.py:4: `image` of Entry is not known before the service starts, as os.environ is computed: "
        "write it out"
    ]


def test_what_an_image_does_not_take_is_a_problem(problems: Problems) -> None:
    text = """
        import bentoml

        @bentoml.service(image=bentoml.images.Image().run(5))
        class Entry: ...
        """

    assert problems({"service.py": text}) == ["service.py:3: `image` of Entry: `run()` takes text, found [5]"]


def test_a_dependency_goes_by_the_name_that_the_other_service_gives_itself(discovered: Discover) -> None:
    text = """
        import bentoml

        @bentoml.service(name="classifier")
        class Leaf: ...

        @bentoml.service
        class Entry:
            leaf = bentoml.depends(Leaf)
        """

    assert discovered({"service.py": text}).graph.peers("Entry") == ("classifier",)


SERVICE = "import bentoml\n\n@bentoml.service\nclass Entry: ...\n"


@pytest.mark.parametrize(
    "service", ["service", "service.py", "service.py:Entry", "./service.py:Entry", "service:Entry"]
)
def test_the_entry_may_be_named_by(discovered: Discover, service: str) -> None:
    assert discovered({"service.py": SERVICE}, service).graph.entry == "Entry"


@pytest.mark.parametrize(
    ("file", "service"),
    [
        ("shop/service.py", "shop/service.py:Entry"),
        ("src/shop/service.py", "src/shop/service.py:Entry"),
        ("src/shop/service.py", "shop.service"),
    ],
)
def test_a_file_is_named_by_its_path(discovered: Discover, file: str, service: str) -> None:
    assert discovered({file: SERVICE}, service).graph.services["Entry"].target == "shop.service:Entry"


def test_a_file_outside_the_project_is_refused(problems: Problems) -> None:
    (problem,) = problems({"service.py": SERVICE}, "../service.py:Entry")

    assert problem.startswith("bentofile.yaml:1: service '../service.py:Entry': leads out of ")


GRAPH = """
    import bentoml

    @bentoml.service
    class Leaf: ...

    @bentoml.service
    class Left:
        leaf = bentoml.depends(Leaf)

    @bentoml.service
    class Top:
        left = bentoml.depends(Left)

    entry = Top
    """


@pytest.mark.parametrize(
    ("service", "entry"),
    [("service:Top.left", "Left"), ("service:Top.left.leaf", "Leaf"), ("service", "Top")],
)
def test_the_entry_may_be_what_another_service_depends_on(
    discovered: Discover, service: str, entry: str
) -> None:
    assert discovered({"service.py": GRAPH}, service).graph.entry == entry


def test_an_attribute_that_is_no_dependency_leads_nowhere(problems: Problems) -> None:
    assert problems({"service.py": GRAPH}, "service:Top.lefd") == [
        "bentofile.yaml:1: service 'service:Top.lefd': Top has no dependency 'lefd' on a service, "
        "did you mean `left`?"
    ]


def test_the_entry_may_be_one_that_its_module_only_imports(discovered: Discover) -> None:
    files = {"service.py": "from app.entry import Entry", "app/entry.py": SERVICE}

    assert discovered(files, "service").graph.services["Entry"].target == "app.entry:Entry"


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("servce:Entry", "no module 'servce' in this project, did you mean `service`?"),
        ("other:Entry", "no module 'other' in this project; modules: app, service"),
        ("app.servce:A", "no module 'app.servce' in this project, did you mean `app.service`?"),
        ("service:Entri", "service.py has no service 'Entri', did you mean `Entry`?"),
        ("service:Nothing", "service.py has no service 'Nothing'; services: Other, Entry"),
        ("service:Plain", "class Plain at service.py:3 is not marked with `@bentoml.service`"),
    ],
)
def test_an_entry_that_names_nothing(problems: Problems, service: str, expected: str) -> None:
    files = {
        "service.py": """
            import bentoml

            class Plain: ...

            @bentoml.service
            class Other: ...

            @bentoml.service
            class Entry: ...
            """,
        "app/__init__.py": "",
        "app/service.py": "",
    }

    assert problems(files, service) == [f"bentofile.yaml:1: service {service!r}: {expected}"]


def test_a_module_stands_for_its_service_that_no_other_one_there_depends_on(discovered: Discover) -> None:
    text = """
        import bentoml

        @bentoml.service
        class Leaf: ...

        @bentoml.service
        class Entry:
            leaf = bentoml.depends(Leaf)
        """

    assert discovered({"service.py": text}, "service").graph.entry == "Entry"


def test_a_module_with_several_such_services_stands_for_none(problems: Problems) -> None:
    text = """
        import bentoml

        @bentoml.service
        class First: ...

        @bentoml.service
        class Second: ...
        """

    assert problems({"service.py": text}, "service") == [
        "bentofile.yaml:1: service.py has 2 services that no other one there depends on: First, Second; "
        'name one, `bento serve service:First`, or `service: "service:First"` in bentofile.yaml'
    ]


def test_a_module_without_a_service_stands_for_none(problems: Problems) -> None:
    assert problems({"service.py": "class Plain: ...\n"}, "service") == [
        "bentofile.yaml:1: service.py has no service: mark a class with `@bentoml.service`"
    ]


def test_services_in_a_circle() -> None:
    with pytest.raises(InputError, match="services depend on each other in a circle: First → Second → First"):
        in_project("cycle", "first:First")


def test_a_service_that_depends_on_itself_is_a_circle(problems: Problems) -> None:
    text = "import bentoml\n@bentoml.service\nclass Entry:\n    me = bentoml.depends(Entry)\n"

    assert problems({"service.py": text}) == [
        "service.py:3: services depend on each other in a circle: Entry → Entry"
    ]


def test_two_services_of_one_name(problems: Problems) -> None:
    files = {
        "service.py": """
            import bentoml
            import other

            @bentoml.service
            class Leaf: ...

            @bentoml.service
            class Entry:
                a = bentoml.depends(Leaf)
                b = bentoml.depends(other.Leaf)
            """,
        "other.py": "import bentoml\n\n@bentoml.service\nclass Leaf: ...\n",
    }

    assert problems(files) == [
        "other.py:4: a second service named 'Leaf'; the first is at service.py:5; rename one"
    ]


def test_two_services_whose_names_make_one_variable(problems: Problems) -> None:
    text = """
        import bentoml

        @bentoml.service(name="image-net")
        class A: ...

        @bentoml.service(name="image_net")
        class B: ...

        @bentoml.service
        class Entry:
            a = bentoml.depends(A)
            b = bentoml.depends(B)
        """

    assert problems({"service.py": text}) == [
        "service.py:7: 'image_net' and 'image-net' (service.py:4) would share BENTOML_PEER_IMAGE_NET; "
        "rename one"
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("url='http://a', deployment='b'", "`depends()` takes `url=` or `deployment=`, not both"),
        ("url='http://a', cluster='b'", "`depends(cluster=)` goes with `deployment=`"),
        ("", "`depends()` needs a service, `url=` or `deployment=`"),
        ("None", "`depends()` needs a service, `url=` or `deployment=`"),
        ("url=5", "`url` of `depends()`: expected text, found 5"),
    ],
)
def test_a_dependency_that_leads_nowhere(problems: Problems, arguments: str, expected: str) -> None:
    text = f"""
        import bentoml

        @bentoml.service
        class Entry:
            leaf = bentoml.depends({arguments})
        """

    assert f"service.py:5: {expected}" in problems({"service.py": text})


@pytest.mark.parametrize("on", ["Plain", "np.array", "'Entry'", "typed.Entry", "[Plain]", "missing"])
def test_a_dependency_on_what_is_no_service(problems: Problems, on: str) -> None:
    text = f"""
        from typing import TYPE_CHECKING
        import bentoml
        import numpy as np

        if TYPE_CHECKING:
            import typed

        class Plain: ...

        @bentoml.service
        class Entry:
            leaf = bentoml.depends({on})
        """

    assert problems({"service.py": text, "typed.py": SERVICE}) == [
        f"service.py:12: `{on}` is no class marked with `@bentoml.service` in this project"
    ]


def test_the_nearest_service_is_named_where_a_dependency_is_misspelled(problems: Problems) -> None:
    text = """
        import bentoml

        @bentoml.service
        class Classifier: ...

        @bentoml.service
        class Entry:
            leaf = bentoml.depends(Clasifier)
        """

    assert problems({"service.py": text}) == [
        "service.py:8: `Clasifier` is no class marked with `@bentoml.service` in this project, did you mean "
        "`Classifier`?"
    ]


def test_a_dependency_inside_a_list_is_refused(problems: Problems) -> None:
    text = """
        import bentoml

        @bentoml.service
        class Leaf: ...

        @bentoml.service
        class Entry:
            leaves = [bentoml.depends(Leaf)]
        """

    assert problems({"service.py": text}) == [
        "service.py:8: `depends()` works as `name = bentoml.depends(...)` in a class's body only"
    ]


def test_a_dependency_that_is_made_in_a_method_is_refused(problems: Problems) -> None:
    text = """
        import bentoml

        @bentoml.service
        class Leaf: ...

        @bentoml.service
        class Entry:
            def __init__(self):
                self.leaf = bentoml.depends(Leaf)
        """

    assert problems({"service.py": text}) == [
        "service.py:9: `depends()` works as `name = bentoml.depends(...)` in a class's body only"
    ]


CALLS = """
    import asyncio
    import bentoml
    {imports}

    @bentoml.service
    class Leaf{bases}:
        @bentoml.api
        def predict(self): ...

        def helper(self): ...

    @bentoml.service
    class Entry:
        leaf = bentoml.depends(Leaf)

        @bentoml.api
        async def call(self):
            return await asyncio.to_thread(self.leaf.{method})
    """


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("predcit", "service.py:18: Leaf has no endpoint 'predcit', did you mean `predict`?"),
        ("helper", "service.py:18: Leaf has no endpoint 'helper'; its endpoints: predict"),
    ],
)
def test_a_method_that_the_other_service_does_not_have(
    problems: Problems, method: str, expected: str
) -> None:
    text = CALLS.format(imports="", bases="", method=method)

    assert problems({"service.py": text}) == [expected]


@pytest.mark.parametrize("method", ["predict", "to_async", "to_sync"])
def test_a_method_that_the_other_service_has(discovered: Discover, method: str) -> None:
    text = CALLS.format(imports="", bases="(object)", method=method)

    assert names(discovered({"service.py": text})) == ["Leaf", "Entry"]


def test_nobody_knows_the_methods_of_a_base_class_from_elsewhere(discovered: Discover) -> None:
    text = CALLS.format(imports="from library import Base", bases="(Base)", method="from_the_base")

    assert names(discovered({"service.py": text})) == ["Leaf", "Entry"]


def test_the_methods_of_an_external_service_are_checked_where_its_class_is_given(problems: Problems) -> None:
    text = """
        import bentoml

        @bentoml.service
        class Iris:
            @bentoml.api
            def predict(self): ...

        @bentoml.service
        class Entry:
            iris = bentoml.depends(Iris, url="http://iris:3000")

            def call(self):
                return self.iris.predcit()
        """

    assert problems({"service.py": text}) == [
        "service.py:13: Iris has no endpoint 'predcit', did you mean `predict`?"
    ]


def test_tasks_are_endpoints_inherited_ones_too(discovered: Discover) -> None:
    text = """
        import bentoml

        slow = bentoml.task(route="/slow")

        def report(self): ...

        class Base:
            @bentoml.task
            def inherited(self): ...

            @bentoml.task
            def overridden(self): ...

        @bentoml.service
        class Entry(Base):
            reported = bentoml.task(report)

            @slow
            async def own(self): ...

            @bentoml.api
            def overridden(self): ...
        """

    node = discovered({"service.py": text}).graph.services["Entry"]

    assert node.endpoints == ("inherited", "overridden", "reported", "own")
    assert node.tasks == ("inherited", "reported", "own")


@pytest.mark.parametrize(
    ("options", "base", "member", "runs"),
    [
        ("(cmd=['serve'])", "", "pass", True),
        ("(cmd=words())", "", "pass", True),
        ("", "", "def __command__(self): return ['serve']", True),
        ("", "Base", "pass", True),
        ("", "", "pass", False),
    ],
)
def test_a_command_that_answers_for_a_service_is_found(
    discovered: Discover, options: str, base: str, member: str, runs: bool
) -> None:
    text = f"""\
import bentoml

def words():
    return ["serve"]

class Base:
    def __command__(self):
        return ["serve"]

@bentoml.service{options}
class Entry({base}):
    {member}
"""

    assert discovered({"service.py": text}).graph.services["Entry"].runs_command is runs


OBJECTS = """
    import bentoml
    import sys

    TRAFFIC = {"timeout": 600}

    engine = bentoml.Service(
        "Engine",
        cmd=[sys.executable, "-m", "vllm.server", "--port", "8000"],
        config={"traffic": TRAFFIC, "workers": 2},
        labels={"team": "llm"},
    )

    @bentoml.service
    class Entry:
        engine = bentoml.depends(engine)
    """


def test_a_service_without_a_class_is_found_by_the_name_of_its_object(discovered: Discover) -> None:
    discovery = discovered({"service.py": OBJECTS})

    engine = discovery.graph.services["Engine"]
    assert (engine.target, engine.config) == ("service:engine", {"traffic": {"timeout": 600}, "workers": 2})
    assert (engine.labels, engine.endpoints) == ({"team": "llm"}, ())
    assert discovery.unknown == ()


def test_a_service_without_a_class_may_be_the_entry(discovered: Discover) -> None:
    assert names(discovered({"service.py": OBJECTS}, "service:engine")) == ["Engine"]


def test_a_service_without_a_class_may_be_of_another_module(discovered: Discover) -> None:
    files = {
        "engines.py": OBJECTS,
        "service.py": """
            import bentoml
            from engines import engine as behind

            @bentoml.service
            class Entry:
                engine = bentoml.depends(behind)
            """,
    }

    assert names(discovered(files)) == ["Engine", "Entry"]


def test_a_name_of_a_service_without_a_class_must_be_a_literal(problems: Problems) -> None:
    text = "import bentoml\nNAME = str(5)\nEntry = bentoml.Service(NAME, cmd=['x'])"

    assert problems({"service.py": text}) == [
        "service.py:3: `name` of Entry must be a literal: files and variables are named after it"
    ]


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ('@bentoml.service(cmd=["serve", "$MODEL"])\nclass Entry: ...', ("serve", "$MODEL")),
        ("@bentoml.service(cmd=COMMAND)\nclass Entry: ...", ("serve", "here")),
        ('@bentoml.service(cmd=["serve", find()])\nclass Entry: ...', ("serve",)),
        (
            "@bentoml.service\nclass Entry:\n    def __command__(self): return ['serve', self.x]",
            ("serve",),
        ),
    ],
)
def test_the_words_of_a_command_are_known_as_far_as_the_source_says_them(
    discovered: Discover, declared: str, words: tuple[str, ...]
) -> None:
    text = f'import bentoml\nCOMMAND = ["serve", "here"]\n{declared}\n'

    assert discovered({"service.py": text}).commands == {"Entry": words}


def test_what_only_the_running_service_acts_on_may_be_computed(discovered: Discover) -> None:
    text = """
        import bentoml

        class Own(bentoml.Service): ...

        @bentoml.service(service_class=Own, cmd=make(), path_prefix=prefix(), description=f"{1}")
        class Entry: ...
        """

    discovery = discovered({"service.py": text})

    assert (discovery.unknown, discovery.computed) == ((), frozenset())


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("name=5", "`name` of Entry: expected text, found the number 5"),
        ("name=str(5)", "`name` of Entry must be a literal"),
        ("labels={'a': 1}", "`labels.a` of Entry: expected text, found the number 1"),
        ("labels={'a=b': 'c'}", "`labels.a=b` of Entry: 'a=b': expected a label's key"),
        (r"labels={'a': 'b\nc'}", "`labels.a` of Entry: expected one line of text"),
        ("envs=['A=1']", "`envs.0` of Entry: expected keys and values, found the text 'A=1'"),
        ("envs=[{'name': '2A'}]", "`envs.0.name` of Entry: '2A' is no name of a variable"),
        ("path_prefix='v1'", "`path_prefix` of Entry: 'v1': expected a path that starts with `/`"),
        ("cmd='serve'", "`cmd` of Entry: expected a list, found the text 'serve'"),
        ("cmd=[]", "`cmd` of Entry: expected a program and its arguments"),
        (r"envs=[{'name': 'A', 'value': 'b\nc'}]", "`envs.0.value` of Entry: expected one line of text"),
    ],
)
def test_what_a_decorator_may_not_say(problems: Problems, argument: str, expected: str) -> None:
    text = f"import bentoml\n@bentoml.service({argument})\nclass Entry: ..."

    [problem] = problems({"service.py": text})

    assert problem.startswith(f"service.py:2: {expected}")


@pytest.mark.parametrize(
    "method",
    [
        "def run(self, x: pd.DataFrame) -> int: ...",
        "async def run(self, x: int, *, y: list[pd.DataFrame]): ...",
        "def run(self) -> 'pd.DataFrame': ...",
    ],
)
def test_an_endpoints_annotations_need_what_is_imported_for_type_checkers(
    problems: Problems, method: str
) -> None:
    text = f"""
        from __future__ import annotations
        import bentoml, typing
        if typing.TYPE_CHECKING:
            import pandas as pd
        @bentoml.service
        class Entry:
            @bentoml.api
            {method}
        """

    assert problems({"service.py": text}) == [
        "service.py:8: an annotation of the endpoint 'run' is needed to serve it, and `pd` is imported for "
        "type checkers only: move line 4 out of the `if`"
    ]


@pytest.mark.parametrize(
    ("top", "method"),
    [
        ("if typing.TYPE_CHECKING:\n    import pandas as pd", "def run(self, x: typing.Literal['pd']): ..."),
        ("if typing.TYPE_CHECKING:\n    import pandas as pd", "def run(self, x: 'a pd'): ..."),
        ("if typing.TYPE_CHECKING:\n    pd = 1\nelse:\n    pd = int", "def run(self, x: pd): ..."),
    ],
)
def test_an_endpoints_annotations_that_can_be_resolved(discovered: Discover, top: str, method: str) -> None:
    text = f"import bentoml, typing\n{top}\n@bentoml.service\nclass Entry:\n    @bentoml.api\n    {method}\n"

    assert discovered({"service.py": text}).graph.services["Entry"].endpoints == ("run",)


def test_all_problems_come_at_once(problems: Problems) -> None:
    files = {
        "service.py": """
            import bentoml
            from other import Other

            @bentoml.service(labels={"a": 1})
            class Entry:
                a = bentoml.depends()
                b = bentoml.depends(Missing)
                c = bentoml.depends(Other)

                def call(self):
                    return self.c.nothing()
            """,
        "other.py": """
            import bentoml
            import service

            @bentoml.service
            class Other:
                entry = bentoml.depends(service.Entry)
            """,
    }

    assert [problem.partition(": ")[0] for problem in problems(files)] == [
        "service.py:4",
        "service.py:5",
        "service.py:6",
        "service.py:7",
        "service.py:11",
    ]


NESTED = """
    import bentoml

    class Models:
        @bentoml.service(workers=2)
        class Ranker:
            @bentoml.api
            def rank(self): ...

    @bentoml.service
    class Entry:
        @bentoml.service
        class Stock:
            @bentoml.service
            class Shelf: ...

            shelf = bentoml.depends(Shelf)

            @bentoml.api
            def items(self): return self.shelf.count()

        Items = Stock
        stock = bentoml.depends(Stock)
        same = bentoml.depends(Items)
        ranker = bentoml.depends(Models.Ranker)

        def call(self):
            return self.stock.items(), self.ranker.rank()
    """


def test_services_are_found_inside_classes(discovered: Discover) -> None:
    graph = discovered({"service.py": NESTED.replace("count()", "to_async")}).graph

    assert [(node.target, [edge.service for edge in node.dependencies]) for node in graph] == [
        ("service:Entry.Stock.Shelf", []),
        ("service:Entry.Stock", ["Shelf"]),
        ("service:Models.Ranker", []),
        ("service:Entry", ["Stock", "Stock", "Ranker"]),
    ]


def test_a_service_inside_a_class_is_checked_as_any_other(problems: Problems) -> None:
    assert problems({"service.py": NESTED}) == [
        "service.py:19: Shelf has no endpoint 'count'; its endpoints: none"
    ]


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("service:Models.Ranker", "Ranker"),
        ("service:Entry.Stock", "Stock"),
        ("service:Entry.stock", "Stock"),
        ("service:Entry.Stock.Shelf", "Shelf"),
        ("other:models.Models.Ranker", "Ranker"),
    ],
)
def test_the_entry_may_stand_inside_a_class(discovered: Discover, entry: str, name: str) -> None:
    files = {"service.py": NESTED.replace("count()", "to_async"), "other.py": "import service as models"}

    assert discovered(files, entry).graph.entry == name


def targets_at_run_time(graph: ServiceGraph) -> dict[str, str]:
    """What the runtime finds by each service's target in the current folder: the name, and its own target."""
    load = """
        import json, sys
        from pathlib import Path
        from bentoml._loader import load_service

        services = [load_service(target, project=Path.cwd()) for target in sys.argv[1:]]
        print(json.dumps({service.name: service.target for service in services}))
        """
    command = [sys.executable, "-c", textwrap.dedent(load), *(node.target for node in graph)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(run.stdout)
    return found


def test_a_service_inside_a_class_is_found_by_the_runtime_too(discovered: Discover) -> None:
    graph = discovered({"service.py": NESTED.replace("count()", "to_async")}).graph

    assert targets_at_run_time(graph) == {node.name: node.target for node in graph}


OPEN = """
    import os
    import bentoml
    {imports}

    @bentoml.service(workers=2)
    class Leaf:
        @bentoml.api
        def one(self) -> int: ...

    def make(name):
        @bentoml.service(name=name, resources={{"gpu": 1}})
        class Made:
            leaf = bentoml.depends(Leaf)

            @bentoml.api
            def two(self) -> int: ...

        return Made

    {how}

    @bentoml.service
    class Entry:
        it = bentoml.depends({what})
        outside = bentoml.depends(url="http://a")
    """


@pytest.mark.parametrize(
    ("how", "what", "target"),
    [
        ("LEAVES = {'a': Leaf}", "LEAVES['a']", "service:Leaf"),
        ("Found = Leaf if os.name else None", "Found", "service:Leaf"),
        ("for Found in [Leaf]: ...", "Found", "service:Leaf"),
        ("globals()['Found'] = Leaf", "Found", "service:Leaf"),
        ("Made = make('made')", "Made", "service:Made"),
        ("ALL = [make('made')]", "ALL[0]", "service:Entry.it"),
        ("", "make('made')", "service:Entry.it"),
        ("class Holder:\n        made = make('made')", "Holder.made", "service:Entry.it"),
    ],
)
def test_what_a_computed_dependency_leads_to_is_found_by_importing_the_project(
    discovered: Discover, how: str, what: str, target: str
) -> None:
    text = OPEN.format(imports="import not_installed", how=how, what=what)

    discovery = discovered({"service.py": text})

    service = "Leaf" if target == "service:Leaf" else "made"
    edges = [Edge(attribute="it", service=service), Edge(attribute="outside", url="http://a")]
    assert discovery.graph.services["Entry"].dependencies == tuple(edges)
    assert discovery.graph.services[service].target == target
    assert [problem.message for problem in discovery.unknown] == [
        f"`{what}` is computed, so the project was imported to find the service behind it"
    ]


def test_a_service_that_was_made_says_the_same_as_one_that_is_written(discovered: Discover) -> None:
    discovery = discovered({"service.py": OPEN.format(imports="", how="Made = make('made')", what="Made")})

    made = discovery.graph.services["made"]
    assert (made.endpoints, made.config, made.dependencies) == (
        ("two",),
        {"resources": {"gpu": 1}},
        (Edge(attribute="leaf", service="Leaf"),),
    )
    assert discovery.imported == {"made"}


def test_a_service_that_was_made_is_found_by_the_runtime_by_its_target(discovered: Discover) -> None:
    graph = discovered({"service.py": OPEN.format(imports="", how="", what="make('made')")}).graph

    assert list(targets_at_run_time(graph)) == ["Leaf", "made", "Entry"]


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("Entry = make()", "service:Entry"),
        ("Entry = make()", "service"),
        ("globals()['Entry'] = make()", "service:Entry"),
        ("@marked\nclass Entry: ...", "service:Entry"),
        ("from other import *", "service:Entry"),
    ],
)
def test_an_entry_that_is_computed_is_found_by_importing_the_project(
    discovered: Discover, text: str, target: str
) -> None:
    made = "import bentoml\ndef marked(cls): return bentoml.service(name='made')(cls)\n"
    made += "def make(): return marked(type('Entry', (), {}))\n"
    files = {
        "made.py": made,
        "other.py": "from made import *\nvars()['Entry'] = make()\n",
        "service.py": f"from made import *\n{text}\n",
    }

    assert discovered(files, target).graph.entry == "made"


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (
            "raise RuntimeError('no\\nmodel')",
            "service.py:20: raised while it was imported: RuntimeError: no model",
        ),
        ("raise SystemExit(3)", "service.py:20: raised while it was imported: SystemExit: 3"),
        (
            "if not_installed.cuda.is_available(): ...",
            "service.py:20: while it was imported: `not_installed.cuda.is_available(...)` is used, "
            "and that is not installed here",
        ),
        ("os._exit(3)", "service.py: the process that imported `service:Entry` ended with 3: without a word"),
    ],
)
def test_a_project_that_cannot_be_imported_is_told_with_the_reason_why_it_was(
    problems: Problems, how: str, expected: str
) -> None:
    text = OPEN.format(imports="import not_installed", how=how, what="LEAVES['a']")

    assert set(problems({"service.py": text})) == {
        expected,
        "service.py:24: `LEAVES['a']` is computed, so the project was imported to find the service behind it",
    }


@pytest.mark.parametrize(
    ("how", "what", "expected"),
    [
        ("ALL = {'a': None}", "ALL['a']", "ValueError: `depends()` needs a service, `url=` or `deployment=`"),
        (
            "ALL = {'a': 5}",
            "ALL['a']",
            "TypeError: `depends()` takes a class marked with `@bentoml.service`, found 5",
        ),
    ],
)
def test_a_computed_dependency_that_leads_nowhere(
    problems: Problems, how: str, what: str, expected: str
) -> None:
    text = OPEN.format(imports="", how=how, what=what)

    assert f"service.py:24: raised while it was imported: {expected}" in problems({"service.py": text})


@pytest.mark.parametrize(
    ("text", "target", "expected"),
    [
        ("Entry = list()", "service:Entry", "service.py: 'service:Entry' is a list, not a class marked with"),
        ("vars()['a'] = 1", "service:Entry", "service.py: 'service:Entry': 'service' has no 'Entry'"),
        (
            "def f(): ...\nx = f()",
            "service",
            "service.py: 'service': 'service' has no service: mark a class with",
        ),
    ],
)
def test_a_computed_entry_that_is_none(problems: Problems, text: str, target: str, expected: str) -> None:
    found = problems({"service.py": text}, target)

    assert any(problem.startswith(expected) for problem in found)


def test_what_a_project_prints_while_it_is_imported_does_no_harm(discovered: Discover) -> None:
    text = OPEN.format(imports="print('{}'); os.system('echo {}')", how="LEAVES = [Leaf]", what="LEAVES[0]")

    assert names(discovered({"service.py": text})) == ["Leaf", "Entry"]


def test_a_project_that_is_imported_gets_its_arguments(project: WriteProject) -> None:
    text = OPEN.format(
        imports="args = bentoml.use_arguments()", how="LEAVES = {'a': Leaf}", what="LEAVES[args.leaf]"
    )
    root = project({"service.py": text})

    found = discover(Project(root, {"leaf": "a"}), "service:Entry", lambda text: Problem(root, 1, text))

    assert names(found) == ["Leaf", "Entry"]


def test_nothing_is_imported_where_something_is_wrong_anyway(problems: Problems) -> None:
    text = OPEN.format(imports="", how="open('run', 'w').close()", what="ALL[0]")
    text += "    wrong = bentoml.depends()\n"

    assert problems({"service.py": text}) == [
        "service.py:26: `depends()` needs a service, `url=` or `deployment=`"
    ]
    assert not Path("run").exists()
