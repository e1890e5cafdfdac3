"""`bento serve`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from bento_cli.build import plan_build
from bento_cli.commands._options import is_project, project_root, say_notes, single
from bento_cli.console import Console
from bento_cli.image import service_variables
from bento_cli.serve import LocalGraph, LocalService, plan_serve
from bento_cli.store import Store
from bentoml._environment import BENTO, is_reserved
from bentoml._graph import ServiceGraph, as_text

_COLOURS = ("cyan", "magenta", "yellow", "green", "blue")


def serve(
    bento: Annotated[
        str, typer.Argument(metavar="[PROJECT|TAG]", help="A project's folder, or a Bento.")
    ] = ".",
    port: Annotated[
        int,
        typer.Option(
            "--port", "-p", envvar="BENTOML_PORT", min=1, max=65535, help="Port of the entry service."
        ),
    ] = 3000,
    host: Annotated[
        str, typer.Option("--host", envvar="BENTOML_HOST", help="Interface of the entry service.")
    ] = "127.0.0.1",
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds until all services must be ready.")
    ] = 600,
) -> None:
    """Run a project or a Bento on this machine, one process tree for each service.

    The same processes, variables and wire as in containers. Ctrl-C stops all of them.

    \b
    Examples:
      bento serve .
      bento serve examples/controlnet --port 8080
      bento serve control_net:latest
    """
    console = Console()
    # Told to stop by whatever watches over it, it stops as Ctrl-C does it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    graph, project, variables = _load(bento, console)
    # A value of the shell wins over one that the project declares.
    variables = {
        service: {name: value for name, value in own.items() if is_reserved(name) or name not in os.environ}
        for service, own in variables.items()
    }
    services = plan_serve(graph, project, variables, host=host, port=port)
    console.info(as_text(graph) + "\n")
    width = max(len(service.name) for service in services)
    colours = {service.name: _COLOURS[i % len(_COLOURS)] for i, service in enumerate(services)}
    with LocalGraph(
        services, lambda name, line: console.log(name.ljust(width), line, colours[name])
    ) as running:
        try:
            running.wait_ready(timeout)
            _show(services, graph, console)
            console.info(f"ready after {time.monotonic() - started:.1f} s, Ctrl-C stops it")
            running.wait()
        except KeyboardInterrupt:
            console.info("stopping")


def _load(bento: str, console: Console) -> tuple[ServiceGraph, Path, dict[str, dict[str, str]]]:
    """The graph, the folder of its modules, and what each service is told about itself."""
    if is_project(bento):
        plan = plan_build(project_root(bento))
        say_notes(plan, console)
        variables = {
            node.name: service_variables(
                node,
                [env.model_dump() for env in plan.bentofile.envs],
                absent=plan.absent[node.name],
                dependents=plan.graph.dependents(node.name),
                declares_all=plan.declares_all(node.name),
            )
            for node in plan.graph
        }
        return plan.graph, plan.root, variables
    found = Store().get(bento)
    graph = found.graph
    variables = {}
    for node in graph:
        said = found.service(node.name)
        own = service_variables(
            node,
            found.manifest.envs,
            absent=frozenset(said.absent_modules),
            dependents=graph.dependents(node.name),
            declares_all=said.declares_all,
        )
        variables[node.name] = {**own, BENTO: str(found.tag)}
    return graph, found.source, variables


def _show(services: tuple[LocalService, ...], graph: ServiceGraph, console: Console) -> None:
    rows = [
        [service.name, service.address, ", ".join(graph.services[service.name].endpoints)]
        for service in reversed(services)
    ]
    console.table(["service", "address", "endpoints"], rows)


app = single(serve)
