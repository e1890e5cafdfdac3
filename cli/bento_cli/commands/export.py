"""`bento export`."""

from __future__ import annotations

from typing import Annotated

import typer

from bento_cli.commands._options import TagArgument, single
from bento_cli.console import Console
from bento_cli.store import Store
from bento_cli.store.bento_transfer import export_bento


def export(
    bento_tag: TagArgument,
    path: Annotated[
        str,
        typer.Argument(
            metavar="[PATH]",
            help="The file, whose ending says how it is packed: .bento (tar.xz), .tar.gz, .tar.xz, .tar.bz2, "
            ".tar or .zip; or a folder for `<name>-<version>.bento`.",
        ),
    ] = ".",
) -> None:
    """Write a Bento into one file, for `bento import` elsewhere.

    \b
    Examples:
      bento export control_net:latest
      bento export control_net:latest /media/usb/control_net.tar.gz
    """
    Console().result(str(export_bento(Store().get(bento_tag), path)))


app = single(export)
