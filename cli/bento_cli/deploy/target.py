"""What every place where deployments run can do. Planning is no part of it, and the same for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from bento_cli.deploy.observed import Observed, Replica
from bento_cli.deploy.spec import DeploymentSpec


class Target(Protocol):
    """One deployment at one place. Every method raises EngineError when the place fails."""

    def files(self, spec: DeploymentSpec, revision: int, replicas: Mapping[str, int]) -> dict[str, str]:
        """The files of a revision by their paths, with which people can run it without this toolchain."""
        ...

    def observe(self) -> Observed:
        """What there is of it now."""
        ...

    def route(self, spec: DeploymentSpec, observed: Observed) -> None:
        """Have requests go where the spec says: its entry is there afterwards, with its rules."""
        ...

    def start(self, spec: DeploymentSpec, service: str, total: int) -> None:
        """Make new replicas until there are `total`, the old ones included; those are left alone."""
        ...

    def stop(self, replicas: Sequence[Replica]) -> None:
        """Have replicas finish what they run, all at once, and remove them."""
        ...

    def log_tail(self, replica: Replica, lines: int) -> str:
        """The last lines that a replica wrote."""
        ...

    def remove(self, *, with_data: bool) -> None:
        """Take away all of it; `with_data` the results of tasks and downloaded models too."""
        ...
