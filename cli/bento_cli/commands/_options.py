"""What the commands have in common: how they are made, and arguments that several of them take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bento_cli.arguments import argument_value, as_arguments, load_arguments
from bento_cli.console import Console
from bento_cli.errors import BentoError

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results, warnings and errors.")]

Args = Annotated[
    list[str] | None,
    typer.Option(
        "--arg",
        metavar="NAME=VALUE",
        help="For `bentoml.use_arguments`: a value of JSON, else text; may be repeated.",
    ),
]

ArgFiles = Annotated[
    list[Path] | None,
    typer.Option("--arg-file", metavar="FILE", help="YAML or JSON with such arguments; may be repeated."),
]

TagArgument = Annotated[str, typer.Argument(metavar="TAG", help="`name`, `name:latest` or `name:version`.")]


def given_arguments(pairs: Sequence[str] | None, files: Sequence[Path] | None) -> dict[str, object]:
    """What `--arg` and `--arg-file` say; `--arg` wins, and later ones of each.

    Raises:
        BentoError: one is no `name=value`, or a file cannot be read.
    """
    said = {name: argument_value(text) for name, text in map(key_value, pairs or ())}
    return {**load_arguments(files or ()), **as_arguments(said)}


def say_notes(notes: Sequence[str], console: Console) -> None:
    """What was noticed while planning."""
    for note in notes:
        console.warn(note)


def key_value(text: str) -> tuple[str, str]:
    """`key=value` of an option.

    Raises:
        BentoError: there is no `=`.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise BentoError(f"{text!r}: expected `key=value`")
    return key, value


def single(function: Callable[..., None]) -> typer.Typer:
    """A typer app with one command: what each module of commands holds under `app`."""
    own = typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    own.command()(function)
    return own
