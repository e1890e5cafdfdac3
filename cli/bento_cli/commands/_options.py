"""What the commands have in common: how they are made, and arguments that several of them take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bento_cli.arguments import Arguments, argument_value, as_arguments, load_arguments
from bento_cli.bento import Bento
from bento_cli.build import plan_build
from bento_cli.console import Console
from bento_cli.errors import BentoError, NotFoundError
from bento_cli.project import find_project
from bento_cli.store import Store
from bento_cli.writing import write_bento

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


def built(
    text: str, console: Console, *, arguments: Arguments | None = None, leave_out: Sequence[Path] = ()
) -> Bento:
    """The Bento that an argument names, a project built first.

    Args:
        arguments: what a project is built with, over what its bentofile says.
        leave_out: files of the project that are not part of it.

    Raises:
        BentoError: there is neither a project nor a Bento, or it cannot be built.
    """
    named = find_project(text)
    if named is None:
        if arguments:
            raise BentoError(
                f"{text} is built already, with arguments of its own",
                hint="`--arg` and `--arg-file` go with a project's folder",
            )
        try:
            return Store().get(text)
        except NotFoundError as error:
            if error.hint is None:
                raise NotFoundError(error.message, hint="name a project's folder or a Bento's tag") from None
            raise
    plan = plan_build(named.root, file=named.file, arguments=arguments, leave_out=leave_out)
    say_notes((*plan.notes, *plan.container_notes), console)
    bento, is_new = write_bento(plan, Store())
    console.info(f"{'built' if is_new else 'unchanged:'} {bento.tag}")
    return bento


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
