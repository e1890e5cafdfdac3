"""`bento serve`."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Callable
from typing import Annotated

import typer

from bento_cli.commands._options import ArgFiles, Args, given_arguments, say_notes, single
from bento_cli.console import Console
from bento_cli.deploy.by_name import published_here
from bento_cli.gpus import gpu_table
from bento_cli.serve import LocalGraph, LocalService, find_servable, plan_serve
from bentoml._environment import LOG_FORMAT
from bentoml._graph import ServiceGraph, as_text

_COLOURS = ("cyan", "magenta", "yellow", "green", "blue")


def serve(
    bento: Annotated[
        str,
        typer.Argument(
            metavar="[PROJECT|MODULE:CLASS|TAG]",
            help="A project's folder, a service of the one that is the current folder, or a Bento.",
        ),
    ] = ".",
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            "-p",
            envvar="BENTOML_PORT",
            min=1,
            max=65535,
            help="Port of the entry service; its configuration's, or 3000.",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            envvar="BENTOML_HOST",
            help="Interface of the entry service; its configuration's, or 127.0.0.1.",
        ),
    ] = None,
    arg: Args = None,
    arg_file: ArgFiles = None,
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds until all services must be ready.")
    ] = 600,
) -> None:
    """Run a project or a Bento on this machine, one process tree for each service.

    The same processes, variables and wire as in containers. Ctrl-C stops all of them once running calls are
    finished, and a second one at once. A project without a bentofile is the service of its service.py.

    \b
    Examples:
      bento serve .
      bento serve examples/controlnet --port 8080
      bento serve service:ControlNet --arg model=small
      bento serve control_net:latest
    """
    console = Console()
    # Told to stop by whatever watches over it, it stops as Ctrl-C does it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    servable = find_servable(bento, arguments=given_arguments(arg, arg_file))
    say_notes(servable.notes, console)
    servable = servable.knowing(published_here(servable.graph))
    services = plan_serve(servable, host=host, port=port, command=f"bento serve {shlex.quote(bento)}")
    console.info(as_text(servable.graph) + "\n")
    _say_gpus(services, console)
    with LocalGraph(services, _shown_on(console, services), tail=0) as running:
        try:
            running.wait_ready(timeout)
            _show(services, servable.graph, console)
            console.info(f"ready after {time.monotonic() - started:.1f} s, Ctrl-C stops it")
            running.wait()
        except KeyboardInterrupt:
            console.info("stopping; running calls are finished, up to 30 s; Ctrl-C again ends them now")


def _shown_on(console: Console, services: tuple[LocalService, ...]) -> Callable[[str, str], None]:
    """Shows the lines of all services, each behind its service's name; JSON as it is, for what reads it."""
    width = max(len(service.name) for service in services)
    colours = {service.name: _COLOURS[i % len(_COLOURS)] for i, service in enumerate(services)}
    json = {s.name for s in services if {**os.environ, **s.environ}.get(LOG_FORMAT) == "json"}

    def show(service: str, line: str) -> None:
        if service in json:
            console.plain(line)
        else:
            console.log(service.ljust(width), line, colours[service])

    return show


def _say_gpus(services: tuple[LocalService, ...], console: Console) -> None:
    shares = {service.name: service.shares for service in reversed(services) if service.shares}
    if shares:
        console.info(f"GPUs:\n{gpu_table(shares, 'gets')}\n")


def _show(services: tuple[LocalService, ...], graph: ServiceGraph, console: Console) -> None:
    rows = [
        [
            service.name,
            service.address,
            f":{service.management_port}",
            ", ".join(graph.services[service.name].endpoints),
        ]
        for service in reversed(services)
    ]
    console.table(["service", "address", "management", "endpoints"], rows)


app = single(serve)
