"""`bento list`."""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated, TypedDict

import typer
import yaml

from bento_cli.commands._options import single
from bento_cli.console import Console
from bento_cli.store import Store
from bento_cli.store.bento import files_of


class Output(str, Enum):
    """How the list is printed."""

    table = "table"
    json = "json"
    yaml = "yaml"


class _Row(TypedDict):
    """A Bento as programs read it; the size is in bytes, with its models and without images."""

    tag: str
    services: list[str]
    size: int
    created: str


def list_(
    name: Annotated[str | None, typer.Argument(help="Only Bentos of this name.")] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print it.")] = Output.table,
) -> None:
    """List the Bentos in the store, the newest first."""
    console = Console()
    bentos = Store().bentos(name)
    rows: list[_Row] = [
        {
            "tag": str(bento.tag),
            "services": [service.name for service in bento.manifest.services],
            "size": sum(path.stat().st_size for path in files_of(bento.path)),
            "created": bento.manifest.creation_time,
        }
        for bento in bentos
    ]
    if output is Output.json:
        console.result(json.dumps(rows, indent=2))
    elif output is Output.yaml:
        console.result(yaml.safe_dump(rows, sort_keys=False).rstrip("\n"))
    else:
        cells = [
            [row["tag"], ", ".join(row["services"]), f"{row['size'] / 1e6:.1f} MB", row["created"]]
            for row in rows
        ]
        console.table(["tag", "services", "size", "created"], cells)


app = single(list_)
