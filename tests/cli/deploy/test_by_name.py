"""Deployments that others depend on by their names, on one engine and between clusters."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from bento_cli.deploy.by_name import Found, find_deployments
from bento_cli.deploy.compose import DEPLOYMENT_LABEL, ENTRY_LABEL
from bento_cli.deploy.revisions import History, Revision
from bento_cli.deploy.spec import DeploymentSpec, EntrySpec
from bento_cli.engine import Container, Engine
from bento_cli.errors import BentoError
from bentoml._graph import Edge, ServiceGraph, ServiceNode


class Entries:
    """An engine on which the entries of some deployments run."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def containers(self, labels: Mapping[str, str | None]) -> list[Container]:
        return [
            Container(
                identifier=name,
                name=name,
                state="running",
                health=None,
                restarts=0,
                labels={DEPLOYMENT_LABEL: name, ENTRY_LABEL: "x"},
            )
            for name in self._names
        ]


def found(tmp_path: Path, *edges: Edge, running: tuple[str, ...] = (), given: tuple[str, ...] = ()) -> Found:
    """What a service is told that has these dependencies, deployed to the cluster `here`."""
    node = ServiceNode(name="Front", target="service:Front", dependencies=edges)
    graph = ServiceGraph(entry="Front", services={"Front": node})
    homes = {"here": tmp_path / "here", "there": tmp_path / "there"}
    return find_deployments(graph, cast(Engine, Entries(*running)), given, homes, cluster="here")


def deployed(home: Path, name: str, **entry: Any) -> None:
    """Keep that a deployment runs."""
    spec = DeploymentSpec(name=name, bento="a:1", services=(), entry=EntrySpec(service="A", **entry))
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    revision = Revision(number=1, created=now, cause="", status="active", spec=spec, replicas={})
    History(name, home).add(revision, {})


IRIS = Edge(attribute="iris", deployment="iris")
THERE = Edge(attribute="iris", deployment="iris", cluster="there")


@pytest.mark.parametrize("edge", [IRIS, Edge(attribute="iris", deployment="iris", cluster="here")])
def test_one_on_the_same_engine_is_reached_by_its_name_there(tmp_path: Path, edge: Edge) -> None:
    [address] = found(tmp_path, edge, running=("iris",)).addresses.values()

    assert address.startswith("http://iris.deployment.bento:")


def test_one_of_another_cluster_is_reached_where_it_is_published(tmp_path: Path) -> None:
    deployed(tmp_path / "there", "iris", address="10.0.0.7", port=8443, certificate="of the entry")
    History("iris", tmp_path / "there").set_variable("BENTO_ACCESS_TOKEN", "secret")

    told = found(tmp_path, THERE)

    assert told.addresses == {"BENTOML_DEPLOYMENT_IRIS__THERE": "https://10.0.0.7:8443"}
    assert list(told.tokens.values()) == ["secret"]


@pytest.mark.parametrize(
    ("edge", "reason"),
    [
        (IRIS, "the deployment iris, which is not on this engine; set BENTOML_DEPLOYMENT_IRIS"),
        (THERE, "the deployment iris in there, which does not run there; set BENTOML_DEPLOYMENT_IRIS__THERE"),
        (
            Edge(attribute="iris", deployment="iris", cluster="ther"),
            "and there is no such cluster, did you mean `there`?",
        ),
        (
            Edge(attribute="iris", deployment="near", cluster="there"),
            "which is published on 127.0.0.1: deploy it with the `--host` that others reach",
        ),
    ],
)
def test_one_that_cannot_be_reached_is_refused_with_the_reason(
    tmp_path: Path, edge: Edge, reason: str
) -> None:
    deployed(tmp_path / "there", "near")

    with pytest.raises(BentoError) as caught:
        found(tmp_path, edge, running=("other",))

    assert caught.value.message.startswith("Front.iris depends on the deployment ")
    assert reason in caught.value.message


def test_one_whose_address_is_given_need_not_be_there(tmp_path: Path) -> None:
    assert found(tmp_path, THERE, given=("BENTOML_DEPLOYMENT_IRIS__THERE",)) == Found()
