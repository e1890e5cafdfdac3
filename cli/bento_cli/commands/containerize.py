"""`bento containerize`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum
from itertools import islice
from typing import Annotated

import typer

from bento_cli.build.building import built
from bento_cli.commands._image_progress import ProgressKind, image_progress
from bento_cli.commands._options import Quiet, key_value, say_notes, single
from bento_cli.compose import CPU_FILE_NAME, FILE_NAME
from bento_cli.console import Console
from bento_cli.containerize import (
    BASE_IMAGE_MAP,
    ContainerizeOptions,
    ServiceImage,
    as_base_images,
    platform_notes,
)
from bento_cli.containerize import containerize as build_images
from bento_cli.engine import Builder, BuildOptions
from bento_cli.engine.docker import DockerEngine
from bento_cli.engine.plain import BUILDAH, NERDCTL, PODMAN, PlainBuilder
from bento_cli.store.bento import Bento

_PACKAGES_SHOWN = 5
_DIGEST_SHOWN = len("sha256:") + 12


class Backend(str, Enum):
    """What builds the images."""

    docker = "docker"
    buildx = "buildx"
    podman = "podman"
    buildah = "buildah"
    nerdctl = "nerdctl"


_PLAIN = {Backend.podman: PODMAN, Backend.buildah: BUILDAH, Backend.nerdctl: NERDCTL}


TryImport = Annotated[
    bool,
    typer.Option(
        "--import/--no-import", help="Import each service once in its image, to find what it lacks."
    ),
]


class Format(str, Enum):
    """What is printed on stdout."""

    table = "table"
    json = "json"


def containerize(
    bento: Annotated[
        str, typer.Argument(metavar="PROJECT|TAG", help="A project's folder, or `name:version` of a Bento.")
    ],
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
    backend: Annotated[
        Backend,
        typer.Option(
            "--backend",
            envvar="BENTOML_CONTAINERIZE_BACKEND",
            help="What builds them: `docker` and `buildx` all at once, the others one after the other.",
        ),
    ] = Backend.docker,
    base_image_map: Annotated[
        list[str] | None,
        typer.Option(
            "--base-image-map",
            metavar="IMAGE=OTHER",
            envvar=BASE_IMAGE_MAP,
            help="What stands in for a base image, a repository or, with `/` at the end, all that begin so; "
            "may be repeated.",
        ),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Do every step again, whatever was done before.")
    ] = False,
    pull: Annotated[bool, typer.Option("--pull", help="Look for newer base images first.")] = False,
    try_import: TryImport = True,
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
      bento containerize .
      bento containerize control_net:latest
      bento containerize control_net:latest -t registry.example/team/control_net:1.2 --push
      bento containerize control_net:latest --base-image-map python=mirror.example/python
      bento containerize control_net:latest --backend podman
    """
    console = Console(quiet=quiet)
    found = built(bento, console)
    options = ContainerizeOptions(
        names=tuple(image_tag or ()),
        base_images=_base_images(base_image_map or ()),
        imports_services=try_import,
        build=BuildOptions(
            platforms=tuple(part for text in platform or () for part in text.split(",")),
            push=push,
            use_cache=not no_cache,
            pull=pull,
            sbom=sbom,
            provenance=provenance,
        ),
    )
    say_notes(platform_notes(found, options.build.platforms), console)
    engine: Builder = PlainBuilder(_PLAIN[backend]) if backend in _PLAIN else DockerEngine()
    facts = engine.check()
    images = make_images(found, engine, console, options, ProgressKind.quiet if quiet else progress)
    if format_ is Format.json:
        console.result(json.dumps([as_data(image) for image in images], indent=2))
        return
    console.table(
        ["service", "image", "size", "time", "", "digest", "largest packages"],
        [row(image) for image in images],
    )
    if push or backend in _PLAIN:
        return
    files = ""
    if not facts.has_gpu and (found.path / CPU_FILE_NAME).exists():
        console.warn("this engine offers no GPU; the override asks for none")
        files = f" --file {FILE_NAME} --file {CPU_FILE_NAME}"
    console.hint(f"cd {found.path} && docker compose{files} up --wait")


def make_images(
    bento: Bento,
    engine: Builder,
    console: Console,
    options: ContainerizeOptions,
    progress: ProgressKind = ProgressKind.auto,
) -> list[ServiceImage]:
    """Build the images, showing what each of them is at."""
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
