"""`bento delete`."""

from __future__ import annotations

from typing import Annotated

import typer

from bento_cli.commands._options import single
from bento_cli.console import Console
from bento_cli.store import Store


def delete(
    tags: Annotated[list[str], typer.Argument(metavar="TAG...", help="`name:version`, or `name:latest`.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete Bentos from the store. Images and deployments made of them stay."""
    console = Console()
    store = Store()
    bentos = [store.get(tag) for tag in tags]  # all are found before the first is deleted
    for bento in bentos:
        if yes or typer.confirm(f"delete {bento.tag}?", err=True):
            store.delete(bento)
            console.info(f"deleted {bento.tag}")


app = single(delete)
