"""Rollouts, played through to their end: what happens to the replicas of a service, step by step."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bento_cli.deploy.observed import Condition, Replica
from bento_cli.deploy.rollout import Start, Stop, Wait, next_step
from bento_cli.deploy.spec import Bounds, ServiceSpec, Strategy

SPEC = ServiceSpec(
    name="Leaf", host="leaf", image="graph/leaf:1", image_id="sha256:1", peers=(), environment={}
)
OLD = "old"


def with_strategy(strategy: Strategy) -> ServiceSpec:
    return replace(SPEC, strategy=strategy)


def replica(number: int, digest: str, condition: Condition = Condition.ready) -> Replica:
    return Replica(identifier=str(number), name=f"leaf-{number}", digest=digest, condition=condition)


class Service:
    """The replicas of a service, of which new ones become ready when they are waited for."""

    def __init__(self, old: int, spec: ServiceSpec) -> None:
        self.spec = spec
        self.replicas = [replica(number, OLD) for number in range(old)]
        self.told: list[str] = []
        self.most = self.fewest_ready = old

    def carry_out(self, wanted: int) -> None:
        while (step := next_step(self.spec, wanted, self.replicas)) is not None:
            match step:
                case Start(count):
                    self.told.append(f"start {count}")
                    made = range(len(self.told) * 100, len(self.told) * 100 + count)
                    self.replicas += [replica(n, self.spec.digest, Condition.starting) for n in made]
                case Wait(waiting):
                    self.told.append("wait")
                    self.replicas = [
                        replace(r, condition=Condition.ready) if r in waiting else r for r in self.replicas
                    ]
                case Stop(stopped):
                    self.told.append(f"stop {len(stopped)}")
                    self.replicas = [r for r in self.replicas if r not in stopped]
            self.most = max(self.most, len(self.replicas))
            self.fewest_ready = min(
                self.fewest_ready, sum(r.condition is Condition.ready for r in self.replicas)
            )

    @property
    def digests(self) -> list[str]:
        return [r.digest for r in self.replicas]


@pytest.mark.parametrize(
    ("strategy", "told", "most", "fewest_ready"),
    [
        (Strategy.rolling, "start 5, wait, stop 5", 10, 5),
        (Strategy.recreate, "stop 5, start 5, wait", 5, 0),
        (Strategy.ramped, ", ".join(["start 1, wait, stop 1"] * 5), 6, 5),
        (Strategy.controlled, ", ".join(["stop 1, start 1, wait"] * 5), 5, 4),
    ],
    ids=lambda value: value.value if isinstance(value, Strategy) else "",
)
def test_each_strategy_has_its_own_steps(strategy: Strategy, told: str, most: int, fewest_ready: int) -> None:
    service = Service(5, with_strategy(strategy))

    service.carry_out(5)

    assert ", ".join(service.told) == told
    assert (service.most, service.fewest_ready) == (most, fewest_ready)


@given(strategy=st.sampled_from(Strategy), old=st.integers(0, 12), wanted=st.integers(1, 12))
def test_every_rollout_ends_with_the_wanted_replicas_and_no_others(
    strategy: Strategy, old: int, wanted: int
) -> None:
    service = Service(old, with_strategy(strategy))

    service.carry_out(wanted)

    assert service.digests == [SPEC.digest] * wanted


@given(
    strategy=st.sampled_from(Strategy),
    new=st.lists(st.sampled_from(Condition), max_size=6),
    old=st.lists(st.sampled_from(Condition), max_size=6),
    wanted=st.integers(1, 6),
)
def test_whatever_an_interruption_left_is_taken_to_the_end(
    strategy: Strategy, new: list[Condition], old: list[Condition], wanted: int
) -> None:
    service = Service(0, with_strategy(strategy))
    service.replicas = [
        *(replica(number, OLD, condition) for number, condition in enumerate(old)),
        *(replica(50 + number, SPEC.digest, condition) for number, condition in enumerate(new)),
    ]

    service.carry_out(wanted)

    assert service.digests == [SPEC.digest] * wanted


@given(old=st.integers(1, 8), wanted=st.integers(1, 8))
def test_a_rolling_update_serves_with_no_fewer_than_before_or_after(old: int, wanted: int) -> None:
    service = Service(old, with_strategy(Strategy.rolling))

    service.carry_out(wanted)

    assert service.fewest_ready >= min(old, wanted)


def test_no_old_replica_is_stopped_while_a_new_one_is_not_ready() -> None:
    replicas = [replica(0, OLD), replica(1, SPEC.digest, Condition.starting)]

    assert next_step(SPEC, 1, replicas) == Wait((replicas[1],))


def test_a_number_of_replicas_is_reached_from_both_sides() -> None:
    three = [replica(number, SPEC.digest) for number in range(3)]

    assert next_step(SPEC, 5, three) == Start(2)
    assert next_step(SPEC, 1, three) == Stop((three[0], three[1]))
    assert next_step(SPEC, 3, three) is None


def test_replicas_that_serve_nobody_yet_are_the_first_to_go() -> None:
    ready, starting = replica(0, SPEC.digest), replica(1, SPEC.digest, Condition.starting)

    assert next_step(SPEC, 1, [ready, starting]) == Stop((starting,))


def test_bounds_and_strategy_are_no_reason_to_make_a_replica_anew() -> None:
    other = replace(SPEC, scaling=Bounds(least=2, most=9), strategy=Strategy.recreate)

    assert other.digest == SPEC.digest


@pytest.mark.parametrize(
    "changed",
    [
        replace(SPEC, image_id="sha256:2"),
        replace(SPEC, environment={"A": "b"}),
        replace(SPEC, labels={"a": "b"}),
    ],
    ids=["image", "variable", "label"],
)
def test_another_setting_is_another_digest(changed: ServiceSpec) -> None:
    assert changed.digest != SPEC.digest
