"""The `bento` command: its global options, and which module holds which command."""

from __future__ import annotations

import importlib
import keyword
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from bentoml._version import __version__

# Known without importing the commands: `bento --help` loads nothing that only one of them needs.
COMMANDS: Final = {
    "build": "Build a Bento from a project.",
    "containerize": "Build one image for each service of a Bento.",
    "serve": "Run a project or a Bento on this machine, one process tree for each service.",
    "deploy": "Build, containerize and run a project on a container engine.",
    "deployment": "Show and change deployments, and go back to what one was before.",
    "cluster": "Say where deployments run: clusters, each a context of `docker`.",
    "config": "Show a service's configuration, and where each value comes from.",
    "list": "List the Bentos in the store.",
    "get": "Show a Bento.",
    "delete": "Delete Bentos from the store.",
    "export": "Write a Bento into one file.",
    "import": "Put the Bento of a file into the store.",
    "models": "List, show, delete, export and import models of the store.",
}


def module_of(command: str) -> str:
    """The module of a command: of its name, which may be no word of Python's own."""
    return f"bento_cli.commands.{command}{'_' if keyword.iskeyword(command) else ''}"


class _LazyGroup(TyperGroup):
    """Imports a command's module when that command is run."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # its context is wider
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(module_of(cmd_name))
        return typer.main.get_command(module.app)

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


app = typer.Typer(
    cls=_LazyGroup,
    name="bento",
    # rich's help doubles the time that `--help` takes.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"bento {__version__}")
        raise typer.Exit


@app.callback()
def bento(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Turn one Python project of several ML services into small containers that call each other.

    \b
    Examples:
      bento serve .                          run the project here, as it will run in containers
      bento build .                          make a Bento: one Dockerfile for each service
      bento containerize my_bento:latest     make the images
      bento deploy . -f config-file.yaml     build, containerize and run it on Docker
    """
