from __future__ import annotations

from dataclasses import replace

from bento_cli.compose import ComposeService
from bento_cli.deploy.plan import SPEC_LABEL, Observed, observe, plan
from bento_cli.engine import Container

LEAF = ComposeService(
    name="Leaf",
    container="leaf",
    image="graph/leaf:1",
    peers=(),
    environment={},
    cache_folder=None,
    replicas=2,
    labels={SPEC_LABEL: "new"},
)
RUNNING = Observed(specs=frozenset({"new"}), replicas=2)


def planned(observed: dict[str, Observed]) -> list[str]:
    return [str(operation) for operation in plan([LEAF], observed)]


def test_a_service_that_is_not_there_is_created() -> None:
    assert planned({}) == ["create Leaf: not there; 2 replicas of graph/leaf:1"]


def test_nothing_is_done_where_everything_runs_as_it_should() -> None:
    assert planned({"Leaf": RUNNING}) == []


def test_a_service_with_other_settings_is_replaced() -> None:
    assert planned({"Leaf": replace(RUNNING, specs=frozenset({"old"}))}) == [
        "replace Leaf: image or settings differ; 2 replicas of graph/leaf:1"
    ]


def test_a_service_half_of_whose_replicas_are_old_is_replaced() -> None:
    assert planned({"Leaf": replace(RUNNING, specs=frozenset({"old", "new"}))})[0].startswith("replace Leaf")


def test_a_service_with_too_few_replicas_is_scaled() -> None:
    assert planned({"Leaf": replace(RUNNING, replicas=1)}) == ["scale Leaf: has 1, wanted 2 replicas"]


def test_a_service_that_stopped_is_started() -> None:
    assert planned({"Leaf": replace(RUNNING, is_running=False)}) == ["create Leaf: not running"]


def test_a_service_that_left_the_graph_is_removed() -> None:
    assert planned({"Leaf": RUNNING, "Gone": RUNNING}) == ["remove Gone: not part of the graph"]


def test_containers_are_observed_by_service() -> None:
    containers = [
        Container(
            identifier=str(number),
            name=f"leaf-{number}",
            state=state,
            health=None,
            restarts=0,
            labels={"org.bentoml.service": "Leaf", SPEC_LABEL: "new"},
        )
        for number, state in enumerate(["running", "exited"])
    ]

    assert observe(containers) == {"Leaf": replace(RUNNING, is_running=False)}
