"""What the toolchain says to a person: data on stdout, all else on stderr, the same without colour."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.table import Table

from bento_cli.errors import BentoError


@dataclass(frozen=True)
class Step:
    """A piece of work that goes on: tells a person what it is at, and which parts of it are done."""

    at: Callable[[str], None]
    done: Callable[[str], None]


class Console:
    """Steps, warnings and errors on stderr; results on stdout.

    Args:
        quiet: say nothing on stderr but warnings and errors.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        # rich honours NO_COLOR, FORCE_COLOR and TERM by itself. A pipe has no width: what reads it wants
        # each row of a table on one line.
        out_width, err_width = (None if stream.isatty() else 10_000 for stream in (sys.stdout, sys.stderr))
        self._err = RichConsole(stderr=True, highlight=False, emoji=False, soft_wrap=True, width=err_width)
        self._out = RichConsole(highlight=False, emoji=False, soft_wrap=True, width=out_width)

    def info(self, text: str) -> None:
        """A line about what happens."""
        if not self._quiet:
            self._err.print(escape(text))

    def plain(self, text: str) -> None:
        """Text of another program, as it is and without colour, on stderr."""
        if not self._quiet:
            self._err.print(text, markup=False, style="dim")

    def warn(self, text: str) -> None:
        """Something that a person should know and that stops nothing."""
        self._err.print(f"[yellow]warning:[/] {escape(text)}")

    def hint(self, text: str) -> None:
        """What to type next."""
        if not self._quiet:
            self._err.print(f"\n[cyan]hint:[/] {escape(text)}")

    def error(self, error: BentoError) -> None:
        """An error with what belongs to it."""
        if error.details:
            self._err.print(error.details.rstrip("\n"), markup=False, style="dim")
        self._err.print(f"[bold red]error:[/] {escape(error.message)}")
        if error.hint:
            self._err.print(f"\n[cyan]hint:[/] {escape(error.hint)}")

    def log(self, source: str, line: str, colour: str) -> None:
        """A line of something that runs, behind the name of what it comes from."""
        self._err.print(f"[{colour}]{escape(source)}[/] {escape(line)}")

    @contextmanager
    def step(self, text: str) -> Iterator[Step]:
        """A piece of work: on a terminal a spinner with what it is at, then one line with its time."""
        started = time.monotonic()
        if self._quiet:
            yield Step(at=_nothing, done=_nothing)
            return
        if not self._err.is_terminal:
            yield Step(at=_nothing, done=lambda detail: self.info(f"  {detail}"))
        else:
            with self._err.status(escape(text)) as status:
                yield Step(
                    at=lambda detail: status.update(f"{escape(text)} [dim]{escape(detail)}[/]"),
                    done=lambda detail: self._err.print(f"  [dim]{escape(detail)}[/]"),
                )
        self._err.print(f"[green]✓[/] {escape(text)} [dim]{time.monotonic() - started:.1f} s[/]")

    def result(self, text: str) -> None:
        """Data: a line on stdout."""
        sys.stdout.write(text + "\n")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, to_stdout: bool = True) -> None:
        """Rows where people compare: data by default, else something said on the way."""
        if self._quiet and not to_stdout:
            return
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        (self._out if to_stdout else self._err).print(table)


def _nothing(_: str) -> None:
    return
