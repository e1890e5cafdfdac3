"""`bento import`."""

from __future__ import annotations

from typing import Annotated

import typer

from bento_cli.commands._options import single
from bento_cli.console import Console
from bento_cli.store import Store
from bento_cli.store.bento_transfer import import_bento


def import_(
    path: Annotated[
        str, typer.Argument(metavar="FILE", help="What `bento export` wrote, whatever its ending.")
    ],
) -> None:
    """Put the Bento of a file into the store.

    Nothing of it is run, and a file that is damaged or leads out of its folder is refused as a whole. To
    serve or containerize a Bento runs its code: do so with those of people whom you trust.

    \b
    Examples:
      bento import control_net-534q6nujmeoo4yp6.bento
    """
    console = Console()
    bento, is_new = import_bento(path, Store())
    console.result(str(bento.tag))
    console.info(f"{'imported' if is_new else 'was there already'} in {bento.path}")


app = single(import_)
