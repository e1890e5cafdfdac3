"""`bento get`."""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated

import typer

from bento_cli.commands._options import TagArgument, single
from bento_cli.console import Console
from bento_cli.errors import NotFoundError, nearest
from bento_cli.image.sbom import SBOM_NAME
from bento_cli.store import Store
from bento_cli.store.bento import Bento, manifest_text


class Output(str, Enum):
    """How the Bento is printed."""

    yaml = "yaml"
    json = "json"
    path = "path"


def get(
    bento_tag: TagArgument,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="Its manifest, or the folder it is in.")
    ] = Output.yaml,
    sbom: Annotated[
        str | None,
        typer.Option("--sbom", metavar="SERVICE", help="What that service's lock holds, as CycloneDX JSON."),
    ] = None,
) -> None:
    """Show a Bento.

    \b
    Examples:
      bento get control_net:latest
      bento get control_net:latest --sbom ControlNet > sbom.cdx.json
      cd "$(bento get control_net:latest -o path)" && docker compose up --wait
    """
    console = Console()
    bento = Store().get(bento_tag)
    if sbom is not None:
        console.result(_sbom(bento, sbom))
    elif output is Output.path:
        console.result(str(bento.path))
    elif output is Output.json:
        console.result(json.dumps(bento.manifest.model_dump(mode="json", exclude_none=True), indent=2))
    else:
        console.result(manifest_text(bento.manifest).rstrip("\n"))


def _sbom(bento: Bento, service: str) -> str:
    names = [service.name for service in bento.manifest.services]
    if service not in names:
        raise NotFoundError(f"{bento.tag} has no service {service!r}{nearest(service, names, 'services')}")
    path = bento.path / "services" / service / SBOM_NAME
    if not path.is_file():
        hint = "build it without `--no-lock`"
        raise NotFoundError(f"{service} of {bento.tag} has no lock to tell its packages from", hint=hint)
    return path.read_text(encoding="utf-8").rstrip("\n")


app = single(get)
