"""What a deployment is at, as a person sees it."""

from __future__ import annotations

from bento_cli.console import Step


class DeploymentProgress:
    """All services that are worked on, in one line; each that is done, in one of its own."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._at: dict[str, str] = {}

    def at(self, service: str, text: str) -> None:
        """The service is at this step now."""
        self._at[service] = text
        self._tell()

    def done(self, service: str, text: str) -> None:
        """The service is as it should be."""
        self._at.pop(service, None)
        self._step.done(f"{service}: {text}")
        self._tell()

    def _tell(self) -> None:
        self._step.at(", ".join(f"{service} {text}" for service, text in self._at.items()))
