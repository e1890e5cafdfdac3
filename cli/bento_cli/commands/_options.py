"""What the commands have in common: how they are made, and arguments that several of them take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bento_cli.bento import Bento
from bento_cli.bentofile import FILE_NAME
from bento_cli.build import BuildPlan, plan_build, write_bento
from bento_cli.console import Console
from bento_cli.errors import BentoError, NotFoundError
from bento_cli.store import Store

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results, warnings and errors.")]

TagArgument = Annotated[str, typer.Argument(metavar="TAG", help="`name`, `name:latest` or `name:version`.")]


def is_project(text: str) -> bool:
    """Whether an argument names a project's folder rather than a Bento's tag."""
    return Path(text).is_dir() or "/" in text or text.endswith(".yaml")


def project_root(text: str) -> Path:
    """The project's folder, also when its bentofile is what was named."""
    path = Path(text)
    return path.parent if path.name == FILE_NAME else path


def built(text: str, console: Console, leave_out: Sequence[Path] = ()) -> Bento:
    """The Bento that an argument names, a project built first.

    Args:
        leave_out: files of the project that are not part of it.

    Raises:
        BentoError: there is neither a project nor a Bento, or it cannot be built.
    """
    if not is_project(text):
        try:
            return Store().get(text)
        except NotFoundError as error:
            if error.hint is None:
                raise NotFoundError(error.message, hint="name a project's folder or a Bento's tag") from None
            raise
    plan = plan_build(project_root(text), leave_out=leave_out)
    say_notes(plan, console)
    bento, is_new = write_bento(plan, Store())
    console.info(f"{'built' if is_new else 'unchanged:'} {bento.tag}")
    return bento


def say_notes(plan: BuildPlan, console: Console) -> None:
    """What was noticed while planning."""
    for note in plan.notes:
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
