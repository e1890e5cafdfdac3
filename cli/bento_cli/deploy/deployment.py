"""One deployment by its name: what is planned for it, done to it, and known of it."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bento_cli.deploy.changes import Progress, Silent, carry_out
from bento_cli.deploy.compose import CERTIFICATE_VARIABLE, TOKEN_VARIABLE, ComposeTarget
from bento_cli.deploy.observed import Condition, Observed
from bento_cli.deploy.plan import Operation, plan, wanted_replicas
from bento_cli.deploy.revisions import History, Revision, deployed_names
from bento_cli.deploy.spec import DeploymentSpec
from bento_cli.engine import Engine
from bento_cli.errors import BentoError, EntryError, NotFoundError, NotHealthyError, nearest

Status = Literal["running", "deploying", "unhealthy", "failed", "terminated", "non-deployed"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is to be done to a deployment, and why.

    Args:
        replicas: how many of each service there are to be afterwards.
        is_new_revision: whether it becomes another one than that which runs.
        config: what the configuration file said.
    """

    spec: DeploymentSpec
    operations: tuple[Operation, ...]
    replicas: Mapping[str, int]
    cause: str
    is_new_revision: bool
    config: Mapping[str, Any] = field(default_factory=dict)


class Deployment:
    """A deployment on one engine, which may not be there yet.

    Args:
        home: where what was deployed is kept; `$BENTOML_HOME` when not given.
    """

    def __init__(self, name: str, engine: Engine, home: Path | None = None) -> None:
        self.name = name
        self.history = History(name, home)
        self._engine = engine

    def target(self, revision: int) -> ComposeTarget:
        """The place where it runs, with the files of a revision."""
        return ComposeTarget(self._engine, self.name, self.history.folder_of(revision))

    @property
    def certificate(self) -> str | None:
        """PEM with which its entry speaks TLS, None where it does not."""
        return self.history.variables().get(CERTIFICATE_VARIABLE)

    @property
    def token(self) -> str | None:
        """What its entry asks for, None where it asks for nothing."""
        return self.history.variables().get(TOKEN_VARIABLE)

    def keep(self, *, tokens: Mapping[str, str], certificate: str | None) -> None:
        """Keep what it needs and no rendered file is to hold.

        Args:
            tokens: of other deployments, by variables.
        """
        for variable, token in tokens.items():
            self.history.set_variable(variable, token)
        if certificate is not None:
            self.history.set_variable(CERTIFICATE_VARIABLE, certificate)

    def observe(self) -> Observed:
        """What there is of it on the engine."""
        return self.target(0).observe()

    def plan(
        self,
        spec: DeploymentSpec,
        *,
        cause: str,
        asked: Mapping[str, int] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Change:
        """What turns what is there into what should be.

        Args:
            asked: numbers of replicas, by service; within the bounds of each.
        """
        observed = self.observe()
        last = self.history.last()
        if last is not None and last.status in ("applying", "active"):
            # What runs may be in between; what was wanted is written down.
            asked = {**last.replicas, **(asked or {})}
        replicas = {service.name: wanted_replicas(service, observed, asked) for service in spec.services}
        operations = plan(spec, observed, replicas, entry_digest=self.target(0).entry_digest(spec.entry))
        return Change(
            spec=spec,
            operations=operations,
            replicas=replicas,
            cause=cause,
            is_new_revision=last is None or last.spec != spec or last.status not in ("applying", "active"),
            config=config or {},
        )

    def carry_out(self, change: Change, *, timeout_s: float, progress: Progress | None = None) -> Revision:
        """Do it. A revision that does not come to run is taken back, and what ran before runs on.

        Raises:
            NotHealthyError: a service did not become ready in time.
            EntryError: there can be no such entry.
            EngineError: the engine failed; the next attempt goes on where this one was.
        """
        progress = progress or Silent()
        before = self.history.active()
        revision = self._noted(change)
        target = self.target(revision.number)
        try:
            carry_out(change.operations, change.spec, target, progress, timeout_s=timeout_s)
        except (NotHealthyError, EntryError) as error:
            if revision.ran:
                # No other revision, but other numbers of replicas: as many as there were serve on.
                kept = before or revision.model_copy(update={"status": "active"})
                self.history.add(kept, target.files(kept.spec, kept.number, kept.replicas))
                if kept.replicas != revision.replicas:
                    self._take_back(kept, revision, progress, timeout_s)
                raise
            self.history.note(revision, status="failed", reason=error.message)
            self._take_back(before, revision, progress, timeout_s)
            number = f"revision {revision.number}"
            back = f"revision {before.number} serves on" if before else "nothing of it is left"
            message = f"{error.message}; {number} was taken back, {back}"
            raise type(error)(message, hint=error.hint, details=error.details) from error
        active = self.history.note(revision, status="active", ran=True)
        if before is not None and before.number != revision.number:
            self.history.note(before, status="replaced")
        return active

    def is_settled(self, change: Change) -> bool:
        """Whether nothing of a change is left to be done, or to be written down."""
        last = self.history.last()
        is_written = last is not None and last.status == "active"
        return is_written and not change.operations and not change.is_new_revision

    def begin(self, change: Change) -> Revision:
        """Only write down what is to be done: `plan_start` is how another process goes on with it."""
        return self._noted(change)

    def _noted(self, change: Change) -> Revision:
        last = self.history.last()
        number = 1 if last is None else last.number + change.is_new_revision
        # A revision that has other numbers of replicas, or is started again, came about as it did.
        same = last if last is not None and last.number == number else None
        revision = Revision(
            number=number,
            created=same.created if same else datetime.datetime.now(datetime.timezone.utc),
            cause=same.cause if same else change.cause,
            status="applying",
            spec=change.spec,
            replicas=dict(change.replicas),
            config=dict(change.config),
            ran=same is not None and same.ran,
        )
        if change.spec.entry.needs_token and self.token is None:
            self.history.set_variable(TOKEN_VARIABLE, secrets.token_urlsafe(32))
        files = self.target(number).files(change.spec, number, change.replicas)
        self.history.add(revision, files)
        return revision

    def _take_back(
        self, before: Revision | None, failed: Revision, progress: Progress, timeout_s: float
    ) -> None:
        """Have what ran before run alone; nothing where there was nothing."""
        if before is None:
            target = self.target(failed.number)
            own = {service.digest for service in failed.spec.services}
            replicas = [replica for found in target.observe().services.values() for replica in found]
            if all(replica.digest in own for replica in replicas):
                target.remove(with_data=False)
            else:  # somebody else has deployed under this name, from another machine
                target.stop([replica for replica in replicas if replica.digest in own])
            return
        target = self.target(before.number)
        digest = target.entry_digest(before.spec.entry)
        operations = plan(before.spec, target.observe(), before.replicas, entry_digest=digest)
        carry_out(operations, before.spec, target, progress, timeout_s=timeout_s)

    def revision(self, number: int | None = None) -> Revision:
        """A revision, the one that runs when no number is given.

        Raises:
            NotFoundError: there is none.
        """
        if number is not None:
            return self.history.get(number)
        revision = self.history.active() or self.history.last()
        if revision is None:
            known = deployed_names(self.history.home)
            raise NotFoundError(
                f"no deployment {self.name!r}{nearest(self.name, known, 'deployments')}",
                hint="`bento deployment list` shows those that there are",
            )
        return revision

    def intended(self) -> Revision:
        """What it is to be: what a change is about to bring, or did not come to, else what runs.

        Raises:
            NotFoundError: there is none.
        """
        last = self.history.last()
        return last if last is not None and last.status == "applying" else self.revision()

    def plan_scale(self, replicas: Mapping[str, int]) -> Change:
        """Other numbers of replicas.

        Raises:
            BentoError: a service is not there, or may not have so many.
        """
        revision = self.intended()
        spec = revision.spec
        for name, count in replicas.items():
            names = [service.name for service in spec.services]
            if name not in names:
                raise BentoError(f"no service {name!r}{nearest(name, names, 'services')}")
            bounds = spec.service(name).scaling
            if bounds.nearest(count) != count:
                raise BentoError(
                    f"{name} may have {bounds.least} to {bounds.most} replicas, asked for {count}",
                    hint=f"`services.{name}.scaling` of the configuration file says so",
                )
        said = ", ".join(f"{name}={count}" for name, count in replicas.items())
        return self.plan(spec, cause=f"scale {said}", asked=replicas, config=revision.config)

    def plan_start(self) -> Change:
        """What ran before it was terminated; or the rest of a change that was begun, and did not end.

        Raises:
            NotFoundError: there is none.
        """
        revision = self.intended()
        return self.plan(revision.spec, cause=revision.cause, asked=revision.replicas, config=revision.config)

    def plan_rollback(self, number: int | None = None) -> Change:
        """An earlier revision again, the one before that which runs when no number is given.

        Raises:
            NotFoundError: there is none.
        """
        now = self.revision()
        if number is None:
            earlier = [r for r in self.history.all() if r.status == "replaced" and r.number < now.number]
            if not earlier:
                raise NotFoundError(f"{self.name} has no revision before {now.number} that ran")
            number = earlier[-1].number
        revision = self.history.get(number)
        return self.plan(
            revision.spec,
            cause=f"rollback to revision {number}",
            asked=revision.replicas,
            config=revision.config,
        )

    def status(self, observed: Observed | None = None) -> Status:
        """How it is, in the words of this interface."""
        last = self.history.last()
        if last is None:
            return "non-deployed"
        if last.status == "applying":
            return "deploying"
        observed = observed or self.observe()
        if not observed.services and observed.entry is None:
            return "failed" if last.status == "failed" else "terminated"
        revision = self.history.active()
        if revision is None:
            return "failed"
        for service in revision.spec.services:
            ready = [r for r in observed.replicas(service.name) if r.condition is Condition.ready]
            if len(ready) < revision.replicas.get(service.name, service.scaling.least):
                return "unhealthy"
        return "running"

    def show_logs(self, service: str | None = None, *, follow: bool = False, tail: int | None = None) -> None:
        """Show what its replicas wrote, those of one service or all.

        Raises:
            NotFoundError: there is no such deployment, or no such service of it.
        """
        revision = self.revision()
        hosts = {named.name: named.host for named in revision.spec.services}
        if service is not None and service not in hosts:
            raise NotFoundError(
                f"{self.name} has no service {service!r}{nearest(service, hosts, 'services')}"
            )
        named = [] if service is None else [hosts[service]]
        self.target(revision.number).show_logs(named, follow=follow, tail=tail)

    def terminate(self) -> None:
        """Stop all of it; its data and its revisions stay, and `start` has it again."""
        last = self.history.last()
        self.target(self.revision().number).remove(with_data=False)
        if last is not None and last.status == "applying":
            self.history.note(last, status="failed", reason="it was terminated before all of it ran")

    def delete(self) -> None:
        """Remove it with its data and all that is known of it."""
        self.target(self.revision().number).remove(with_data=True)
        self.history.forget()
