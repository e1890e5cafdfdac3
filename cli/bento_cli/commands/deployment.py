"""`bento deployment`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Final, TypeAlias

import typer

from bento_cli.commands._deploying import (
    ClusterOption,
    DryRun,
    Timeout,
    bring_about,
    deploying,
    names_of_deployments,
    names_of_services,
    show_change,
)
from bento_cli.commands._options import Quiet, key_value
from bento_cli.commands._output import Output, OutputOption, Table, show
from bento_cli.console import Console
from bento_cli.deploy.deployment import Change, Deployment
from bento_cli.deploy.difference import difference
from bento_cli.deploy.instance_types import instance_types
from bento_cli.deploy.report import Report, report_on
from bento_cli.deploy.revisions import deployed_names
from bento_cli.deploying import Place, place_at
from bento_cli.errors import BentoError, NotFoundError, NotHealthyError

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PAUSE_S: Final = 0.5


NameArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="NAME", help="The deployment.", autocompletion=names_of_deployments)
]


@app.callback()
def deployment() -> None:
    """Show and change deployments, and go back to what one was before."""


app.command("create")(
    deploying(
        "create",
        """Deploy under a name that is not taken.

    \b
    Examples:
      bento deployment create . -f config-file.yaml
      bento deployment create control_net:latest --name staging --port 8080
    """,
    )
)

app.command("apply")(
    deploying(
        "apply",
        """Have a deployment be what is said now, whatever was said before; it is created where there is none.

    \b
    Examples:
      bento deployment apply . -f config-file.yaml
      bento deployment apply control_net:latest --name staging --scaling-max 3
    """,
    )
)


app.command("update")(
    deploying(
        "update",
        """Change what is said of a deployment; all else stays as it was said before.

    Variables and labels stay too, each by its name.

    \b
    Examples:
      bento deployment update staging --bento control_net:latest
      bento deployment update staging --env LOG_LEVEL=debug --scaling-max 3
      bento deployment update staging -f config-file.yaml --dry-run
    """,
    )
)


@app.command("list")
def list_(
    cluster: ClusterOption = None,
    search: Annotated[str | None, typer.Option("--search", help="Only names that hold this.")] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Only those labelled so.")
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """List the deployments of a cluster, and how they are.

    \b
    Examples:
      bento deployment list
      bento deployment list --label team=vision -o json
    """
    place = place_at(cluster)
    labels = dict(map(key_value, label or ()))
    names = [name for name in deployed_names(place.home) if (search or "") in name]
    reports = [report_on(place.deployment(name), place.name) for name in names]
    reports = [report for report in reports if labels.items() <= report.labels.items()]

    def table() -> Table:
        columns = ["name", "status", "revision", "bento", "url", "replicas", "updated"]
        return columns, [_row(report) for report in reports]

    show(Console(), output, [report.as_data() for report in reports], table)


def _row(report: Report) -> list[str]:
    ready = sum(service.ready for service in report.services)
    wanted = sum(service.wanted for service in report.services)
    return [
        report.name,
        report.status,
        str(report.revision),
        report.bento,
        report.url,
        f"{ready}/{wanted}",
        f"{report.updated.astimezone():%Y-%m-%d %H:%M}",
    ]


@app.command("get")
def get(name: NameArgument, cluster: ClusterOption = None, output: OutputOption = Output.table) -> None:
    """Show a deployment: how it is, and what was said of it.

    \b
    Examples:
      bento deployment get staging
      bento deployment get staging -o yaml
    """
    console = Console()
    place = place_at(cluster)
    report = report_on(place.deployment(name), place.name)

    def table() -> Table:
        return ["service", "image", "replicas"], [
            [service.name, service.image, f"{service.ready}/{service.wanted}"] for service in report.services
        ]

    if output is Output.table:
        about = f"{report.name}: {report.status}, revision {report.revision} of {report.bento}"
        console.result(f"{about}, at {report.url}")
        if report.reason:
            console.result(f"the last change failed: {report.reason}")
    show(console, output, report.as_data(), table)


@app.command("history")
def history(name: NameArgument, cluster: ClusterOption = None, output: OutputOption = Output.table) -> None:
    """List what a deployment was, the newest last.

    \b
    Examples:
      bento deployment history staging
    """
    deployment = _existing(place_at(cluster), name)
    revisions = deployment.history.all()
    data = [
        {
            "revision": revision.number,
            "created_at": revision.created.isoformat(timespec="seconds"),
            "cause": revision.cause,
            "status": revision.status,
            "bento": revision.spec.bento,
            "files": str(deployment.history.folder_of(revision.number)),
            **({"reason": revision.reason} if revision.reason else {}),
        }
        for revision in revisions
    ]

    def table() -> Table:
        return ["revision", "created", "cause", "status", "bento"], [
            [
                str(revision.number),
                f"{revision.created.astimezone():%Y-%m-%d %H:%M:%S}",
                revision.cause,
                revision.status + (f": {revision.reason}" if revision.reason else ""),
                revision.spec.bento,
            ]
            for revision in revisions
        ]

    show(Console(), output, data, table)


@app.command("diff")
def diff(
    name: NameArgument,
    before: Annotated[
        int | None, typer.Argument(metavar="A", help="A revision; the one before B by default.")
    ] = None,
    after: Annotated[
        int | None, typer.Argument(metavar="B", help="Another one; the one that runs by default.")
    ] = None,
    cluster: ClusterOption = None,
    show_secrets: Annotated[
        bool, typer.Option("--show-secrets", help="Show values of variables that are named like secrets.")
    ] = False,
) -> None:
    """Show in what the files of two revisions differ.

    \b
    Examples:
      bento deployment diff staging
      bento deployment diff staging 2 5
    """
    deployment = _existing(place_at(cluster), name)
    new = deployment.revision(after)
    if before is None:
        earlier = [revision.number for revision in deployment.history.all() if revision.number < new.number]
        if not earlier:
            raise NotFoundError(f"{name} has no revision before {new.number}")
        before = earlier[-1]
    text = difference(deployment.history, deployment.revision(before), new, shows_secrets=show_secrets)
    if text:
        Console().result(text)


@app.command("scale")
def scale(
    name: NameArgument,
    replicas: Annotated[
        list[str],
        typer.Argument(
            metavar="SERVICE=N...",
            help="How many replicas of it there are to be.",
            autocompletion=names_of_services,
        ),
    ],
    cluster: ClusterOption = None,
    dry_run: DryRun = False,
    timeout: Timeout = 3600,
    quiet: Quiet = False,
) -> None:
    """Have other numbers of replicas, within what the configuration allows.

    \b
    Examples:
      bento deployment scale staging ControlNet=2
    """
    counts = dict(map(_count, replicas))
    _change(name, cluster, lambda it: it.plan_scale(counts), dry_run=dry_run, timeout_s=timeout, quiet=quiet)


def _count(text: str) -> tuple[str, int]:
    service, _, number = text.partition("=")
    if not service or not (number.isascii() and number.isdigit()):
        raise BentoError(
            f"{text!r}: expected a service and a number of replicas, such as `{service or 'Front'}=2`"
        )
    return service, int(number)


@app.command("rollback")
def rollback(
    name: NameArgument,
    revision: Annotated[
        int | None,
        typer.Argument(metavar="REVISION", help="The one before that which runs by default."),
    ] = None,
    cluster: ClusterOption = None,
    dry_run: DryRun = False,
    timeout: Timeout = 3600,
    quiet: Quiet = False,
) -> None:
    """Have a deployment be what it was in an earlier revision; no request is dropped.

    \b
    Examples:
      bento deployment rollback staging
      bento deployment rollback staging 3 --dry-run
    """
    _change(
        name, cluster, lambda it: it.plan_rollback(revision), dry_run=dry_run, timeout_s=timeout, quiet=quiet
    )


@app.command("start")
def start(
    name: NameArgument,
    cluster: ClusterOption = None,
    dry_run: DryRun = False,
    timeout: Timeout = 3600,
    quiet: Quiet = False,
) -> None:
    """Start what was terminated, and go on with a change that did not come to its end.

    \b
    Examples:
      bento deployment start staging
    """
    _change(name, cluster, Deployment.plan_start, dry_run=dry_run, timeout_s=timeout, quiet=quiet)


def _change(
    name: str,
    cluster: str | None,
    plan: Callable[[Deployment], Change],
    *,
    dry_run: bool,
    timeout_s: float,
    quiet: bool,
) -> None:
    """Plan a change of a deployment that is there; do it, or say what it is."""
    console = Console(quiet=quiet)
    place = place_at(cluster)
    deployment = _existing(place, name)
    if dry_run:
        show_change(plan(deployment), console)
        return
    bring_about(lambda: plan(deployment), deployment, place, console, timeout_s=timeout_s)
    console.result(deployment.revision().spec.entry.url)


@app.command("logs")
def logs(
    name: NameArgument,
    service: Annotated[
        str | None,
        typer.Argument(metavar="SERVICE", help="Of this one alone.", autocompletion=names_of_services),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", min=0, help="Only so many of each replica's last lines.")
    ] = None,
    cluster: ClusterOption = None,
) -> None:
    """Show what a deployment's replicas and its entry wrote.

    \b
    Examples:
      bento deployment logs staging --follow
      bento deployment logs staging ControlNet --tail 50
    """
    _existing(place_at(cluster), name).show_logs(service, follow=follow, tail=tail)


@app.command("wait")
def wait(
    name: NameArgument,
    cluster: ClusterOption = None,
    timeout: Timeout = 3600,
) -> None:
    """Wait until all replicas of a deployment are ready; says why where they do not come to be.

    \b
    Examples:
      bento deploy . --no-wait && bento deployment wait control-net
    """
    deployment = _existing(place_at(cluster), name)
    deadline = time.monotonic() + timeout
    while True:
        status, last = deployment.status(), deployment.history.last()
        if last is not None and last.status == "failed":
            raise NotHealthyError(f"revision {last.number} of {name} was taken back: {last.reason}")
        if status == "running":
            break
        if status == "terminated":
            raise NotHealthyError(f"{name} is terminated", hint=f"bento deployment start {name}")
        if time.monotonic() > deadline:
            raise NotHealthyError(
                f"{name} is {status} after {timeout:g} s",
                hint=f"bento deployment logs {name} --tail 50\n"
                f"      bento deployment start {name}         goes on with what was cut off",
            )
        time.sleep(_PAUSE_S)
    Console().result(deployment.revision().spec.entry.url)


@app.command("terminate")
def terminate(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="Deployments.", autocompletion=names_of_deployments),
    ],
    cluster: ClusterOption = None,
    wait: Annotated[bool, typer.Option("--wait", hidden=True)] = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Stop all of a deployment. Its data and revisions stay, and `bento deployment start` has it again.

    \b
    Examples:
      bento deployment terminate staging
    """
    console = Console(quiet=quiet)
    place = place_at(cluster)
    for deployment in [_existing(place, name) for name in names]:
        if dry_run:
            _say_what_runs(deployment, console)
            continue
        with deployment.history.locked(), console.step(f"terminate {deployment.name}"):
            deployment.terminate()


@app.command("delete")
def delete(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="Deployments.", autocompletion=names_of_deployments),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    cluster: ClusterOption = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Remove deployments: what runs, results of tasks, downloaded models and all revisions.

    \b
    Examples:
      bento deployment delete staging
      bento deployment delete staging preview --yes
    """
    console = Console(quiet=quiet)
    place = place_at(cluster)
    found = [_existing(place, name) for name in names]  # all are found before the first is deleted
    if dry_run:
        for deployment in found:
            _say_what_runs(deployment, console)
            console.info(f"  remove its data, its secrets and {len(deployment.history.all())} revisions")
        return
    if not yes:
        typer.confirm(f"delete {', '.join(names)} with all data?", err=True, abort=True)
    for deployment in found:
        with deployment.history.locked(), console.step(f"delete {deployment.name}"):
            deployment.delete()


def _say_what_runs(deployment: Deployment, console: Console) -> None:
    observed = deployment.observe()
    for service, replicas in observed.services.items():
        console.info(f"  remove {service}: {', '.join(replica.name for replica in replicas)}")
    if observed.entry is not None:
        console.info("  remove the entry")


@app.command("token")
def token(name: NameArgument, cluster: ClusterOption = None) -> None:
    """Print the bearer token that requests to a deployment must bring.

    \b
    Examples:
      bento deployment token staging
      curl -H "Authorization: Bearer $(bento deployment token staging)" http://127.0.0.1:3000/generate
    """
    found = _existing(place_at(cluster), name).token
    if found is None:
        raise NotFoundError(
            f"{name} asks for no token", hint=f"bento deployment update {name} --access-authorization true"
        )
    Console().result(found)


@app.command("list-instance-types")
def list_instance_types(cluster: ClusterOption = None, output: OutputOption = Output.table) -> None:
    """List what `instance_type` may name, and what a replica of it has.

    \b
    Examples:
      bento deployment list-instance-types --cluster gpu-box
    """
    types = instance_types(place_at(cluster).cluster.instance_types)

    def table() -> Table:
        return ["name", "cpus", "memory", "gpus", "node labels"], [
            [
                name,
                f"{kind.cpus:g}",
                f"{kind.memory / 2**30:g} GiB",
                f"{kind.gpus} {kind.gpu_type or ''}".strip() if kind.gpus else "–",
                ", ".join(f"{key}={value}" for key, value in kind.node_labels.items()) or "–",
            ]
            for name, kind in types.items()
        ]

    data = {name: kind.model_dump(exclude_defaults=True) for name, kind in types.items()}
    show(Console(), output, data, table)


def _existing(place: Place, name: str) -> Deployment:
    """The deployment of that name.

    Raises:
        NotFoundError: there is none; names the nearest.
    """
    deployment = place.deployment(name)
    deployment.revision()
    return deployment
