"""What commands print that show something: a table for people, JSON or YAML for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Annotated, TypeAlias

import typer
import yaml

from bento_cli.console import Console


class Output(str, Enum):
    """How it is printed."""

    table = "table"
    json = "json"
    yaml = "yaml"


OutputOption: TypeAlias = Annotated[Output, typer.Option("--output", "-o", help="How to print it.")]

Table: TypeAlias = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Names of columns, and rows."""


def show(console: Console, output: Output, data: object, table: Callable[[], Table]) -> None:
    """Print it as it was asked for.

    Args:
        data: what JSON and YAML can hold.
    """
    if output is Output.json:
        console.result(json.dumps(data, indent=2))
    elif output is Output.yaml:
        console.result(yaml.safe_dump(data, sort_keys=False, allow_unicode=True).rstrip("\n"))
    else:
        columns, rows = table()
        console.table(columns, rows)
