"""Bringing a deployment to what it should be, step by step, and back where that does not work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

from bento_cli.deploy.observed import Condition, Replica
from bento_cli.deploy.plan import Operation
from bento_cli.deploy.rollout import Start, Stop, Wait, next_step
from bento_cli.deploy.spec import DeploymentSpec, ServiceSpec
from bento_cli.deploy.target import Target
from bento_cli.errors import NotHealthyError

_LOG_TAIL: Final = 25
_PAUSE_S: Final = 0.2

SETTLE_S: Final = 2.0
"""Between new replicas being ready and old ones draining: in it all who call find the new ones."""


class Progress(Protocol):
    """Hears of what is done."""

    def at(self, service: str, text: str, /) -> None:
        """The service is at this step now."""
        ...

    def done(self, service: str, text: str, /) -> None:
        """The service is as it should be."""
        ...


class Silent:
    """For whoever needs no progress."""

    def at(self, service: str, text: str, /) -> None:
        """Say nothing."""

    def done(self, service: str, text: str, /) -> None:
        """Say nothing."""


def carry_out(
    operations: Sequence[Operation],
    spec: DeploymentSpec,
    target: Target,
    progress: Progress,
    *,
    timeout_s: float,
) -> None:
    """Do what was planned; afterwards all services are ready.

    Raises:
        NotHealthyError: a new replica ends, is unhealthy or takes too long; shows its log's tail.
        EngineError: the place fails.
    """
    deadline = time.monotonic() + timeout_s
    about_services = [
        operation for operation in operations if operation.verb not in ("open", "reopen", "change")
    ]
    if len(about_services) < len(operations):
        progress.at("entry", "leads to the services")
        target.route(spec, target.observe())
    replicas = {op.what: op.replicas for op in about_services if op.verb != "remove"}
    services = [service for service in spec.services if service.name in replicas]
    for service in services:
        # Those that take nobody's place begin side by side.
        step = next_step(service, replicas[service.name], target.observe().replicas(service.name))
        if isinstance(step, Start) and not target.observe().replicas(service.name):
            progress.at(service.name, f"starting {step.count}")
            target.start(spec, service.name, step.count)
    for service in services:
        _roll_out(service, replicas[service.name], spec, target, progress, deadline)
    for operation in about_services:
        if operation.verb == "remove":
            progress.at(operation.what, "draining")
            target.stop(target.observe().replicas(operation.what))
            progress.done(operation.what, "removed")


def _roll_out(
    service: ServiceSpec,
    wanted: int,
    spec: DeploymentSpec,
    target: Target,
    progress: Progress,
    deadline: float,
) -> None:
    restarts: dict[str, int] = {}
    settled = False
    # Those that were so before are what is to be repaired, and no reason to give up.
    broken = {r.identifier for r in target.observe().replicas(service.name) if _is_broken(r)}
    while True:
        replicas = [
            replace(r, condition=Condition.ended) if r.identifier in broken and _is_broken(r) else r
            for r in target.observe().replicas(service.name)
        ]
        own = [replica for replica in replicas if replica.digest == service.digest]
        _require_health(service, own, restarts, target)
        step = next_step(service, wanted, replicas)
        if step is None:
            progress.done(service.name, f"{wanted} ready")
            return
        match step:
            case Start(count):
                settled = False
                progress.at(service.name, f"starting {count}")
                target.start(spec, service.name, len(replicas) + count)
            case Stop(ended):
                if own and not settled:
                    progress.at(service.name, "found by those who call it")
                    time.sleep(SETTLE_S)
                settled = True
                progress.at(service.name, f"draining {len(ended)}")
                target.stop(ended)
            case Wait(waiting):
                ready = sum(replica.condition is Condition.ready for replica in own)
                progress.at(service.name, f"{ready} of {wanted} ready")
                if time.monotonic() > deadline:
                    raise _not_healthy(service, waiting[0], "is not ready in time", target)
                time.sleep(_PAUSE_S)


def _is_broken(replica: Replica) -> bool:
    return replica.condition is Condition.unhealthy


def _require_health(
    service: ServiceSpec, replicas: Sequence[Replica], restarts: dict[str, int], target: Target
) -> None:
    for replica in replicas:
        before = restarts.setdefault(replica.identifier, replica.restarts)
        if replica.restarts > before:
            raise _not_healthy(service, replica, "ends again and again", target)
        if replica.condition is Condition.unhealthy:
            raise _not_healthy(service, replica, "is unhealthy", target)


def _not_healthy(service: ServiceSpec, replica: Replica, what: str, target: Target) -> NotHealthyError:
    tail = target.log_tail(replica, _LOG_TAIL)
    return NotHealthyError(f"{service.name} ({replica.name}) {what}", details=tail)
