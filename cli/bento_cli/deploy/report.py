"""What is known of a deployment, for people and for programs."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from bento_cli.deploy.deployment import Deployment, Status
from bento_cli.deploy.observed import Condition


@dataclass(frozen=True, kw_only=True)
class ServiceReport:
    """One service: how many of its replicas are ready, and how many there are to be."""

    name: str
    image: str
    ready: int
    wanted: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """A deployment as it is now.

    Args:
        cluster: where it is.
        revision: the number of the one that runs, or of the last where none does.
        created: when its first revision was, and `updated` its last.
        config: what was said of it when it was deployed.
        reason: why its last revision failed, if it did.
    """

    name: str
    cluster: str
    status: Status
    revision: int
    bento: str
    url: str
    created: datetime.datetime
    updated: datetime.datetime
    services: tuple[ServiceReport, ...]
    config: Mapping[str, Any]
    reason: str = ""

    @property
    def labels(self) -> dict[str, str]:
        """What it is labelled with."""
        return {label["key"]: label["value"] for label in self.config.get("labels", ())}

    @property
    def about_status(self) -> dict[str, str]:
        """Its status, and between which times it was deployed."""
        return {
            "status": self.status,
            "created_at": self.created.isoformat(timespec="seconds"),
            "updated_at": self.updated.isoformat(timespec="seconds"),
        }

    def as_data(self) -> dict[str, object]:
        """All of it, as programs read it."""
        return {
            "name": self.name,
            "cluster": self.cluster,
            "bento": self.bento,
            "revision": self.revision,
            "created_at": self.about_status["created_at"],
            "status": self.about_status,
            "endpoint_urls": [self.url],
            "services": {
                service.name: {"image": service.image, "ready": service.ready, "wanted": service.wanted}
                for service in self.services
            },
            "config": dict(self.config),
            **({"reason": self.reason} if self.reason else {}),
        }


def as_yaml(data: object) -> str:
    """What JSON can hold, as people read it best."""
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return text


def report_on(deployment: Deployment, cluster: str) -> Report:
    """How a deployment is.

    Raises:
        NotFoundError: there is none.
        EngineError: the engine does not say.
    """
    revision = deployment.revision()
    every = deployment.history.all()
    observed = deployment.observe()
    services = tuple(
        ServiceReport(
            name=service.name,
            image=service.image,
            ready=sum(
                replica.condition is Condition.ready and replica.digest == service.digest
                for replica in observed.replicas(service.name)
            ),
            wanted=revision.replicas.get(service.name, service.scaling.least),
        )
        for service in revision.spec.services
    )
    return Report(
        name=deployment.name,
        cluster=cluster,
        status=deployment.status(observed),
        revision=revision.number,
        bento=revision.spec.bento,
        url=revision.spec.entry.url,
        created=every[0].created,
        updated=every[-1].created,
        services=services,
        config=deployment.intended().config,
        reason=every[-1].reason if every[-1].status == "failed" else "",
    )
