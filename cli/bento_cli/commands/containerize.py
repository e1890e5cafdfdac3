"""`bento containerize`."""

from __future__ import annotations

from bento_cli.bento import Bento
from bento_cli.commands._options import Quiet, TagArgument, single
from bento_cli.compose import CPU_FILE_NAME, FILE_NAME
from bento_cli.console import Console
from bento_cli.containerize import ServiceImage
from bento_cli.containerize import containerize as build_images
from bento_cli.engine import Engine
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
    engine = DockerEngine()
    facts = engine.check()
    images = make_images(bento, engine, console)
    rows = [[built.service, built.image.reference, f"{built.image.size / 1e6:.0f} MB"] for built in images]
    console.table(["service", "image", "size"], rows)
    files = ""
    if not facts.has_gpu and (bento.path / CPU_FILE_NAME).exists():
        console.warn("this engine offers no GPU; the override asks for none")
        files = f" --file {FILE_NAME} --file {CPU_FILE_NAME}"
    console.hint(f"cd {bento.path} && docker compose{files} up --wait")


def make_images(bento: Bento, engine: Engine, console: Console) -> list[ServiceImage]:
    """Build the images, showing the step that the builder is at."""
    with console.step(f"build the images of {bento.tag}") as step:
        return build_images(bento, engine, step)


app = single(containerize)
