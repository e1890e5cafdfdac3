"""A deployment on one Docker Engine: a project of Compose, entered through HAProxy."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from bento_cli.deploy.entry import (
    COMMAND,
    CONFIGURATION,
    ENTRY_HOST,
    FOLDER,
    INTERNAL_PORT,
    PORT,
    TAKEN,
    configuration,
    entry_address,
    hold_script,
    rules_digest,
    service_address,
)
from bento_cli.deploy.observed import Condition, EntryState, Observed, Replica
from bento_cli.deploy.spec import DeploymentSpec, EntrySpec, ServiceSpec
from bento_cli.engine import Container, Engine
from bento_cli.errors import EngineError, EntryError
from bento_cli.image import LABEL_PREFIX
from bento_templates import render

# Compose removes what a project of the name had before: nobody else's is to be called so.
PROJECT_PREFIX: Final = "bento-"
FILE_NAME: Final = "compose.yaml"
VARIABLES: Final = ".env"
HAPROXY: Final = "haproxy:3.0"

# On which the entries of all deployments of an engine are, and services that depend on another deployment.
SHARED_NETWORK: Final = "bento-deployments"

TOKEN_VARIABLE: Final = "BENTO_ACCESS_TOKEN"  # noqa: S105  # the name of a variable
CERTIFICATE_VARIABLE: Final = "BENTO_CERTIFICATE"

DEPLOYMENT_LABEL: Final = f"{LABEL_PREFIX}deployment"
SERVICE_LABEL: Final = f"{LABEL_PREFIX}service"
DIGEST_LABEL: Final = f"{LABEL_PREFIX}spec"
ENTRY_LABEL: Final = f"{LABEL_PREFIX}entry"

# So long a replica takes requests after SIGTERM: until HAProxy and all peers have seen that it drains, on a
# machine that has much to do as well.
LAME_DUCK_S: Final = 3

_ENTRY_S: Final = 20
_GRACE_S: Final = 5
_TAIL_OF_NAME: Final = ".deployment.bento"


def deployment_host(name: str) -> str:
    """The name under which a deployment's entry is found by others on its engine."""
    return f"{name}{_TAIL_OF_NAME}"


def internal_url(name: str) -> str:
    """Where others on its engine reach a deployment, wherever it is published."""
    return f"http://{deployment_host(name)}:{INTERNAL_PORT}"


class ComposeTarget:
    """One deployment on an engine, the Compose project `bento-<name>`.

    Args:
        folder: of the revision whose files are used.
        haproxy: the image of the entry.
    """

    def __init__(self, engine: Engine, name: str, folder: Path, *, haproxy: str = HAPROXY) -> None:
        self._engine = engine
        self._name = name
        self._folder = folder
        self._haproxy = haproxy

    @property
    def project(self) -> str:
        """What Compose calls the deployment."""
        return PROJECT_PREFIX + self._name

    def entry_digest(self, entry: EntrySpec) -> str:
        """Stands for all that makes the entry another container."""
        # Which service it leads to is a matter of its rules.
        made = sorted(asdict(replace(entry, service="")).items())
        text = repr(made) + self._haproxy + hold_script()
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def files(self, spec: DeploymentSpec, revision: int, replicas: Mapping[str, int]) -> dict[str, str]:
        """The Compose file; what it takes from the environment is in a `.env` that is not among these."""
        return {
            FILE_NAME: render(
                "deployment/compose.yaml.j2",
                deployment=spec.name,
                revision=revision,
                bento=spec.bento,
                project=self.project,
                shared_network=SHARED_NETWORK,
                entry=self._entry(spec),
                services=[self._service(spec, service, replicas) for service in spec.services],
                volumes=sorted({name for service in spec.services for name, _ in _volumes(service)}),
            )
        }

    def _entry(self, spec: DeploymentSpec) -> dict[str, object]:
        entry = spec.entry
        configs = [
            {"name": "rules", "path": CONFIGURATION, "content": configuration(spec)},
            {"name": "taken", "path": TAKEN, "content": rules_digest(configuration(spec))},
            {"name": "hold", "path": f"{FOLDER}/hold.lua", "content": hold_script()},
        ]
        if entry.needs_token:
            configs.append({"name": "token", "path": f"{FOLDER}/token", "variable": TOKEN_VARIABLE})
        if entry.certificate:
            path = f"{FOLDER}/certificate.pem"
            configs.append({"name": "certificate", "path": path, "variable": CERTIFICATE_VARIABLE})
        return {
            "host": ENTRY_HOST,
            "image": self._haproxy,
            "command": list(COMMAND),
            "published": f"{entry.address}:{entry.port}:{PORT}",
            "alias": entry_address(spec),
            "aliases": [deployment_host(spec.name)],
            "configs": configs,
            "labels": {DEPLOYMENT_LABEL: spec.name, ENTRY_LABEL: self.entry_digest(entry)},
        }

    def _service(
        self, spec: DeploymentSpec, service: ServiceSpec, replicas: Mapping[str, int]
    ) -> dict[str, object]:
        resources = service.resources
        volumes = [f"{name}:{path}" for name, path in _volumes(service)]
        if service.cache_folder and service.cache_bind:
            volumes.append(f"{service.cache_bind}:{service.cache_folder}")
        return {
            **asdict(service),
            "command": [f"--lame-duck={LAME_DUCK_S}", f"--grace={_grace_s(service)}"],
            "grace_s": _grace_s(service) + _GRACE_S,
            # What travels by a registry is named by its digest there; the rest is on the engine or nowhere.
            "pull_policy": "missing" if "@" in service.image_id else "never",
            "shared_memory": resources.shared_memory,
            "gpus": resources.gpus,
            "limits": _amounts(resources.cpu_limit, resources.memory_limit),
            "reservations": _amounts(resources.cpus, resources.memory),
            "volumes": volumes,
            "replicas": replicas.get(service.name, service.scaling.least),
            "alias": service_address(spec, service),
            "is_on_shared_network": service.depends_on_deployments,
            "labels": {
                **service.labels,
                DEPLOYMENT_LABEL: spec.name,
                SERVICE_LABEL: service.name,
                DIGEST_LABEL: service.digest,
            },
        }

    def observe(self) -> Observed:
        """What there is of it now, by the labels of its containers."""
        services: dict[str, list[Replica]] = {}
        entry: EntryState | None = None
        for container in self._engine.containers({DEPLOYMENT_LABEL: self._name}):
            name = container.labels.get(SERVICE_LABEL)
            if name is not None:
                services.setdefault(name, []).append(_replica(container))
            elif ENTRY_LABEL in container.labels:
                entry = EntryState(
                    digest=container.labels[ENTRY_LABEL],
                    rules=self._rules(container),
                    condition=Condition.ready if container.state == "running" else Condition.ended,
                )
        return Observed(
            services={name: tuple(sorted(found, key=lambda r: r.name)) for name, found in services.items()},
            entry=entry,
        )

    def _rules(self, container: Container) -> str:
        held = self._engine.read_file(container.identifier, TAKEN)
        return "" if held is None else held.decode(errors="replace").strip()

    def route(self, spec: DeploymentSpec, observed: Observed) -> None:
        """Have the entry lead where the spec says; one that is there takes other rules without a pause.

        Raises:
            EntryError: its port is in use, or HAProxy cannot go by its rules; says why.
        """
        self._engine.ensure_network(SHARED_NETWORK)
        entry, restarts = observed.entry, 0
        is_there = entry is not None and entry.digest == self.entry_digest(spec.entry)
        if entry is None or not is_there or entry.condition is Condition.ended:
            up = ("up", "--detach", "--no-build", "--no-deps", "--quiet-pull", "--force-recreate")
            try:
                self._compose(*up, ENTRY_HOST)
            except EngineError as error:
                raise EntryError(error.message, hint=error.hint, details=error.details) from error
        else:
            rules, there = configuration(spec), self._entry_container()
            container, restarts = there.identifier, there.restarts
            self._engine.write_file(container, CONFIGURATION, rules.encode())
            self._engine.signal(container, "SIGUSR2")
            # Only now: whoever is cut off before has the next one tell it again.
            self._engine.write_file(container, TAKEN, rules_digest(rules).encode())
        self._require_entry(restarts)

    def _entry_container(self) -> Container:
        found = self._engine.containers({DEPLOYMENT_LABEL: self._name})
        return next(container for container in found if ENTRY_LABEL in container.labels)

    def _require_entry(self, restarts: int) -> None:
        """Refuse to go on with an entry that does not run; `restarts` it had before, and no more since."""
        deadline = time.monotonic() + _ENTRY_S
        while True:
            container = self._entry_container()
            if container.restarts > restarts or container.state not in ("running", "created"):
                tail = self._engine.log_tail(container.identifier, 25)
                raise EntryError(f"the entry ({container.name}) does not run", details=tail)
            if container.health == "healthy":
                return
            if time.monotonic() > deadline:
                raise EntryError(f"the entry ({container.name}) did not begin within {_ENTRY_S} s")
            time.sleep(0.05)

    def start(self, spec: DeploymentSpec, service: str, total: int) -> None:
        """Make new replicas until there are `total`, beside the old ones."""
        host = spec.service(service).host
        self._compose(
            *("up", "--detach", "--no-build", "--no-deps", "--no-recreate", "--quiet-pull"),
            *("--scale", f"{host}={total}", host),
        )

    def stop(self, replicas: Sequence[Replica]) -> None:
        """Have replicas finish what they run, all at once, and remove them."""
        self._engine.remove_containers([replica.identifier for replica in replicas])

    def log_tail(self, replica: Replica, lines: int) -> str:
        """The last lines that a replica wrote."""
        return self._engine.log_tail(replica.identifier, lines)

    def show_logs(self, hosts: Sequence[str], *, follow: bool, tail: int | None) -> None:
        """Show what replicas of services wrote, of all of them and of the entry where none is named."""
        last = [] if tail is None else ["--tail", str(tail)]
        self._engine.show(
            self._folder,
            *("--project-name", self.project, "logs", *last, *(["--follow"] if follow else []), *hosts),
        )

    def remove(self, *, with_data: bool) -> None:
        """Take away all of it: replicas, entry and network, and the volumes where nothing is to be kept."""
        self._compose("down", "--remove-orphans", *(["--volumes"] if with_data else []))

    def _compose(self, *arguments: str) -> None:
        self._engine.compose(self._folder, "--project-name", self.project, *arguments)


def _replica(container: Container) -> Replica:
    return Replica(
        identifier=container.identifier,
        name=container.name,
        digest=container.labels.get(DIGEST_LABEL, ""),
        condition=_condition(container),
        restarts=container.restarts,
    )


def _condition(container: Container) -> Condition:
    if container.state in ("created", "exited", "dead", "removing"):
        return Condition.ended
    match container.health:
        case "healthy":
            return Condition.ready
        case "unhealthy":
            return Condition.unhealthy
        case None:
            return Condition.ready
    return Condition.starting


def _grace_s(service: ServiceSpec) -> int:
    """Seconds that a replica has to finish what it runs."""
    return math.ceil(service.timeout_s) + LAME_DUCK_S + _GRACE_S


def _volumes(service: ServiceSpec) -> list[tuple[str, str]]:
    """Volumes of the deployment by name, and where they are in a replica."""
    volumes = []
    if service.cache_folder and not service.cache_bind:
        volumes.append(("huggingface", service.cache_folder))
    if service.tasks_folder:
        volumes.append((f"{service.host}-tasks", service.tasks_folder))
    return volumes


def _amounts(cpus: float | None, memory: int | None) -> dict[str, str]:
    amounts = {
        "cpus": None if cpus is None else f"{cpus:g}",
        "memory": None if memory is None else f"{memory}b",
    }
    return {name: amount for name, amount in amounts.items() if amount is not None}
