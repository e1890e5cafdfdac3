"""Carrying out what was planned, at a target that is in memory, whose replicas do what the test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from bento_cli.deploy import changes
from bento_cli.deploy.changes import Silent, carry_out
from bento_cli.deploy.observed import Condition, EntryState, Observed, Replica
from bento_cli.deploy.plan import plan
from bento_cli.deploy.spec import Bounds, DeploymentSpec, EntrySpec, ServiceSpec
from bento_cli.errors import NotHealthyError


def service(name: str) -> ServiceSpec:
    return ServiceSpec(
        name=name,
        host=name.lower(),
        image=f"graph/{name.lower()}:1",
        image_id="sha256:1",
        peers=(),
        environment={},
        scaling=Bounds(least=2, most=4),
    )


LEAF, TOP = service("Leaf"), service("Top")
SPEC = DeploymentSpec(name="graph", bento="graph:1", services=(LEAF, TOP), entry=EntrySpec(service="Top"))


class Place:
    """A target whose replicas are ready the second time that somebody looks, or as `becomes` says."""

    def __init__(self, becomes: Mapping[str, Condition] | None = None) -> None:
        self.told: list[str] = []
        self._becomes = becomes or {}
        self._replicas: dict[str, list[Replica]] = {}
        self._entry: EntryState | None = None
        self._count = 0

    def files(self, spec: DeploymentSpec, revision: int, replicas: Mapping[str, int]) -> dict[str, str]:
        return {}

    def observe(self) -> Observed:
        seen = Observed(
            services={name: tuple(found) for name, found in self._replicas.items()}, entry=self._entry
        )
        for name, found in self._replicas.items():
            condition = self._becomes.get(name, Condition.ready)
            self._replicas[name] = [
                replace(r, condition=condition) if r.condition is Condition.starting else r for r in found
            ]
        return seen

    def route(self, spec: DeploymentSpec, observed: Observed) -> None:
        self.told.append("route")

    def start(self, spec: DeploymentSpec, service: str, total: int) -> None:
        found = self._replicas.setdefault(service, [])
        self.told.append(f"start {service} {total - len(found)}")
        while len(found) < total:
            self._count += 1
            name = f"{service}-{self._count}"
            digest = spec.service(service).digest
            found.append(Replica(identifier=name, name=name, digest=digest, condition=Condition.starting))

    def stop(self, replicas: Sequence[Replica]) -> None:
        self.told.append(f"stop {', '.join(replica.name for replica in replicas)}")
        gone = {replica.identifier for replica in replicas}
        for name, found in self._replicas.items():
            self._replicas[name] = [replica for replica in found if replica.identifier not in gone]

    def log_tail(self, replica: Replica, lines: int) -> str:
        return f"the log of {replica.name}"

    def remove(self, *, with_data: bool) -> None:
        self._replicas.clear()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "SETTLE_S", 0.0)
    monkeypatch.setattr(changes, "_PAUSE_S", 0.0)


def changed(place: Place, spec: DeploymentSpec, *, timeout_s: float = 60.0) -> None:
    operations = plan(spec, place.observe(), entry_digest="entry")
    carry_out(operations, spec, place, Silent(), timeout_s=timeout_s)


def test_at_first_all_services_begin_side_by_side_behind_the_entry() -> None:
    place = Place()

    changed(place, SPEC)

    assert place.told == ["route", "start Leaf 2", "start Top 2"]


def test_an_update_replaces_one_service_after_the_other_dependencies_first() -> None:
    place = Place()
    changed(place, SPEC)
    place.told.clear()

    changed(place, replace(SPEC, services=tuple(replace(s, image_id="sha256:2") for s in SPEC.services)))

    assert place.told == [
        "route",
        "start Leaf 2",
        "stop Leaf-1, Leaf-2",
        "start Top 2",
        "stop Top-3, Top-4",
    ]


def test_a_service_that_left_the_graph_goes_last() -> None:
    place = Place()
    changed(place, SPEC)
    place.told.clear()

    changed(place, replace(SPEC, services=(TOP,)))

    assert place.told == ["route", "stop Leaf-1, Leaf-2"]


def test_a_replica_that_is_unhealthy_stops_everything_before_an_old_one_is_touched() -> None:
    place = Place()
    changed(place, SPEC)
    place.told.clear()
    place._becomes = {"Leaf": Condition.unhealthy}

    with pytest.raises(NotHealthyError, match=r"Leaf \(Leaf-5\) is unhealthy") as caught:
        changed(place, replace(SPEC, services=(replace(LEAF, image_id="sha256:2"), TOP)))

    assert caught.value.details == "the log of Leaf-5"
    assert not any(what.startswith("stop") for what in place.told)


def test_a_replica_that_was_unhealthy_before_is_another_one_afterwards() -> None:
    place = Place()
    changed(place, SPEC)
    place.told.clear()
    place._replicas["Leaf"][0] = replace(place._replicas["Leaf"][0], condition=Condition.unhealthy)

    changed(place, SPEC)

    assert place.told[-2:] == ["stop Leaf-1", "start Leaf 1"]


def test_a_replica_that_is_never_ready_is_not_waited_for_longer_than_was_said() -> None:
    place = Place({"Leaf": Condition.starting})

    with pytest.raises(NotHealthyError, match=r"Leaf \(Leaf-1\) is not ready in time"):
        changed(place, SPEC, timeout_s=0.0)
