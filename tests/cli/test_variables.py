from __future__ import annotations

import pytest

from bento_cli.errors import BentoError
from bento_cli.variables import open_variables, require_variables
from bentoml._graph import Edge, ServiceGraph, ServiceNode


def graph_of(*edges: Edge, envs: tuple[dict[str, str], ...] = ()) -> ServiceGraph:
    """One service."""
    node = ServiceNode(name="Entry", target="service:Entry", dependencies=edges, envs=envs)
    return ServiceGraph(entry="Entry", services={"Entry": node})


def test_a_variable_without_a_value_is_left_open() -> None:
    graph = graph_of(envs=({"name": "TOKEN"}, {"name": "SIZE", "value": "small"}))

    assert open_variables(graph, [{"name": "API_KEY", "value": ""}]) == {"Entry": ("TOKEN", "API_KEY")}


def test_a_value_that_either_declares_is_enough() -> None:
    assert open_variables(graph_of(envs=({"name": "A"},)), [{"name": "A", "value": "1"}]) == {"Entry": ()}


def test_a_variable_of_the_build_is_nobodys_when_it_runs() -> None:
    assert open_variables(graph_of(), [{"name": "MIRROR", "stage": "build"}]) == {"Entry": ()}


def test_where_another_deployment_is_has_to_be_said() -> None:
    far, near = Edge(attribute="far", deployment="iris-x6"), Edge(attribute="near", url="http://near")

    assert open_variables(graph_of(far, near), []) == {"Entry": ("BENTOML_DEPLOYMENT_IRIS_X6",)}


def test_a_project_may_say_where_another_deployment_is() -> None:
    far = Edge(attribute="far", deployment="iris")
    envs = [{"name": "BENTOML_DEPLOYMENT_IRIS", "value": "http://iris"}]

    assert open_variables(graph_of(far), envs) == {"Entry": ()}


def test_what_is_set_for_one_service_is_not_set_for_another() -> None:
    needed = {"Leaf": ("TOKEN",), "Front": ("TOKEN",)}

    with pytest.raises(BentoError, match=r"^TOKEN is not set, needed by Front$"):
        require_variables(needed, {"Leaf": {"TOKEN"}, "Front": set()}, "; ".join)
