"""`bento deploy`, and what of `bento deployment` does the same to a deployment that is there, or is not."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from bento_cli.commands._deployment_progress import DeploymentProgress
from bento_cli.commands._options import ArgFiles, Args, Quiet, given_arguments, key_value
from bento_cli.commands.containerize import TryImport, make_images
from bento_cli.console import Console
from bento_cli.containerize import ContainerizeOptions, ServiceImage, options_to_run
from bento_cli.deploy.clusters import Clusters
from bento_cli.deploy.config import DeploymentConfig, load_deployment_config
from bento_cli.deploy.deployment import Change, Deployment
from bento_cli.deploy.revisions import deployed_names
from bento_cli.deploy.spec import Strategy
from bento_cli.deploying import (
    Entry,
    Mode,
    Place,
    Said,
    find_wanted,
    leave_to_a_process,
    merged_config,
    place_at,
)
from bento_cli.engine import Engine
from bento_cli.errors import BentoError
from bento_cli.store.bento import Bento
from bento_cli.yaml_file import YamlFile, parse_yaml, read_text, validate


class Switch(str, Enum):
    """On or off, as it is written on a command line."""

    true = "true"
    false = "false"


def names_of_deployments(ctx: typer.Context, incomplete: str) -> Iterator[str]:
    """For completion: the deployments of the cluster that is named, or in use."""
    home = place_at(ctx.params.get("cluster")).home
    return (name for name in deployed_names(home) if name.startswith(incomplete))


def names_of_services(ctx: typer.Context, incomplete: str) -> Iterator[str]:
    """For completion: the services of the deployment that is named before."""
    place = place_at(ctx.params.get("cluster"))
    revision = place.deployment(ctx.params["name"]).revision()
    return (service.name for service in revision.spec.services if service.name.startswith(incomplete))


Project: TypeAlias = Annotated[
    str | None,
    typer.Argument(metavar="PROJECT|TAG", help="A project's folder, or a Bento; `.` by default."),
]
BentoOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--bento", metavar="PROJECT|TAG", help="What is to run; what runs now by default."),
]
UpdatedName: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME", help="The deployment; the file's by default.", autocompletion=names_of_deployments
    ),
]
ConfigFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--config-file", "-f", help="The deployment's configuration file; `-` reads it from stdin."),
]
ConfigDict: TypeAlias = Annotated[
    str | None, typer.Option("--config-dict", metavar="JSON", help="The same as JSON, over the file.")
]
Name: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--name",
        "-n",
        help="Name of the deployment, over the file's.",
        autocompletion=names_of_deployments,
    ),
]
ClusterOption: TypeAlias = Annotated[
    str | None, typer.Option("--cluster", help="Where it is; what `bento cluster use` says by default.")
]
Token: TypeAlias = Annotated[
    Switch | None,
    typer.Option(
        "--access-authorization",
        case_sensitive=False,
        help="Whether requests must bring the deployment's token.",
    ),
]
ScalingMin: TypeAlias = Annotated[
    int | None, typer.Option("--scaling-min", min=0, help="Fewest replicas of the entry's service.")
]
ScalingMax: TypeAlias = Annotated[
    int | None, typer.Option("--scaling-max", min=1, help="Most replicas of the entry's service.")
]
InstanceTypeOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--instance-type", help="Of the entry's service: see `bento deployment list-instance-types`."
    ),
]
StrategyOption: TypeAlias = Annotated[
    Strategy | None,
    typer.Option(
        "--strategy",
        help="How replicas of the entry's service take the place of those before.",
    ),
]
Envs: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--env", metavar="NAME[=VALUE]", help="For all services; this process's value where none stands here."
    ),
]
Labels: TypeAlias = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Of the deployment; may be repeated.")
]
Secrets: TypeAlias = Annotated[
    list[str] | None, typer.Option("--secret", metavar="NAME", help="Kept by a hosted cloud; not acted on.")
]
Host: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--host", help="The machine's address that the entry is published on; 127.0.0.1 by default."
    ),
]
Port: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--port",
        "-p",
        min=1,
        max=65535,
        help="Where the entry is published; 3000 by default.",
        show_default=False,
    ),
]
Certificate: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--certificate",
        help="PEM with a certificate and its key: the entry speaks TLS. Kept for later deploys.",
    ),
]
Cpu: TypeAlias = Annotated[
    bool, typer.Option("--cpu", help="Go on without GPUs, whatever the services ask for.")
]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")
]
Wait: TypeAlias = Annotated[
    bool,
    typer.Option("--wait/--no-wait", help="Wait until every service is ready, or leave that to a process."),
]
Timeout: TypeAlias = Annotated[
    float, typer.Option("--timeout", min=0, help="Seconds until all services must be ready.")
]


def deploying(mode: Mode, summary: str) -> Callable[..., None]:
    """A command that has a deployment be what is said.

    Args:
        summary: what its help says.
    """

    def command(
        bento: Project = None,
        config_file: ConfigFile = None,
        config_dict: ConfigDict = None,
        name: Name = None,
        cluster: ClusterOption = None,
        access_authorization: Token = None,
        scaling_min: ScalingMin = None,
        scaling_max: ScalingMax = None,
        instance_type: InstanceTypeOption = None,
        strategy: StrategyOption = None,
        env: Envs = None,
        label: Labels = None,
        secret: Secrets = None,
        arg: Args = None,
        arg_file: ArgFiles = None,
        host: Host = None,
        port: Port = None,
        certificate: Certificate = None,
        cpu: Cpu = False,
        try_import: TryImport = True,
        dry_run: DryRun = False,
        wait: Wait = True,
        timeout: Timeout = 3600,
        quiet: Quiet = False,
    ) -> None:
        config, file = said_config(config_file, config_dict)
        said = Said(
            name=name,
            bento=bento,
            arguments=given_arguments(arg, arg_file),
            config=config,
            file=file,
            over=as_config(access_authorization, env, label, secret),
            entry=Entry(
                scaling_min=scaling_min,
                scaling_max=scaling_max,
                instance_type=instance_type,
                strategy=strategy.value if strategy else None,
            ),
            address=host,
            port=port,
            certificate=None if certificate is None else read_text(certificate),
            use_gpu=not cpu,
            images=options_to_run(imports_services=try_import),
        )
        have(said, mode, cluster, quiet=quiet, dry_run=dry_run, wait=wait, timeout_s=timeout)

    if mode == "update":
        # It is about a deployment that is there: that is its argument, and what is to run is an option.
        command.__annotations__.update(name=UpdatedName, bento=BentoOption)
    command.__doc__ = summary
    return command


def said_config(path: Path | None, text: str | None) -> tuple[dict[str, object], YamlFile | None]:
    """What a configuration file and `--config-dict` say together, each checked with its places."""
    file = None
    if path == Path("-"):
        file = parse_yaml(sys.stdin.buffer.read(), Path("stdin"))
        validate(file, DeploymentConfig)
    elif path is not None:
        _, file = load_deployment_config(path)
    config = dict(_data(file)) if file is not None else {}
    if text is not None:
        over = parse_yaml(text, Path("--config-dict"))
        validate(over, DeploymentConfig)
        config = merged_config(config, _data(over))
    return config, file


def _data(file: YamlFile) -> dict[str, object]:
    assert isinstance(file.data, dict)  # noqa: S101  # what a file is read as
    return file.data


def as_config(
    needs_token: Switch | None,
    envs: Sequence[str] | None,
    labels: Sequence[str] | None,
    secrets: Sequence[str] | None,
) -> dict[str, object]:
    """What options say of all services, as a configuration file says it."""
    said: dict[str, object] = {}
    if needs_token is not None:
        said["access_authorization"] = needs_token is Switch.true
    if envs:
        said["envs"] = [dict(zip(("name", "value"), _variable(text), strict=True)) for text in envs]
    if labels:
        said["labels"] = [dict(zip(("key", "value"), key_value(text), strict=True)) for text in labels]
    if secrets:
        said["secrets"] = list(secrets)
    return said


def _variable(text: str) -> tuple[str, str]:
    if "=" in text:
        return key_value(text)
    if text not in os.environ:
        raise BentoError(f"`--env {text}`: it has no value here", hint=f"--env {text}=VALUE")
    return text, os.environ[text]


def have(
    said: Said, mode: Mode, cluster: str | None, *, quiet: bool, dry_run: bool, wait: bool, timeout_s: float
) -> None:
    """Have a deployment be what is said, or say what would be done."""
    console = Console(quiet=quiet)
    in_file = said.config.get("cluster")
    place = place_at(cluster or (in_file if isinstance(in_file, str) else None))

    def images(bento: Bento, builder: Engine, options: ContainerizeOptions) -> list[ServiceImage]:
        return make_images(bento, builder, console, options)

    wanted = find_wanted(said, place, mode, images, console)
    deployment = wanted.deployment
    if dry_run:
        show_change(wanted.plan(), console)
        return

    def plan() -> Change:
        wanted.keep()
        return wanted.plan()

    bring_about(plan, deployment, place, console, wait=wait, timeout_s=timeout_s)
    console.result(wanted.spec.entry.url)
    named = f"{deployment.name}{at(place)}"
    console.hint(f"bento deployment logs {named} --follow\n      bento deployment get {named}")


def bring_about(
    plan: Callable[[], Change],
    deployment: Deployment,
    place: Place,
    console: Console,
    *,
    wait: bool = True,
    timeout_s: float,
) -> None:
    """Say what is going to be done, and do it, or have a process of its own do it."""
    with deployment.history.locked():
        change = plan()
        show_change(change, console)
        if deployment.is_settled(change):
            return
        if wait:
            with console.step(f"deploy {deployment.name}") as step:
                deployment.carry_out(change, timeout_s=timeout_s, progress=DeploymentProgress(step))
            return
        deployment.begin(change)
    leave_to_a_process(deployment, place, timeout_s=timeout_s)
    console.info(f"goes on by itself; `bento deployment wait {deployment.name}{at(place)}` waits for it")


def at(place: Place) -> str:
    """What is to be typed for commands to mean this place."""
    return "" if place.name == Clusters().current else f" --cluster {place.name}"


def show_change(change: Change, console: Console) -> None:
    """What is going to be done."""
    for operation in change.operations:
        console.info(f"  {operation}")
    if not change.operations:
        console.info("nothing to do: it runs as it should")
