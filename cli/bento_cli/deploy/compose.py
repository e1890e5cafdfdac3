"""A deployment on one Docker Engine, run by Compose."""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bento_cli.compose import ComposeService, compose_files
from bento_cli.deploy.plan import DEPLOYMENT_LABEL, SERVICE_LABEL, Observed, observe
from bento_cli.engine import Container, Engine
from bento_cli.errors import NotHealthyError
from bentoml._environment import DEPLOYMENT_SECRET

# Compose removes what a project of the name had before: nobody else's is to be called so.
PROJECT_PREFIX = "bento-"

_LOG_TAIL = 25
_VARIABLES = ".env"  # which Compose reads for variables that it passes on, unless its shell has them


class ComposeTarget:
    """Where a deployment's services run as containers of one Compose project, `bento-<name>`.

    Args:
        folder: where the rendered files are kept; `docker compose up` there does the same.
    """

    def __init__(self, engine: Engine, name: str, folder: Path) -> None:
        self._engine = engine
        self._name = name
        self._folder = folder

    @property
    def project(self) -> str:
        """What Compose calls the deployment."""
        return PROJECT_PREFIX + self._name

    def observe(self) -> dict[str, Observed]:
        """What runs now, by service."""
        return observe(self._containers())

    def apply(self, bento: str, entry: str, services: Sequence[ComposeService]) -> None:
        """Write the files and let Compose bring the project to what they say."""
        files = compose_files(bento, self.project, entry, services)
        if any(service.shares_secret for service in services):
            files[_VARIABLES] = f"{DEPLOYMENT_SECRET}={self._secret()}\n"
        self._write(files)
        self._engine.compose(self._folder, "up", "--detach", "--no-build", "--remove-orphans", "--quiet-pull")

    def wait(
        self, services: Sequence[ComposeService], timeout_s: float, on_ready: Callable[[str], None]
    ) -> None:
        """Return when every replica is healthy; `on_ready` gets each service's name when it is.

        Raises:
            NotHealthyError: a container ends, is unhealthy or takes too long; shows its log's tail.
        """
        deadline = time.monotonic() + timeout_s
        waiting = [service.name for service in services]
        restarts: dict[str, int] = {}
        while waiting:
            containers = self._containers()
            for container in containers:
                before = restarts.setdefault(container.identifier, container.restarts)
                if container.restarts > before:
                    raise self._not_healthy(container, "ends again and again")
                if container.state in ("exited", "dead") or container.health == "unhealthy":
                    raise self._not_healthy(container, f"is {_state(container)}")
            for name in list(waiting):
                own = [c for c in containers if c.labels[SERVICE_LABEL] == name]
                if own and all(c.health == "healthy" for c in own):
                    waiting.remove(name)
                    on_ready(name)
            if waiting and time.monotonic() > deadline:
                late = next((c for c in containers if c.labels[SERVICE_LABEL] in waiting), None)
                if late is None:
                    raise NotHealthyError(f"{', '.join(waiting)}: no container after {timeout_s:g} s")
                raise self._not_healthy(late, f"is {_state(late)} after {timeout_s:g} s")
            time.sleep(0.2)

    def _secret(self) -> str:
        """What the services know and nobody else; the same for as long as the deployment is there."""
        try:
            text = (self._folder / _VARIABLES).read_text(encoding="ascii")
        except FileNotFoundError:
            return secrets.token_hex(32)
        kept = re.fullmatch(rf"{DEPLOYMENT_SECRET}=([0-9a-f]{{64}})\n", text)
        return kept[1] if kept else secrets.token_hex(32)

    def _containers(self) -> list[Container]:
        return self._engine.containers({DEPLOYMENT_LABEL: self._name})

    def _not_healthy(self, container: Container, what: str) -> NotHealthyError:
        tail = self._engine.log_tail(container, _LOG_TAIL)
        hint = (
            f"`docker logs {container.name}` shows all of its log; "
            f"`docker compose --project-name {self.project} down` removes what was started"
        )
        return NotHealthyError(
            f"{container.labels[SERVICE_LABEL]} ({container.name}) {what}", details=tail, hint=hint
        )

    def _write(self, files: dict[str, str]) -> None:
        """All files at once: a folder that is complete takes the place of the old one."""
        # Readable for this user alone: the values of variables stand in these files.
        fresh = Path(tempfile.mkdtemp(prefix=f".{self._folder.name}-", dir=self._folder.parent))
        for path, text in files.items():
            (fresh / path).parent.mkdir(parents=True, exist_ok=True)
            (fresh / path).write_text(text, encoding="utf-8")
        shutil.rmtree(self._folder, ignore_errors=True)
        fresh.rename(self._folder)


def _state(container: Container) -> str:
    return container.state if container.state != "running" else str(container.health)
