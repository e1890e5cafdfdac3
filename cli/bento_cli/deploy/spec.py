"""What a deployment is to be, as data that knows no engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Final

from bentoml._environment import DEFAULT_PORT

ENTRY_PORT: Final = 3000

_ABOUT_NUMBERS: Final = ("scaling", "strategy")  # what changes without a container being made anew


class Strategy(str, Enum):
    """How the replicas of one revision take the place of those before."""

    rolling = "RollingUpdate"
    recreate = "Recreate"
    ramped = "RampedSlowRollout"
    controlled = "BestEffortControlledRollout"


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How many replicas there may be."""

    least: int = 1
    most: int = 1

    def nearest(self, count: int) -> int:
        """The number within them that is nearest to `count`."""
        return min(max(count, self.least), self.most)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one replica gets: CPUs, bytes, whole GPUs. Limits are never exceeded; the rest is set aside.

    Args:
        shared_memory: bytes of `/dev/shm`; the engine's own choice when not given.
    """

    cpus: float | None = None
    memory: int | None = None
    cpu_limit: float | None = None
    memory_limit: int | None = None
    gpus: int = 0
    shared_memory: int | None = None


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """One service of a deployment.

    Args:
        host: the name under which its peers find all of its replicas.
        image: what names it, and `image_id` the very image.
        peers: names of the services it calls.
        environment: variables with their values; `passed_on` those that the deployment's secrets hold.
        tokens: what stands for the values of some of those: another value is another replica.
        timeout_s: seconds that a request to it may take, in a queue too.
        queue: how many requests at once are inside of one replica, the others waiting before it; None
            where nobody waits.
        cache_folder: where models from a hub are kept; in `cache_bind` of the machine, else in a volume.
        tasks_folder: where all replicas keep the results of tasks.
        scheme: what the URLs of it begin with.
        depends_on_deployments: whether it calls deployments of other projects.
    """

    name: str
    host: str
    image: str
    image_id: str
    peers: tuple[str, ...]
    environment: Mapping[str, str]
    passed_on: tuple[str, ...] = ()
    tokens: Mapping[str, str] = field(default_factory=dict)
    scaling: Bounds = Bounds()
    strategy: Strategy = Strategy.rolling
    timeout_s: float = 60.0
    queue: int | None = None
    resources: Resources = Resources()
    cache_folder: str | None = None
    cache_bind: str | None = None
    tasks_folder: str | None = None
    scheme: str = "http"
    port: int = DEFAULT_PORT
    depends_on_deployments: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Stands for everything that a replica is made of."""
        fields = {key: value for key, value in asdict(self).items() if key not in _ABOUT_NUMBERS}
        text = json.dumps(fields, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class EntrySpec:
    """Where a deployment is reached from outside.

    Args:
        service: the name of the service that answers there.
        address: of the machine, on which it is published; `port` of it.
        needs_token: whether a request must bring the deployment's token.
        certificate: stands for the one with which it speaks TLS; empty where it does not.
    """

    service: str
    address: str = "127.0.0.1"
    port: int = ENTRY_PORT
    needs_token: bool = False
    certificate: str = ""

    @property
    def url(self) -> str:
        """Its address for clients on the same machine."""
        host = "127.0.0.1" if self.address in ("0.0.0.0", "127.0.0.1") else self.address  # noqa: S104  # as it is asked for
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class DeploymentSpec:
    """A graph as it is to run, under a name.

    Args:
        bento: its tag.
        services: dependencies first.
        ignored: what the configuration file says and nobody acts on.
    """

    name: str
    bento: str
    services: tuple[ServiceSpec, ...]
    entry: EntrySpec
    description: str = ""
    ignored: tuple[str, ...] = ()

    def service(self, name: str) -> ServiceSpec:
        """The service of that name.

        Raises:
            KeyError: there is none.
        """
        return {service.name: service for service in self.services}[name]
