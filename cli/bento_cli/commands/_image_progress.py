"""Images while they are built: a line for each on a terminal, else a line for what took its time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from rich.console import Console as RichConsole
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from bento_cli.console import Console
from bento_cli.engine import BuildProgress

# What took less is not worth a line.
_WORTH_A_LINE_S = 1.0


class ProgressKind(str, Enum):
    """How the builds are shown."""

    auto = "auto"
    plain = "plain"
    quiet = "quiet"


@contextmanager
def image_progress(console: Console, kind: ProgressKind = ProgressKind.auto) -> Iterator[BuildProgress]:
    """What shows builds as they go on."""
    if kind is ProgressKind.quiet:
        yield Silent()
    elif kind is ProgressKind.auto and sys.stderr.isatty():
        lines = Lines()
        with Live(lines, console=RichConsole(stderr=True), refresh_per_second=8):
            yield lines
    else:
        yield Plain(console, shows_output=kind is ProgressKind.plain)


class Silent:
    """Says nothing."""

    def step(self, image: str, text: str, /) -> None:
        """Part of BuildProgress."""

    def step_done(self, image: str, text: str, seconds: float, /) -> None:
        """Part of BuildProgress."""

    def output(self, image: str, line: str, /) -> None:
        """Part of BuildProgress."""

    def done(self, image: str, seconds: float, /) -> None:
        """Part of BuildProgress."""


class Plain(Silent):
    """A line for each step that took its time, and one for each image.

    Args:
        shows_output: what the steps write as well.
    """

    def __init__(self, console: Console, *, shows_output: bool) -> None:
        self._console = console
        self._shows_output = shows_output

    def step(self, image: str, text: str, /) -> None:
        """With all output, where it begins."""
        if self._shows_output:
            self._console.info(f"  {image}: {text}")

    def step_done(self, image: str, text: str, seconds: float, /) -> None:
        """Part of BuildProgress."""
        if seconds >= _WORTH_A_LINE_S and not self._shows_output:
            self._console.info(f"  {image}: {text} ({seconds:.1f} s)")

    def output(self, image: str, line: str, /) -> None:
        """Part of BuildProgress."""
        if self._shows_output:
            self._console.plain(f"  {image} | {line}")

    def done(self, image: str, seconds: float, /) -> None:
        """Part of BuildProgress."""
        self._console.info(f"  {image} is built ({seconds:.1f} s)")


class Lines(Silent):
    """A line for each image: what it is at, or how long it took; from its first step on."""

    def __init__(self) -> None:
        self._at: dict[str, str] = {}
        self._took: dict[str, float] = {}
        self._started = time.monotonic()
        self._spinner = Spinner("dots")

    def step(self, image: str, text: str, /) -> None:
        """Part of BuildProgress."""
        self._at[image] = text

    def done(self, image: str, seconds: float, /) -> None:
        """Part of BuildProgress."""
        self._took[image] = seconds

    def __rich__(self) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_column()
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right", style="dim")
        table.add_column(no_wrap=True, overflow="ellipsis", style="dim")
        for image, step in self._at.items():
            took = self._took.get(image)
            table.add_row(
                self._spinner if took is None else Text("✓", style="green"),
                Text(image),
                f"{time.monotonic() - self._started if took is None else took:.1f} s",
                Text(step if took is None else "built"),
            )
        return table
