"""The Bento that somebody names: from the store, or built of a project first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bento_cli.arguments import Arguments
from bento_cli.build import plan_build
from bento_cli.build.locking import kept_locks, lock_build
from bento_cli.build.named import find_project
from bento_cli.build.pinning import pin_models
from bento_cli.build.writing import write_bento
from bento_cli.errors import BentoError, NotFoundError
from bento_cli.store import Store
from bento_cli.store.bento import Bento


class Voice(Protocol):
    """Hears of what happens, and what a person should know of it."""

    def info(self, text: str, /) -> None:
        """Something that happens."""
        ...

    def warn(self, text: str, /) -> None:
        """Something that a person should know and that stops nothing."""
        ...


def built(
    text: str | Bento,
    voice: Voice,
    *,
    folder: Path = Path(),
    arguments: Arguments | None = None,
    leave_out: Sequence[Path] = (),
) -> Bento:
    """The Bento that an argument names, a project built first.

    Args:
        folder: in which a service's modules are, and to which a path is relative.
        arguments: what a project is built with, over what its bentofile says.
        leave_out: files of the project that are not part of it.

    Raises:
        BentoError: there is neither a project nor a Bento, or it cannot be built.
    """
    named = find_project(_below(folder, text), folder=folder) if isinstance(text, str) else None
    if named is None:
        if arguments:
            raise BentoError(
                f"{text} is built already, with arguments of its own",
                hint="`--arg` and `--arg-file` go with a project's folder",
            )
        return text if isinstance(text, Bento) else _from_store(text)
    plan = plan_build(named.root, file=named.file, arguments=arguments, leave_out=leave_out)
    plan = pin_models(lock_build(plan, kept_locks(voice.info)))
    for note in (*plan.notes, *plan.container_notes):
        voice.warn(note)
    bento, is_new = write_bento(plan, Store())
    voice.info(f"{'built' if is_new else 'unchanged:'} {bento.tag}")
    return bento


def _below(folder: Path, text: str) -> str:
    """A folder's path seen from here; anything else as it is."""
    return str(folder / text) if (folder / text).is_dir() else text


def _from_store(text: str) -> Bento:
    try:
        return Store().get(text)
    except NotFoundError as error:
        if error.hint is None:
            raise NotFoundError(error.message, hint="name a project's folder or a Bento's tag") from None
        raise
