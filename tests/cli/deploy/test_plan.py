"""What deploying would do, from what should be and what is."""

from __future__ import annotations

from dataclasses import replace

from bento_cli.deploy.entry import configuration, rules_digest
from bento_cli.deploy.observed import Condition, EntryState, Observed, Replica
from bento_cli.deploy.plan import plan, wanted_replicas
from bento_cli.deploy.spec import Bounds, DeploymentSpec, EntrySpec, ServiceSpec

LEAF = ServiceSpec(
    name="Leaf",
    host="leaf",
    image="graph/leaf:1",
    image_id="sha256:1",
    peers=(),
    environment={},
    scaling=Bounds(least=2, most=4),
)
SPEC = DeploymentSpec(name="graph", bento="graph:1", services=(LEAF,), entry=EntrySpec(service="Leaf"))
ENTRY = EntryState(digest="entry", rules=rules_digest(configuration(SPEC)), condition=Condition.ready)


def replicas(
    count: int, digest: str = LEAF.digest, condition: Condition = Condition.ready
) -> tuple[Replica, ...]:
    return tuple(
        Replica(identifier=f"{digest}{n}", name=f"leaf-{n}", digest=digest, condition=condition)
        for n in range(count)
    )


def observed(
    found: tuple[Replica, ...], entry: EntryState | None = ENTRY, **others: tuple[Replica, ...]
) -> Observed:
    return Observed(services={**({"Leaf": found} if found else {}), **others}, entry=entry)


def planned(what: Observed, spec: DeploymentSpec = SPEC, **asked: int) -> list[str]:
    return [str(operation) for operation in plan(spec, what, asked, entry_digest="entry")]


def test_where_nothing_is_there_all_of_it_is_made() -> None:
    assert planned(Observed()) == [
        "open the entry: http://127.0.0.1:3000 leads to Leaf",
        "create Leaf: not there; 2 replicas of graph/leaf:1",
    ]


def test_nothing_is_done_where_everything_runs_as_it_should() -> None:
    assert planned(observed(replicas(2))) == []


def test_a_service_with_other_settings_is_replaced() -> None:
    assert planned(observed(replicas(2, "old"))) == [
        "replace Leaf: image or settings differ; 2 replicas of graph/leaf:1, RollingUpdate"
    ]


def test_an_update_that_was_interrupted_goes_on() -> None:
    [operation] = planned(observed((*replicas(2), *replicas(2, "old"))))

    assert operation.startswith("replace Leaf")


def test_another_number_of_replicas_is_told_with_that_which_there_is() -> None:
    assert planned(observed(replicas(2)), Leaf=4) == ["scale Leaf: has 2, wanted 4 replicas of graph/leaf:1"]


def test_a_service_that_stopped_is_repaired() -> None:
    found = (*replicas(1), *replicas(1, condition=Condition.ended))

    assert planned(observed(found)) == ["repair Leaf: 1 of 2 not ready; 2 replicas of graph/leaf:1"]


def test_a_service_that_left_the_graph_is_removed() -> None:
    what = observed(replicas(2), Gone=replicas(1, "gone"))

    assert planned(what) == ["remove Gone: not part of the graph"]


def test_an_entry_with_other_rules_takes_them_while_it_runs() -> None:
    queued = replace(SPEC, services=(replace(LEAF, queue=5),))
    operations = planned(observed(replicas(2, queued.services[0].digest)), queued)

    assert operations == ["change the entry: its rules differ"]


def test_an_entry_on_another_port_is_made_anew() -> None:
    [operation] = planned(observed(replicas(2), replace(ENTRY, digest="another")))

    assert operation.startswith("reopen the entry")


def test_numbers_of_replicas_stay_as_they_are_within_their_bounds() -> None:
    assert wanted_replicas(LEAF, observed(replicas(3))) == 3
    assert wanted_replicas(LEAF, observed(replicas(9))) == 4
    assert wanted_replicas(LEAF, Observed()) == 2
    assert wanted_replicas(LEAF, observed(replicas(2)), {"Leaf": 3}) == 3
