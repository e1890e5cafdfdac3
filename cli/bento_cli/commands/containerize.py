"""`bento containerize`."""

from __future__ import annotations

from bento_cli.app import single
from bento_cli.bento import Bento
from bento_cli.commands._options import Quiet, TagArgument
from bento_cli.console import Console
from bento_cli.containerize import ServiceImage
from bento_cli.containerize import containerize as build_images
from bento_cli.engine.docker import DockerEngine
from bento_cli.store import Store


def containerize(bento_tag: TagArgument, quiet: Quiet = False) -> None:
    """Build one image for each service of a Bento.

    \b
    Examples:
      bento containerize control_net:latest
    """
    console = Console(quiet=quiet)
    bento = Store().get(bento_tag)
    show_images(bento, make_images(bento, console), console)


def make_images(bento: Bento, console: Console) -> list[ServiceImage]:
    """Build the images, showing the step that the builder is at."""
    with console.step(f"build the images of {bento.tag}") as update:
        return build_images(bento, DockerEngine(), update)


def show_images(bento: Bento, images: list[ServiceImage], console: Console) -> None:
    """The table of what was made."""
    rows = [[built.service, built.image.reference, f"{built.image.size / 1e6:.0f} MB"] for built in images]
    console.table(["service", "image", "size"], rows)
    console.hint(f"cd {bento.path} && docker compose up --wait")


app = single(containerize)
