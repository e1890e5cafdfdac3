"""`bento models`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, TypedDict

import typer

from bento_cli.console import Console
from bento_cli.errors import BentoError, NotFoundError
from bento_cli.store.model_transfer import export_model, import_model
from bentoml._model_store import ModelStore, ModelTag, StoredModel
from bentoml.exceptions import BentoMLException, NotFound

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ModelArgument = Annotated[str, typer.Argument(metavar="TAG", help="`name`, `name:latest` or `name:version`.")]


class ListOutput(str, Enum):
    """How the list is printed."""

    table = "table"
    json = "json"


class _Row(TypedDict):
    """A model as programs read it; the size is in bytes."""

    tag: str
    size: int
    created: str


class GetOutput(str, Enum):
    """What of a model is printed."""

    json = "json"
    path = "path"


@app.callback()
def models() -> None:
    """List, show, delete, export and import models of the store.

    \b
    Examples:
      bento models list
      bento models export summarizer:v2 /media/usb/summarizer.tar
      bento models import /media/usb/summarizer.tar
    """


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(help="Only models of this name.")] = None,
    output: Annotated[ListOutput, typer.Option("--output", "-o", help="How to print it.")] = ListOutput.table,
) -> None:
    """List the models in the store, the newest first."""
    console = Console()
    with _in_our_words():
        found = ModelStore().models(None if name is None else ModelTag.parse(name).name)
    rows: list[_Row] = [
        {"tag": str(model.tag), "size": _size(model), "created": model.info.creation_time} for model in found
    ]
    if output is ListOutput.json:
        console.result(json.dumps(rows, indent=2))
    else:
        cells = [[row["tag"], f"{row['size'] / 1e6:.1f} MB", row["created"]] for row in rows]
        console.table(["tag", "size", "created"], cells)


@app.command()
def get(
    tag: ModelArgument,
    output: Annotated[
        GetOutput, typer.Option("--output", "-o", help="What is said of it, or the folder it is in.")
    ] = GetOutput.json,
) -> None:
    """Show a model."""
    with _in_our_words():
        model = ModelStore().get(tag)
    Console().result(model.path if output is GetOutput.path else json.dumps(asdict(model.info), indent=2))


@app.command()
def delete(
    tags: Annotated[list[str], typer.Argument(metavar="TAG...", help="`name:version`, or `name:latest`.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete models from the store. Bentos and images that hold them stay as they are."""
    console = Console()
    store = ModelStore()
    with _in_our_words():
        found = [store.get(tag).tag for tag in tags]  # all are found before the first is deleted
        for tag in dict.fromkeys(found):
            if yes or typer.confirm(f"delete {tag}?", err=True):
                store.delete(tag)
                console.info(f"deleted {tag}")


@app.command("export")
def export(
    tag: ModelArgument,
    path: Annotated[
        str,
        typer.Argument(
            metavar="[PATH]",
            help="The file, whose ending says how it is packed: .bentomodel (tar.xz), .tar, .tar.gz, "
            ".tar.xz, .tar.bz2 or .zip; or a folder for `<name>-<version>.bentomodel`.",
        ),
    ] = ".",
) -> None:
    """Write a model into one file, for `bento models import` elsewhere.

    \b
    Examples:
      bento models export summarizer:v2
      bento models export summarizer:v2 /media/usb/summarizer.tar
    """
    with _in_our_words():
        Console().result(str(export_model(ModelStore().get(tag), path)))


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="A file that `bento models export` wrote, or a folder.")],
) -> None:
    """Put the model of such a file into the store."""
    with _in_our_words():
        Console().result(str(import_model(str(path), ModelStore()).tag))


@contextmanager
def _in_our_words() -> Iterator[None]:
    """What the runtime's store raises becomes an error of the command line."""
    try:
        yield
    except NotFound as error:
        raise NotFoundError(error.message) from None
    except BentoMLException as error:
        raise BentoError(error.message) from None
    except ValueError as error:
        raise BentoError(str(error)) from None


def _size(model: StoredModel) -> int:
    return sum(path.lstat().st_size for path in Path(model).rglob("*"))
