"""`bento containerize`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from enum import Enum
from itertools import islice
from typing import Annotated

import typer

from bento_cli.bento import Bento
from bento_cli.commands._image_progress import ProgressKind, image_progress
from bento_cli.commands._options import Quiet, TagArgument, key_value, single
from bento_cli.compose import CPU_FILE_NAME, FILE_NAME
from bento_cli.console import Console
from bento_cli.containerize import ContainerizeOptions, ServiceImage, as_base_images
from bento_cli.containerize import containerize as build_images
from bento_cli.engine import BuildOptions, Engine
from bento_cli.engine.docker import DockerEngine
from bento_cli.store import Store

_BASE_IMAGE_MAP = "BENTOML_BASE_IMAGE_MAP"
_PACKAGES_SHOWN = 5
_DIGEST_SHOWN = len("sha256:") + 12


class Format(str, Enum):
    """What is printed on stdout."""

    table = "table"
    json = "json"


def containerize(
    bento_tag: TagArgument,
    image_tag: Annotated[
        list[str] | None,
        typer.Option(
            "--image-tag",
            "-t",
            metavar="NAME[:TAG]",
            help="A name that the image gets as well; may be repeated. With several services each image has "
            "its service behind the name: `registry/shop:1` is `registry/shop/cart:1`.",
        ),
    ] = None,
    push: Annotated[
        bool, typer.Option("--push", help="Push to the registries that `-t` names, and keep no other name.")
    ] = False,
    platform: Annotated[
        list[str] | None,
        typer.Option("--platform", help="As `linux/arm64`, for a builder that makes it; may be repeated."),
    ] = None,
    base_image_map: Annotated[
        list[str] | None,
        typer.Option(
            "--base-image-map",
            metavar="IMAGE=OTHER",
            envvar=_BASE_IMAGE_MAP,
            help="What stands in for a base image, a repository or, with `/` at the end, all that begin so; "
            "may be repeated.",
        ),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Do every step again, whatever was done before.")
    ] = False,
    pull: Annotated[bool, typer.Option("--pull", help="Look for newer base images first.")] = False,
    try_import: Annotated[
        bool,
        typer.Option(
            "--import/--no-import", help="Import each service once in its image, to find what it lacks."
        ),
    ] = True,
    sbom: Annotated[
        str | None, typer.Option("--sbom", metavar="VALUE", help="Passed on to BuildKit, as `true`.")
    ] = None,
    provenance: Annotated[
        str | None, typer.Option("--provenance", metavar="VALUE", help="Passed on, as `mode=max`.")
    ] = None,
    progress: Annotated[
        ProgressKind,
        typer.Option(help="A line for each image, all that the steps write, or nothing."),
    ] = ProgressKind.auto,
    format_: Annotated[
        Format, typer.Option("--format", help="`json` prints sizes in bytes and whole digests.")
    ] = Format.table,
    quiet: Quiet = False,
) -> None:
    """Build one image for each service of a Bento; what did not change is not built again.

    \b
    Examples:
      bento containerize control_net:latest
      bento containerize control_net:latest -t registry.example/team/control_net:1.2 --push
      bento containerize control_net:latest --base-image-map python=mirror.example/python
    """
    console = Console(quiet=quiet)
    bento = Store().get(bento_tag)
    options = ContainerizeOptions(
        names=tuple(image_tag or ()),
        base_images=_base_images(base_image_map or ()),
        imports_services=try_import,
        build=BuildOptions(
            platforms=tuple(platform or ()),
            push=push,
            use_cache=not no_cache,
            pull=pull,
            sbom=sbom,
            provenance=provenance,
        ),
    )
    engine = DockerEngine()
    facts = engine.check()
    images = make_images(bento, engine, console, options, ProgressKind.quiet if quiet else progress)
    if format_ is Format.json:
        console.result(json.dumps([as_data(image) for image in images], indent=2))
        return
    console.table(
        ["service", "image", "size", "time", "", "digest", "largest packages"],
        [row(image) for image in images],
    )
    if push:
        return
    files = ""
    if not facts.has_gpu and (bento.path / CPU_FILE_NAME).exists():
        console.warn("this engine offers no GPU; the override asks for none")
        files = f" --file {FILE_NAME} --file {CPU_FILE_NAME}"
    console.hint(f"cd {bento.path} && docker compose{files} up --wait")


def make_images(
    bento: Bento,
    engine: Engine,
    console: Console,
    options: ContainerizeOptions | None = None,
    progress: ProgressKind = ProgressKind.auto,
) -> list[ServiceImage]:
    """Build the images, showing what each of them is at; as the environment says where nothing else does."""
    if options is None:
        options = ContainerizeOptions(base_images=_base_images(os.environ.get(_BASE_IMAGE_MAP, "").split()))
    with image_progress(console, progress) as shown:
        return build_images(bento, engine, shown, options)


def _base_images(texts: Sequence[str]) -> dict[str, str]:
    return as_base_images([key_value(text) for text in texts])


def row(built: ServiceImage) -> list[str]:
    """An image as people compare it with others."""
    size = built.image.size
    largest = islice(built.sizes.items(), _PACKAGES_SHOWN)
    return [
        built.service,
        built.image.reference,
        "–" if size is None else _megabytes(size),
        f"{built.seconds:.1f} s",
        "cached" if built.is_cached else "built",
        built.image.digest[:_DIGEST_SHOWN],
        ", ".join(f"{name} {_megabytes(size)}" for name, size in largest) or "–",
    ]


def as_data(built: ServiceImage) -> dict[str, object]:
    """An image as programs read it."""
    return {
        "service": built.service,
        "image": built.image.reference,
        "digest": built.image.digest,
        "size": built.image.size,
        "packages": dict(built.sizes),
        "seconds": round(built.seconds, 3),
        "cached": built.is_cached,
    }


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e6:.1f} MB"


app = single(containerize)
