"""What to do next so that a service has the replicas that it should have: decided anew after each step.

Nothing is remembered between two steps, so that whoever is interrupted goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from bento_cli.deploy.observed import Condition, Replica
from bento_cli.deploy.spec import ServiceSpec, Strategy


@dataclass(frozen=True)
class Start:
    """Make so many new replicas."""

    count: int


@dataclass(frozen=True)
class Stop:
    """Have these replicas finish what they run, and remove them."""

    replicas: tuple[Replica, ...]


@dataclass(frozen=True)
class Wait:
    """Until these replicas are ready."""

    replicas: tuple[Replica, ...]


Step: TypeAlias = Start | Stop | Wait


def next_step(spec: ServiceSpec, wanted: int, replicas: Sequence[Replica]) -> Step | None:
    """What comes next; None when there are `wanted` ready replicas of this very spec and no others."""
    ended = _those(replicas, lambda r: r.condition is Condition.ended)
    if ended:
        return Stop(ended)  # nobody is served by them, and they hold what new ones may need
    new = _those(replicas, lambda r: r.digest == spec.digest)
    old = _those(replicas, lambda r: r.digest != spec.digest)
    waiting = _those(new, lambda r: r.condition is not Condition.ready)
    if not old:
        return _without_old(wanted, new, waiting)
    match spec.strategy:
        case Strategy.recreate:
            return Stop(old)
        case Strategy.ramped:
            return _one_by_one(wanted, new, old, waiting)
        case Strategy.controlled:
            return _in_parts(wanted, new, old, waiting)
        case Strategy.rolling:
            return _side_by_side(wanted, new, old, waiting)


def _without_old(wanted: int, new: tuple[Replica, ...], waiting: tuple[Replica, ...]) -> Step | None:
    if len(new) < wanted:
        return Start(wanted - len(new))
    if len(new) > wanted:
        # Those that serve nobody yet go first.
        return Stop((*waiting, *(r for r in new if r not in waiting))[: len(new) - wanted])
    return Wait(waiting) if waiting else None


def _side_by_side(
    wanted: int, new: tuple[Replica, ...], old: tuple[Replica, ...], waiting: tuple[Replica, ...]
) -> Step:
    """All new ones beside all old ones."""
    if len(new) < wanted:
        return Start(wanted - len(new))
    return Wait(waiting) if waiting else Stop(old)


def _one_by_one(
    wanted: int, new: tuple[Replica, ...], old: tuple[Replica, ...], waiting: tuple[Replica, ...]
) -> Step:
    """A new one, then one old one less."""
    if waiting:
        return Wait(waiting)
    if len(new) + len(old) > wanted:
        return Stop(old[:1])
    return Start(1)


def _in_parts(
    wanted: int, new: tuple[Replica, ...], old: tuple[Replica, ...], waiting: tuple[Replica, ...]
) -> Step:
    """A fifth at a time, and never more than there are to be."""
    if waiting:
        return Wait(waiting)
    free = wanted - len(new) - len(old)
    part = math.ceil(wanted / 5)
    if free > 0:
        return Start(min(free, part))
    return Stop(old[: max(part, -free)])


def _those(replicas: Sequence[Replica], condition: Callable[[Replica], bool]) -> tuple[Replica, ...]:
    return tuple(replica for replica in replicas if condition(replica))
