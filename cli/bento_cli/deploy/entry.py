"""The proxy that a deployment is entered by, and that requests wait in: HAProxy, and what it goes by."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

from bento_cli.deploy.spec import DeploymentSpec, ServiceSpec
from bento_templates import render

ENTRY_HOST: Final = "entry"
FOLDER: Final = "/usr/local/etc/haproxy"
CONFIGURATION: Final = f"{FOLDER}/haproxy.cfg"
TAKEN: Final = f"{FOLDER}/taken"
"""A file with what stands for the rules that it was told to go by."""

COMMAND: Final = ("haproxy", "-W", "-db", "-f", CONFIGURATION)

# Of the container: for the public, and for other deployments on the engine.
PORT: Final = 3000
INTERNAL_PORT: Final = 3001

_DOORS: Final = range(10000, 30000)
_FEWEST_SLOTS: Final = 10


@dataclass(frozen=True, kw_only=True)
class Door:
    """Where one service is reached through the proxy.

    Args:
        address: where its replicas are found.
        port: of the proxy, `target_port` of a replica.
        slots: how many replicas it can tell apart, those of an update's two revisions.
    """

    service: str
    host: str
    address: str
    port: int
    target_port: int
    slots: int
    timeout_ms: int
    queue: int | None
    is_encrypted: bool


def entry_address(spec: DeploymentSpec) -> str:
    """The name of the entry on the deployment's network, which no other deployment's has."""
    return f"{ENTRY_HOST}.{spec.name}.bento"


def service_address(spec: DeploymentSpec, service: ServiceSpec) -> str:
    """The name of all replicas of a service; its host alone may be that of others, where deployments meet."""
    return f"{service.host}.{spec.name}.bento"


def doors(spec: DeploymentSpec) -> list[Door]:
    """One for the service of the entry, and for each before which requests wait."""
    services = [s for s in spec.services if s.queue is not None or s.name == spec.entry.service]
    taken: set[int] = set()
    found = []
    for service in services:
        # By its name alone, so that callers of an earlier revision are not led to another service.
        port = _DOORS[zlib.crc32(service.name.encode()) % len(_DOORS)]
        while port in taken:
            port += 1
        taken.add(port)
        found.append(_door(spec, service, port))
    return found


def _door(spec: DeploymentSpec, service: ServiceSpec, port: int) -> Door:
    return Door(
        service=service.name,
        host=service.host,
        address=service_address(spec, service),
        port=port,
        target_port=service.port,
        slots=max(_FEWEST_SLOTS, 2 * service.scaling.most + 2),
        timeout_ms=round(service.timeout_s * 1000),
        queue=service.queue,
        is_encrypted=service.scheme == "https",
    )


def configuration(spec: DeploymentSpec) -> str:
    """What HAProxy goes by."""
    entry = spec.entry
    return render(
        "deployment/haproxy.cfg.j2",
        deployment=spec.name,
        folder=FOLDER,
        entry={
            "port": PORT,
            "internal_port": INTERNAL_PORT,
            "backend": spec.service(entry.service).host,
            "certificate": f"{FOLDER}/certificate.pem" if entry.certificate else None,
            "token": f"{FOLDER}/token" if entry.needs_token else None,
        },
        doors=doors(spec),
    )


def hold_script() -> str:
    """The action that lets requests wait for a server."""
    return resources.files("bento_templates").joinpath("deployment/hold.lua").read_text(encoding="utf-8")


def rules_digest(text: str) -> str:
    """Stands for a configuration."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
