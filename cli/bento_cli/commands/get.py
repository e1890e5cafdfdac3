"""`bento get`."""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated

import typer

from bento_cli.bento import manifest_text
from bento_cli.commands._options import TagArgument, single
from bento_cli.console import Console
from bento_cli.store import Store


class Output(str, Enum):
    """How the Bento is printed."""

    yaml = "yaml"
    json = "json"
    path = "path"


def get(
    bento_tag: TagArgument,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="Its manifest, or the folder it is in.")
    ] = Output.yaml,
) -> None:
    """Show a Bento.

    \b
    Examples:
      bento get control_net:latest
      cd "$(bento get control_net:latest -o path)" && docker compose up --wait
    """
    console = Console()
    bento = Store().get(bento_tag)
    if output is Output.path:
        console.result(str(bento.path))
    elif output is Output.json:
        console.result(json.dumps(bento.manifest.model_dump(mode="json", exclude_none=True), indent=2))
    else:
        console.result(manifest_text(bento.manifest).rstrip("\n"))


app = single(get)
