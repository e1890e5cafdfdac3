from __future__ import annotations

from typing import Any

import pytest
from tests.runtime.conftest import service_of

import bentoml
from bentoml.exceptions import BentoMLConfigException


@bentoml.service
class Leaf:
    """Says how it is."""

    @bentoml.api
    def name(self) -> str:
        return "leaf"


@bentoml.service(
    name="iris-classifier",
    description="Knows flowers.",
    path_prefix="/v1/",
    envs=[{"name": "HF_TOKEN"}],
    labels={"owner": "us"},
    workers=2,
    traffic={"timeout": 5},
)
class Iris:
    leaf = bentoml.depends(Leaf)

    @bentoml.api
    def predict(self, x: int) -> str:
        return self.leaf.name() * x

    @bentoml.api
    async def train(self) -> None: ...

    def helper(self) -> None: ...


def test_a_bare_decorator_takes_everything_from_the_class() -> None:
    leaf = service_of(Leaf)

    assert (leaf.name, leaf.description, leaf.config) == ("Leaf", "Says how it is.", {})
    assert leaf.__doc__ == "Says how it is."


def test_what_the_decorator_is_given_wins() -> None:
    iris = service_of(Iris)

    assert (iris.name, iris.description, iris.path_prefix) == ("iris-classifier", "Knows flowers.", "/v1")
    assert iris.config == {"workers": 2, "traffic": {"timeout": 5}}


def test_a_service_as_data_is_a_node() -> None:
    node = service_of(Iris).node()

    assert (node.name, node.endpoints) == ("iris-classifier", ("predict", "train"))
    assert [str(edge) for edge in node.dependencies] == ["Leaf"]
    assert (node.envs, node.labels) == (({"name": "HF_TOKEN"},), {"owner": "us"})


def test_a_target_names_the_class_and_not_the_service() -> None:
    assert service_of(Iris).target == f"{__name__}:Iris"


def test_calling_a_service_makes_an_instance() -> None:
    assert Iris().predict(2) == "leafleaf"


def test_a_service_stands_for_its_class_in_isinstance() -> None:
    assert isinstance(Leaf(), Leaf)
    assert not isinstance(Iris(), Leaf)


def test_a_service_is_a_base_class() -> None:
    @bentoml.service
    class Loud(Leaf):
        @bentoml.api
        def shout(self) -> str:
            return super().name().upper()

    assert list(service_of(Loud).endpoints) == ["name", "shout"]
    assert Loud().shout() == "LEAF"


def test_an_overriding_method_is_the_endpoint() -> None:
    class Base:
        @bentoml.api
        def first(self) -> int:
            return 1

        @bentoml.api
        def second(self) -> int:
            return 1

    @bentoml.service
    class Derived(Base):
        @bentoml.api(route="/changed")
        def first(self) -> int:
            return 2

        second: Any = None

    assert {name: endpoint.route for name, endpoint in service_of(Derived).endpoints.items()} == {
        "first": "/changed"
    }


def test_dependencies_of_a_base_class_are_inherited() -> None:
    class Base:
        leaf = bentoml.depends(Leaf)

    @bentoml.service
    class Derived(Base):
        pass

    assert list(service_of(Derived).dependencies) == ["leaf"]
    assert Derived().leaf.name() == "leaf"


def test_marking_a_class_twice_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"iris-classifier is marked with .* already"):
        bentoml.service(Iris)


def test_only_a_class_can_be_marked() -> None:
    with pytest.raises(TypeError, match=r"^`@bentoml.service` marks a class, found <function"):
        bentoml.service(lambda: None)  # type: ignore[call-overload]  # the error under test


def test_a_fake_takes_the_place_of_a_dependency() -> None:
    class Fake:
        def name(self) -> str:
            return "fake"

    assert service_of(Iris)(leaf=Fake()).predict(1) == "fake"


def test_a_dependency_is_there_when_init_runs() -> None:
    @bentoml.service
    class Eager:
        leaf = bentoml.depends(Leaf)

        def __init__(self) -> None:
            self.greeting = self.leaf.name()

    class Fake:
        def name(self) -> str:
            return "fake"

    assert Eager().greeting == "leaf"
    assert service_of(Eager)(leaf=Fake()).greeting == "fake"


def test_something_that_is_no_dependency_cannot_be_passed() -> None:
    with pytest.raises(TypeError) as caught:
        service_of(Iris)(laef=object(), other=1)

    assert str(caught.value) == "iris-classifier has no dependency ['laef', 'other']; it has: leaf"


def test_a_graph_holds_all_services_that_are_reached() -> None:
    @bentoml.service
    class Top:
        iris = bentoml.depends(Iris)
        leaf = bentoml.depends(Leaf)
        elsewhere = bentoml.depends(url="http://elsewhere")

    assert [node.name for node in service_of(Top).graph()] == ["Leaf", "iris-classifier", "Top"]


def test_an_external_service_is_no_part_of_the_graph() -> None:
    @bentoml.service
    class Top:
        iris = bentoml.depends(Iris, deployment="iris-1")

    assert list(service_of(Top).graph().services) == ["Top"]


def test_two_services_of_one_name_are_an_error() -> None:
    @bentoml.service(name="Leaf")
    class Other:
        pass

    @bentoml.service
    class Top:
        leaf = bentoml.depends(Leaf)
        other = bentoml.depends(Other)

    with pytest.raises(BentoMLConfigException, match="two services are named 'Leaf': "):
        service_of(Top).graph()


def test_a_circle_of_services_is_an_error() -> None:
    @bentoml.service
    class A:
        b: Any = None

    @bentoml.service
    class B:
        a = bentoml.depends(A)

    # Only reachable by hand: a class cannot name one that is defined after it.
    service_of(A).dependencies["b"] = bentoml.Dependency(service_of(B))

    with pytest.raises(BentoMLConfigException, match="services depend on each other in a circle: A → B → A"):
        service_of(A).graph()


def test_a_service_shows_its_name_and_target() -> None:
    assert repr(Iris) == f"<Service iris-classifier ({__name__}:Iris)>"
