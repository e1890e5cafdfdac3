"""What the toolchain says to a person: data on stdout, all else on stderr, the same without colour."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.table import Table

from bento_cli.errors import BentoError


class Console:
    """Steps, warnings and errors on stderr; results on stdout.

    Args:
        quiet: say nothing on stderr but warnings and errors.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        # rich honours NO_COLOR, FORCE_COLOR and TERM by itself.
        self._err = RichConsole(stderr=True, highlight=False, soft_wrap=True)
        self._out = RichConsole(highlight=False, soft_wrap=True)

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
    def step(self, text: str) -> Iterator[Callable[[str], None]]:
        """A piece of work: on a terminal a spinner with what it is at, then one line with its time.

        Gives a function that says what the work is at; elsewhere than on a terminal each is a line.
        """
        started = time.monotonic()
        if self._quiet:
            yield lambda _: None
            return
        if not self._err.is_terminal:
            self._err.print(escape(text))
            yield lambda detail: self._err.print(f"  {escape(detail)}")
        else:
            with self._err.status(escape(text)) as status:
                yield lambda detail: status.update(f"{escape(text)} [dim]{escape(detail)}[/]")
        self._err.print(f"[green]✓[/] {escape(text)} [dim]{time.monotonic() - started:.1f} s[/]")

    def result(self, text: str) -> None:
        """Data: a line on stdout."""
        sys.stdout.write(text + "\n")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, to_stdout: bool = True) -> None:
        """Rows where people compare: data by default, else something said on the way."""
        if self._quiet and not to_stdout:
            return
        console = self._out if to_stdout else self._err
        is_terminal = console.is_terminal
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for column in columns:
            table.add_column(column, overflow="fold", no_wrap=not is_terminal)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        # A pipe has no width: what reads it wants each row on a line.
        console.print(table, width=None if is_terminal else 1000)
