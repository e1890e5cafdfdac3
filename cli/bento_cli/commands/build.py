"""`bento build`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from bento_cli.build import BuildPlan, plan_build
from bento_cli.build.locking import kept_locks, lock_build
from bento_cli.build.named import find_project
from bento_cli.build.pinning import pin_models
from bento_cli.build.writing import write_bento
from bento_cli.commands._options import ArgFiles, Args, Quiet, given_arguments, key_value, say_notes, single
from bento_cli.console import Console
from bento_cli.lock import checked_platform
from bento_cli.requirements import NOT_REACHED, Decision
from bento_cli.store import Store
from bentoml._graph import as_text


class Output(str, Enum):
    """What is printed on stdout."""

    default = "default"
    tag = "tag"


def build(
    project: Annotated[
        str,
        typer.Argument(
            metavar="[PROJECT|MODULE:CLASS]",
            help="The folder with bentofile.yaml, pyproject.toml or service.py; or a service of this one.",
        ),
    ] = ".",
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the Bento, over the bentofile's.")
    ] = None,
    version: Annotated[
        str | None,
        typer.Option("--version", help="Version of the Bento; derived from its content when not given."),
    ] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="key=value; may be repeated.")] = None,
    arg: Args = None,
    arg_file: ArgFiles = None,
    no_lock: Annotated[
        bool,
        typer.Option(
            "--no-lock",
            help="Build without locks, which name every package with its version and hashes: versions are "
            "then chosen when the images are built. A lock is made once, by asking a package index, and kept "
            "until what it depends on changes.",
        ),
    ] = False,
    platform: Annotated[
        str | None,
        typer.Option(
            "--platform",
            metavar="PLATFORM",
            help="What the locks are for, such as linux/arm64; this machine's when not given.",
        ),
    ] = None,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", "-U", help="Make the locks anew, with the newest versions.")
    ] = False,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="`tag` prints `__tag__:name:version` alone.")
    ] = Output.default,
    quiet: Quiet = False,
) -> None:
    """Build a Bento from a project.

    The project is read and not imported: none of its requirements need to be installed here.

    \b
    Examples:
      bento build .
      bento build examples/controlnet --label team=vision
      bento build . --arg model=small --arg steps=20
      bento build . --version 1.2.0 --output tag
      bento build . --upgrade
    """
    console = Console(quiet=quiet or output is Output.tag)
    named = find_project(project)
    plan = plan_build(
        named.root if named else Path(project),
        file=named.file if named else None,
        name=name,
        labels=dict(key_value(text) for text in label or ()),
        arguments=given_arguments(arg, arg_file),
    )
    if not no_lock:
        plan = lock_build(
            plan, kept_locks(console.info, is_renewed=upgrade), platform=checked_platform(platform)
        )
    plan = pin_models(plan)
    say_notes((*plan.notes, *plan.container_notes), console)
    _show_decisions(plan, console)
    bento, is_new = write_bento(plan, Store(), version=version)
    if output is Output.tag:
        console.result(f"__tag__:{bento.tag}")
        return
    console.result(str(bento.tag))
    console.info(f"{'built' if is_new else 'nothing changed since it was built'} in {bento.path}")
    console.hint(f"bento containerize {bento.tag.name}:latest\n      bento serve {bento.tag.name}:latest")


def _show_decisions(plan: BuildPlan, console: Console) -> None:
    """The graph, and which image holds what and why: the table that a person may want to overrule."""
    console.info(as_text(plan.graph) + "\n")
    decisions = plan.requirements.decisions
    services = [node.name for node in plan.graph]
    rows = []
    for requirement in dict.fromkeys(decision.requirement for decision in decisions):
        by_service = {d.service: d for d in decisions if d.requirement == requirement}
        rows.append([requirement, *(_cell(by_service[service]) for service in services)])
    packages = {service: plan.images[service].system_packages for service in services}
    for package in sorted({package for needed in packages.values() for package in needed}):
        row = [f"✓ {needed[package]}" if package in needed else "–" for needed in packages.values()]
        rows.append([f"{package} (system)", *row])
    models = [", ".join(model.summary for model in plan.images[service].models) for service in services]
    if any(models):
        rows.append(["models", *(text or "–" for text in models)])
    if plan.locks:
        rows.append(["locked", *(plan.locks[service].summary for service in services)])
    rows.append(["base image", *(plan.images[service].base_image for service in services)])
    rows.append(["because it", *(plan.images[service].base_reason for service in services)])
    console.table(["", *services], rows, to_stdout=False)
    console.info("")


def _cell(decision: Decision) -> str:
    if decision.is_held:
        return f"✓ {decision.why}"
    return "–" if decision.why == NOT_REACHED else f"– {decision.why}"


app = single(build)
