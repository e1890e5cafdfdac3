from __future__ import annotations

from typing import Any

import pytest
from tests.runtime.conftest import service_of

import bentoml


def class_of(marked: Any) -> Any:
    return service_of(marked).inner


@bentoml.service
class Leaf:
    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    @bentoml.api
    def number(self) -> int:
        return self.made


@bentoml.service
class Left:
    leaf = bentoml.depends(Leaf)


@bentoml.service
class Right:
    leaf = bentoml.depends(Leaf)


@bentoml.service
class Top:
    left = bentoml.depends(Left)
    right = bentoml.depends(Right)


def test_the_class_finds_the_dependency() -> None:
    assert isinstance(class_of(Top).left, bentoml.Dependency)
    assert repr(class_of(Top).left) == "<Dependency left: Left>"


def test_a_local_instance_is_made_on_first_use_and_kept() -> None:
    top = Top()
    made = class_of(Leaf).made

    leaf = top.left.leaf

    assert class_of(Leaf).made == made + 1
    assert top.left.leaf is leaf


def test_a_diamond_has_one_leaf() -> None:
    top = Top()

    assert top.left.leaf is top.right.leaf


def test_two_instances_share_nothing() -> None:
    assert Top().left is not Top().left


def test_a_dependency_may_stand_under_two_names() -> None:
    @bentoml.service
    class Twice:
        first = second = bentoml.depends(Leaf)

    twice: Any = service_of(Twice)(first="fake")

    assert twice.first == "fake"
    assert isinstance(twice.second, class_of(Leaf))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"url": "http://iris"}, "http://iris"),
        ({"deployment": "iris-1"}, "iris-1"),
        ({"deployment": "iris-1", "cluster": "eu"}, "iris-1 in eu"),
        ({"on": Leaf, "url": "http://iris"}, "Leaf at http://iris"),
    ],
)
def test_an_external_dependency_is_an_edge(arguments: dict[str, Any], text: str) -> None:
    edge = bentoml.Dependency(**arguments).edge

    assert edge.is_external
    assert str(edge) == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "`depends()` needs a service, `url=` or `deployment=`"),
        ({"url": "http://a", "deployment": "a"}, "`depends()` takes `url=` or `deployment=`, not both"),
        ({"cluster": "eu", "url": "http://a"}, "`depends(cluster=)` goes with `deployment=`"),
    ],
)
def test_arguments_that_do_not_go_together_are_an_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^`depends\(") as caught:
        bentoml.depends(**arguments)

    assert str(caught.value) == message


@pytest.mark.parametrize("on", [class_of(Leaf), "Leaf", 1])
def test_only_a_marked_class_can_be_depended_on(on: Any) -> None:
    with pytest.raises(TypeError, match=r"takes a class marked with `@bentoml.service`, found"):
        bentoml.depends(on)


def test_an_external_dependency_has_no_local_instance() -> None:
    @bentoml.service
    class Shop:
        iris = bentoml.depends(Leaf, url="http://iris")

    with pytest.raises(RuntimeError) as caught:
        _ = Shop().iris

    assert str(caught.value) == (
        "`Shop.iris` is external (Leaf at http://iris); "
        "outside a running service, pass an object: `Shop(iris=...)`"
    )
    assert service_of(Shop)(iris="fake").iris == "fake"
