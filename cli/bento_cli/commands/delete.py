"""`bento delete`."""

from __future__ import annotations

from typing import Annotated

import typer

from bento_cli.commands._options import single
from bento_cli.console import Console
from bento_cli.store import Store


def delete(
    tags: Annotated[
        list[str],
        typer.Argument(metavar="TAG...", help="`name:version`, all of a `name`, or a pattern: 'shop:2026*'."),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete Bentos from the store. Images and deployments made of them stay.

    \b
    Examples:
      bento delete control_net:latest
      bento delete shop 'tryout*' --yes
    """
    console = Console()
    store = Store()
    # All are found before anything is asked, and all are agreed to before the first is deleted.
    bentos = list({bento.tag: bento for tag in tags for bento in store.matching(tag)}.values())
    if not yes:
        named = str(bentos[0].tag) if len(bentos) == 1 else f"these {len(bentos)} Bentos"
        if len(bentos) > 1:
            console.info("\n".join(str(bento.tag) for bento in bentos))
        typer.confirm(f"delete {named}?", err=True, abort=True)
    for bento in bentos:
        store.delete(bento)
        console.info(f"deleted {bento.tag}")


app = single(delete)
