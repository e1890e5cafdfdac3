"""`bento cluster`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from pydantic import ValidationError

from bento_cli.commands._options import Quiet
from bento_cli.commands._output import Output, OutputOption, Table, show
from bento_cli.console import Console
from bento_cli.deploy.clusters import DEFAULT, Cluster, Clusters, load_instance_types
from bento_cli.deploy.revisions import deployed_names
from bento_cli.engine.docker import DockerEngine
from bento_cli.errors import BentoError

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def names_of_clusters(incomplete: str) -> Iterator[str]:
    """For completion."""
    return (name for name in Clusters().all() if name.startswith(incomplete))


NameArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="NAME", help="The cluster.", autocompletion=names_of_clusters)
]


@app.callback()
def cluster() -> None:
    """Say where deployments run: clusters, each a context of `docker`."""


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is to be called.")],
    docker_context: Annotated[
        str, typer.Option("--docker-context", metavar="CONTEXT", help="See `docker context ls`.")
    ],
    registry: Annotated[
        str | None,
        typer.Option(
            "--registry",
            metavar="HOST/PATH",
            help="Images are built here and travel through it; without one they are built there.",
        ),
    ] = None,
    instance_types: Annotated[
        Path | None,
        typer.Option(
            "--instance-types", metavar="FILE", help="YAML with `instance_types`, over those known."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only see whether its engine answers.")] = False,
    quiet: Quiet = False,
) -> None:
    """Keep a cluster under a name, or say something else of one; its engine must answer.

    \b
    Examples:
      bento cluster add gpu-box --docker-context gpu-box
      bento cluster add gpu-box --docker-context gpu-box --registry registry.example:5000/team
      bento cluster add gpu-box --docker-context gpu-box --instance-types types.yaml
    """
    console = Console(quiet=quiet)
    try:
        found = Cluster(
            docker_context=docker_context,
            registry=registry,
            instance_types=dict(load_instance_types(instance_types)) if instance_types else {},
        )
    except ValidationError as error:
        raise BentoError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
    facts = DockerEngine(docker_context).check()
    if not dry_run:
        Clusters().add(name, found)
    gpu = "with a GPU" if facts.has_gpu else "without a GPU"
    console.info(f"{name}: Docker Engine {facts.version} {gpu}")
    console.hint(f"bento cluster use {name}\n      bento deploy . --cluster {name}")


@app.command("list")
def list_(output: OutputOption = Output.table) -> None:
    """List the clusters; `*` marks the one that is meant where none is named.

    \b
    Examples:
      bento cluster list
    """
    clusters = Clusters()
    current = clusters.current
    data = [
        {
            "name": name,
            "current": name == current,
            "docker_context": cluster.docker_context,
            "registry": cluster.registry,
            "instance_types": list(cluster.instance_types),
            "deployments": deployed_names(clusters.home_of(name)),
        }
        for name, cluster in clusters.all().items()
    ]

    def table() -> Table:
        return ["name", "docker context", "registry", "own instance types", "deployments"], [
            [
                name + (" *" if name == current else ""),
                cluster.docker_context or "(the current one)",
                cluster.registry or "–",
                ", ".join(cluster.instance_types) or "–",
                str(len(deployed_names(clusters.home_of(name)))),
            ]
            for name, cluster in clusters.all().items()
        ]

    show(Console(), output, data, table)


@app.command("use")
def use(name: NameArgument) -> None:
    """Have a cluster meant where none is named.

    \b
    Examples:
      bento cluster use gpu-box
      bento cluster use default
    """
    Clusters().use(name)


@app.command("remove")
def remove(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only see whether it could be removed.")] = False,
) -> None:
    """Forget a cluster. What runs there runs on, and nothing here knows of it any more.

    \b
    Examples:
      bento cluster remove gpu-box
    """
    clusters = Clusters()
    clusters.get(name)
    deployments = deployed_names(clusters.home_of(name))
    if deployments and name != DEFAULT:
        raise BentoError(
            f"the cluster {name!r} has deployments: {', '.join(deployments)}",
            hint=f"bento deployment delete {' '.join(deployments)} --cluster {name}",
        )
    if dry_run:
        return
    if not yes and name != DEFAULT:
        typer.confirm(f"forget the cluster {name!r}?", err=True, abort=True)
    clusters.remove(name)
