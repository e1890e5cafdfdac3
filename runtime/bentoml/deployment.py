"""Deployments, from Python: what `bento deployment` does.

    deployment = bentoml.deployment.create("staging", bento=".", scaling_max=3)
    deployment.wait_until_ready()
    with deployment.get_client() as client:
        client.generate(...)

What is said by arguments stands over `config_dict`, and that over `config_file`. All of it is the toolchain's
work, which an image does not hold.
"""

from __future__ import annotations

import builtins
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from bentoml._service import Service
from bentoml._toolchain import log, service_place, toolchain
from bentoml.exceptions import BentoMLException

if TYPE_CHECKING:
    from bento_cli.containerize import ContainerizeOptions, ServiceImage
    from bento_cli.deploy.deployment import Change
    from bento_cli.deploy.deployment import Deployment as _Deployed
    from bento_cli.deploy.report import Report
    from bento_cli.deploying import Mode, Place
    from bento_cli.engine import Engine
    from bento_cli.store.bento import Bento
    from bentoml._client.http import AsyncHTTPClient, SyncHTTPClient

    Servable: TypeAlias = str | os.PathLike[str] | Bento | Service[Any] | type[Any]

__all__ = [
    "Deployment",
    "DeploymentState",
    "apply",
    "create",
    "delete",
    "get",
    "list",
    "start",
    "terminate",
    "update",
]

_TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class DeploymentState:
    """How a deployment is: `running`, `deploying`, `unhealthy`, `failed`, `terminated` or `non-deployed`."""

    status: str
    created_at: str
    updated_at: str

    def to_dict(self) -> dict[str, str]:
        """The same as a mapping."""
        return asdict(self)


class Deployment:
    """A deployment, as it was when it was last asked for.

    Attributes:
        name: of the deployment.
        cluster: where it is.
        admin_console: empty: there is none but `bento deployment`.
        created_at: when its first revision was.
        created_by: the user of this machine who keeps it.
        is_dev: always False.
    """

    admin_console = ""
    is_dev = False

    def __init__(self, deployed: _Deployed, place: Place) -> None:
        self._deployed = deployed
        self._place = place
        self._report = self._ask()
        self.name = deployed.name
        self.cluster = place.name
        self.created_at = self._report.about_status["created_at"]
        self.created_by = _owner(deployed.history.folder)

    def get_config(self, refetch: bool = True) -> dict[str, Any]:
        """What was said of it, as a configuration file says it."""
        return dict(self._known(refetch).config)

    def get_status(self, refetch: bool = True) -> DeploymentState:
        """How it is."""
        return DeploymentState(**self._known(refetch).about_status)

    def get_endpoint_urls(self, refetch: bool = True) -> builtins.list[str]:
        """Where its entry answers."""
        return [self._known(refetch).url]

    def get_bento(self, refetch: bool = True) -> str:
        """The tag of what runs."""
        return self._known(refetch).bento

    def to_dict(self) -> dict[str, Any]:
        """All that is known of it."""
        console = {"admin_console": self.admin_console, "created_by": self.created_by}
        return {**self._known(True).as_data(), **console}

    def to_yaml(self) -> str:
        """The same as YAML."""
        with toolchain("deployment"):
            from bento_cli.deploy.report import as_yaml

            return as_yaml(self.to_dict())

    def get_client(self, token: str | None = None) -> SyncHTTPClient:
        """A client of its entry.

        Args:
            token: what requests bring; the deployment's own when not given.

        Raises:
            BentoMLException: it does not run.
        """
        from bentoml._client.http import SyncHTTPClient

        url = self._url_to_call()
        return SyncHTTPClient(url, token=token or self._deployed.token)

    def get_async_client(self, token: str | None = None) -> AsyncHTTPClient:
        """The same, to be awaited."""
        from bentoml._client.http import AsyncHTTPClient

        url = self._url_to_call()
        return AsyncHTTPClient(url, token=token or self._deployed.token)

    def wait_until_ready(
        self, spinner: object = None, timeout: float = _TIMEOUT_S, check_interval: float = 10
    ) -> int:
        """Wait until all of its replicas are ready: 0 when they are, 1 when they do not come to be in time.

        Args:
            spinner: has no effect.
            timeout: seconds to wait.
            check_interval: seconds between looking.
        """
        deadline = time.monotonic() + timeout
        while True:
            status = self.get_status().status
            if status == "running":
                return 0
            left_s = deadline - time.monotonic()
            if status in ("failed", "terminated") or left_s <= 0:
                return 1
            time.sleep(min(check_interval, left_s))

    def watch(self, *_: object, **__: object) -> NoReturn:
        """Only a hosted cloud has this."""
        _only_hosted("watch", "`bento serve` runs a project here")

    def upload_files(self, *_: object, **__: object) -> NoReturn:
        """Only a hosted cloud has this."""
        _only_hosted("upload_files", "`bentoml.deployment.update` runs what a project is now")

    def delete_files(self, *_: object, **__: object) -> NoReturn:
        """Only a hosted cloud has this."""
        _only_hosted("delete_files", "`bentoml.deployment.update` runs what a project is now")

    def list_files(self) -> NoReturn:
        """Only a hosted cloud has this."""
        _only_hosted("list_files", "`bento get TAG -o path` is the folder of a Bento")

    def __repr__(self) -> str:
        return f"<Deployment {self.name} of {self._report.bento}>"

    def _known(self, refetch: bool) -> Report:
        if refetch:
            self._report = self._ask()
        return self._report

    def _ask(self) -> Report:
        with toolchain("deployment"):
            from bento_cli.deploy.report import report_on

            return report_on(self._deployed, self._place.name)

    def _url_to_call(self) -> str:
        report = self._known(True)
        if report.status not in ("running", "deploying", "unhealthy"):
            raise BentoMLException(f"{self.name} is {report.status}, and nobody answers")
        return report.url


def create(
    name: str | None = None,
    path_context: str | os.PathLike[str] | None = None,
    *,
    bento: Servable | None = None,
    cluster: str | None = None,
    access_authorization: bool | None = None,
    scaling_min: int | None = None,
    scaling_max: int | None = None,
    instance_type: str | None = None,
    strategy: str | None = None,
    envs: Sequence[Mapping[str, str]] | None = None,
    labels: Sequence[Mapping[str, str]] | None = None,
    secrets: Sequence[str] | None = None,
    extras: Mapping[str, Any] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    config_file: str | os.PathLike[str] | None = None,
    args: Mapping[str, Any] | None = None,
    port: int | None = None,
    use_gpu: bool = True,
) -> Deployment:
    """Deploy under a name that is not taken. Does not wait: `wait_until_ready` does.

    Args:
        path_context: the folder that `bento` is relative to.
        bento: a project's folder, `module:Class`, a service, a Bento or its tag; the current folder when
            nothing says it.
        scaling_min, scaling_max, instance_type, strategy, extras: of the entry's service.
        config_dict: as a configuration file says it.
        args: what `bentoml.use_arguments` returns.
        port: on which the entry is published.
        use_gpu: False goes on without GPUs, whatever the services ask for.

    Raises:
        BentoMLException: the name is taken, or something that is said is wrong.
        MissingDependencyException: the toolchain is not installed.
    """
    said = _Said(
        name,
        path_context,
        bento,
        args,
        config_dict,
        config_file,
        over=_over(access_authorization, envs, labels, secrets),
        entry={
            "scaling_min": scaling_min,
            "scaling_max": scaling_max,
            "instance_type": instance_type,
            "strategy": strategy,
            "extras": extras,
        },
        port=port,
        use_gpu=use_gpu,
    )
    return said.deployed("create", cluster)


def update(
    name: str | None = None,
    path_context: str | os.PathLike[str] | None = None,
    cluster: str | None = None,
    *,
    bento: Servable | None = None,
    access_authorization: bool | None = None,
    scaling_min: int | None = None,
    scaling_max: int | None = None,
    instance_type: str | None = None,
    strategy: str | None = None,
    envs: Sequence[Mapping[str, str]] | None = None,
    labels: Sequence[Mapping[str, str]] | None = None,
    secrets: Sequence[str] | None = None,
    extras: Mapping[str, Any] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    config_file: str | os.PathLike[str] | None = None,
    args: Mapping[str, Any] | None = None,
    port: int | None = None,
    use_gpu: bool = True,
) -> Deployment:
    """Change what is said of a deployment; all else stays as it was said before. Does not wait.

    Raises:
        NotFound: there is no such deployment.
        BentoMLException: something that is said is wrong.
        MissingDependencyException: the toolchain is not installed.
    """
    said = _Said(
        name,
        path_context,
        bento,
        args,
        config_dict,
        config_file,
        over=_over(access_authorization, envs, labels, secrets),
        entry={
            "scaling_min": scaling_min,
            "scaling_max": scaling_max,
            "instance_type": instance_type,
            "strategy": strategy,
            "extras": extras,
        },
        port=port,
        use_gpu=use_gpu,
    )
    return said.deployed("update", cluster)


def apply(
    name: str | None = None,
    cluster: str | None = None,
    path_context: str | os.PathLike[str] | None = None,
    *,
    bento: Servable | None = None,
    config_dict: Mapping[str, Any] | None = None,
    config_file: str | os.PathLike[str] | None = None,
    args: Mapping[str, Any] | None = None,
    port: int | None = None,
    use_gpu: bool = True,
) -> Deployment:
    """Have a deployment be what is said now, whatever was said before; create it where there is none.

    Raises:
        BentoMLException: something that is said is wrong.
        MissingDependencyException: the toolchain is not installed.
    """
    said = _Said(name, path_context, bento, args, config_dict, config_file, port=port, use_gpu=use_gpu)
    return said.deployed("apply", cluster)


def get(name: str, cluster: str | None = None) -> Deployment:
    """A deployment.

    Raises:
        NotFound: there is none.
        MissingDependencyException: the toolchain is not installed.
    """
    with toolchain("deployment.get"):
        place = _place_at(cluster)
        return Deployment(place.deployment(name), place)


def list(  # noqa: A001  # the name that users know
    cluster: str | None = None,
    search: str | None = None,
    dev: bool = False,
    q: str | None = None,
    labels: Sequence[Mapping[str, str]] | None = None,
) -> builtins.list[Deployment]:
    """The deployments of a cluster.

    Args:
        search: what their names hold; so does `q`.
        dev: True has none: only a hosted cloud has such.
        labels: that they have.

    Raises:
        MissingDependencyException: the toolchain is not installed.
    """
    with toolchain("deployment.list"):
        from bento_cli.deploy.revisions import deployed_names

        place = _place_at(cluster)
        names = [name for name in deployed_names(place.home) if (search or "") in name and (q or "") in name]
        found = [] if dev else [Deployment(place.deployment(name), place) for name in names]
        wanted = {label["key"]: label["value"] for label in labels or ()}
        return [it for it in found if wanted.items() <= it._report.labels.items()]


def start(name: str, cluster: str | None = None) -> Deployment:
    """Start what was terminated. Does not wait.

    Raises:
        NotFound: there is no such deployment.
        BentoMLException: it is not terminated.
        MissingDependencyException: the toolchain is not installed.
    """
    with toolchain("deployment.start"):
        place = _place_at(cluster)
        deployed = place.deployment(name)
        deployed.revision()
        if deployed.status() not in ("terminated", "failed"):
            raise BentoMLException(
                f"{name} is {deployed.status()}, and only what is terminated can be started"
            )
        with deployed.history.locked():
            _begin(deployed, deployed.plan_start())
        return _gone_on_with(deployed, place)


def terminate(name: str, cluster: str | None = None, wait: bool = False) -> Deployment:
    """Stop all of a deployment; its data and revisions stay, and `start` has it again.

    Args:
        wait: has no effect: it has stopped when this returns.

    Raises:
        NotFound: there is no such deployment.
        MissingDependencyException: the toolchain is not installed.
    """
    with toolchain("deployment.terminate"):
        place = _place_at(cluster)
        deployed = place.deployment(name)
        deployed.revision()
        with deployed.history.locked():
            deployed.terminate()
        return Deployment(deployed, place)


def delete(name: str, cluster: str | None = None) -> None:
    """Remove a deployment: what runs, its data and all of its revisions.

    Raises:
        NotFound: there is no such deployment.
        MissingDependencyException: the toolchain is not installed.
    """
    with toolchain("deployment.delete"):
        deployed = _place_at(cluster).deployment(name)
        deployed.revision()
        with deployed.history.locked():
            deployed.delete()


@dataclass(frozen=True)
class _Said:
    """What the arguments of `create`, `update` and `apply` say."""

    name: str | None
    path_context: str | os.PathLike[str] | None
    bento: Servable | None
    args: Mapping[str, Any] | None
    config_dict: Mapping[str, Any] | None
    config_file: str | os.PathLike[str] | None
    over: Mapping[str, object] = field(default_factory=dict)
    entry: Mapping[str, Any] = field(default_factory=dict)
    port: int | None = None
    use_gpu: bool = True

    def deployed(self, mode: Mode, cluster: str | None) -> Deployment:
        """Have a deployment be so: what it needs is made before this returns, and the rest goes on."""
        with toolchain(f"deployment.{mode}"):
            from bento_cli.arguments import as_arguments
            from bento_cli.containerize import options_to_run
            from bento_cli.deploy.config import load_deployment_config
            from bento_cli.deploying import Entry, Said, find_wanted, merged_config
            from bento_cli.store.bento import Bento

            file = None
            config: Mapping[str, object] = self.config_dict or {}
            if self.config_file is not None:
                _, file = load_deployment_config(Path(self.config_file))
                assert isinstance(file.data, dict)  # noqa: S101  # what a file is read as
                config = merged_config(file.data, config)
            folder, bento = Path(self.path_context or "."), self.bento
            if isinstance(bento, Service | type):
                folder, bento = service_place(bento)
            elif bento is not None and not isinstance(bento, Bento):
                bento = os.fspath(bento)
            elif bento is None and self.path_context is not None:
                bento = "."
            said = Said(
                name=self.name,
                bento=bento,
                folder=folder,
                arguments=as_arguments(self.args or {}),
                config=config,
                file=file,
                over=self.over,
                entry=Entry(**self.entry),
                port=self.port,
                use_gpu=self.use_gpu,
                images=options_to_run(),
            )
            named = config.get("cluster")
            place = _place_at(cluster or (named if isinstance(named, str) else None))
            wanted = find_wanted(said, place, mode, _made_images, _Log())
            deployed = wanted.deployment
            with deployed.history.locked():
                wanted.keep()
                _begin(deployed, wanted.plan())
            return _gone_on_with(deployed, place)


class _Log:
    """Hears of what happens, for whoever reads the log `bentoml`."""

    def info(self, text: str, /) -> None:
        log.info("%s", text)

    def warn(self, text: str, /) -> None:
        log.warning("%s", text)

    def step(self, image: str, text: str, /) -> None:
        log.debug("%s: %s", image, text)

    def step_done(self, image: str, text: str, seconds: float, /) -> None:
        log.debug("%s: %s (%.1f s)", image, text, seconds)

    def output(self, image: str, line: str, /) -> None:
        log.debug("%s | %s", image, line)

    def done(self, image: str, seconds: float, /) -> None:
        log.info("%s is built (%.1f s)", image, seconds)


def _made_images(bento: Bento, builder: Engine, options: ContainerizeOptions) -> builtins.list[ServiceImage]:
    from bento_cli.containerize import containerize

    return containerize(bento, builder, _Log(), options)


def _place_at(cluster: str | None) -> Place:
    from bento_cli.deploying import place_at

    return place_at(cluster)


def _begin(deployed: _Deployed, change: Change) -> None:
    if not deployed.is_settled(change):
        deployed.begin(change)


def _gone_on_with(deployed: _Deployed, place: Place) -> Deployment:
    """The deployment, on whose change a process of its own works if there is one."""
    from bento_cli.deploying import leave_to_a_process

    last = deployed.history.last()
    if last is not None and last.status == "applying":
        leave_to_a_process(deployed, place, timeout_s=_TIMEOUT_S)
    return Deployment(deployed, place)


def _over(
    needs_token: bool | None,
    envs: Sequence[Mapping[str, str]] | None,
    labels: Sequence[Mapping[str, str]] | None,
    secrets: Sequence[str] | None,
) -> dict[str, object]:
    """What arguments say of all services, as a configuration file says it."""
    said = {
        "access_authorization": needs_token,
        "envs": None if envs is None else [dict(env) for env in envs],
        "labels": None if labels is None else [dict(label) for label in labels],
        "secrets": None if secrets is None else [*secrets],
    }
    return {key: value for key, value in said.items() if value is not None}


def _owner(folder: Path) -> str:
    try:
        return folder.owner()
    except KeyError:  # a user that this machine has no name for
        return str(folder.stat().st_uid)


def _only_hosted(what: str, instead: str) -> NoReturn:
    raise BentoMLException(f"`Deployment.{what}` is a part of a hosted cloud; here, {instead}")
