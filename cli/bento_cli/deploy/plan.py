"""What deploying will do: operations with their causes, from what should be and what is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bento_cli.deploy.entry import configuration, rules_digest
from bento_cli.deploy.observed import Condition, Observed
from bento_cli.deploy.rollout import next_step
from bento_cli.deploy.spec import DeploymentSpec, ServiceSpec

Verb = Literal["create", "replace", "scale", "repair", "remove", "open", "change", "reopen"]


@dataclass(frozen=True)
class Operation:
    """One thing that is done to one service or to the entry, and why.

    Args:
        replicas: how many there are to be afterwards.
    """

    verb: Verb
    what: str
    cause: str
    replicas: int = 0

    def __str__(self) -> str:
        return f"{self.verb} {self.what}: {self.cause}"


def wanted_replicas(service: ServiceSpec, observed: Observed, asked: Mapping[str, int] | None = None) -> int:
    """How many replicas a service is to have: those asked for, else those that run, within its bounds."""
    running = [r for r in observed.replicas(service.name) if r.condition is not Condition.ended]
    of_one = {r.digest for r in running}
    # While one revision takes the place of another, there may be more of them than there are to be.
    count = len(running) if len(of_one) == 1 else service.scaling.least
    return service.scaling.nearest((asked or {}).get(service.name, count))


def plan(
    spec: DeploymentSpec, observed: Observed, asked: Mapping[str, int] | None = None, *, entry_digest: str
) -> tuple[Operation, ...]:
    """What turns the one into the other; empty when nothing is to be done.

    Args:
        asked: numbers of replicas, by service.
        entry_digest: of the entry as it is to be made.
    """
    operations = [*_about_entry(spec, observed, entry_digest)]
    for service in spec.services:
        operation = _about_service(service, observed, wanted_replicas(service, observed, asked))
        if operation is not None:
            operations.append(operation)
    wanted = {service.name for service in spec.services}
    operations += [
        Operation("remove", name, "not part of the graph") for name in observed.services if name not in wanted
    ]
    return tuple(operations)


def _about_entry(spec: DeploymentSpec, observed: Observed, digest: str) -> list[Operation]:
    entry = observed.entry
    where = f"{spec.entry.url} leads to {spec.entry.service}"
    if entry is None:
        return [Operation("open", "the entry", where)]
    if entry.digest != digest:
        return [Operation("reopen", "the entry", f"its image or address differs; {where}")]
    if entry.rules != rules_digest(configuration(spec)):
        return [Operation("change", "the entry", "its rules differ")]
    if entry.condition is Condition.ended:
        return [Operation("open", "the entry", "it has ended")]
    return []


def _about_service(service: ServiceSpec, observed: Observed, wanted: int) -> Operation | None:
    replicas = observed.replicas(service.name)
    text = f"{wanted} replica{'s' if wanted > 1 else ''} of {service.image}"
    if next_step(service, wanted, replicas) is None:
        return None
    old = [replica for replica in replicas if replica.digest != service.digest]
    running = [replica for replica in replicas if replica.condition is not Condition.ended]
    if not replicas:
        return Operation("create", service.name, f"not there; {text}", wanted)
    if old:
        cause = f"image or settings differ; {text}, {service.strategy.value}"
        return Operation("replace", service.name, cause, wanted)
    if len(running) != wanted and len(running) == len(replicas):
        return Operation("scale", service.name, f"has {len(running)}, wanted {text}", wanted)
    not_ready = len(replicas) - sum(r.condition is Condition.ready for r in replicas)
    return Operation("repair", service.name, f"{not_ready} of {len(replicas)} not ready; {text}", wanted)
