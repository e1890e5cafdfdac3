"""What is known to go wrong where the existing implementation takes part, in words."""

from __future__ import annotations

from dataclasses import dataclass

from tests.compat.rows import ROWS, Row
from tests.compat.servers import OURS, THEIRS, Column, Implementation

SUBMITS = (
    "task: submit, status, get",
    "task by name of its argument",
    "task that gives an Image",
    "task that fails",
    "task that has not ended",
    "a task does not wait for another",
    "task: retry",
    "task: cancel",
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One of its faults, and where it shows.

    Args:
        client: only with clients of this implementation; with any when None.
        kind: only with clients of this kind.
        is_certain: False where it depends on how a network cuts a stream.
    """

    words: str
    rows: tuple[str, ...]
    client: Implementation | None = None
    kind: str | None = None
    server: Implementation | None = None
    is_certain: bool = True

    def shows(self, column: Column, row: Row) -> bool:
        return (
            row.name in self.rows
            and self.client in {None, column.client}
            and self.kind in {None, column.kind}
            and self.server in {None, column.server}
        )


FAULTS = [
    Fault(
        words="its server cannot load a class that declares this",
        rows=tuple(row.name for row in ROWS.values() if row.project not in THEIRS.projects),
        server=THEIRS,
    ),
    Fault(
        words="its clients take an answer for JSON unless the schema says `string` or `file`",
        rows=("no annotation, a string", "a response made by hand"),
        client=THEIRS,
    ),
    Fault(
        words="its clients send only images that were read from a file",
        rows=("Image made in memory",),
        client=THEIRS,
    ),
    Fault(
        words="its clients refuse an open file, which is no instance of `typing.BinaryIO`",
        rows=("Path from an open file",),
        client=THEIRS,
    ),
    Fault(words="its clients cannot send bytes in JSON", rows=("bytes",), client=THEIRS),
    Fault(
        words="its clients cannot leave out a file by giving None",
        rows=("Optional Image, None", "Optional Path, None"),
        client=THEIRS,
    ),
    Fault(
        words="its clients take a root model as one value only",
        rows=("root model, by its fields",),
        client=THEIRS,
    ),
    Fault(
        words="its clients refuse names that the schema does not list",
        rows=("**kwargs, flat",),
        client=THEIRS,
    ),
    Fault(
        words="its async client reads a root file from a blocking iterator, which httpx refuses",
        rows=("root Image", "root Path"),
        client=THEIRS,
        kind="async",
    ),
    Fault(
        words="its sync client's `submit` asks for an attribute that it does not have",
        rows=SUBMITS,
        client=THEIRS,
        kind="sync",
    ),
    Fault(
        words="its clients take each chunk of the network for one item",
        rows=("stream of TypedDict", "stream of int"),
        client=THEIRS,
        is_certain=False,
    ),
    Fault(
        words="its clients ask for `/readyz` at the root only, and its server answers below the path only",
        rows=("path_prefix, is_ready()",),
        client=THEIRS,
        server=THEIRS,
    ),
    Fault(
        words="its server gives the whole list as the one positional argument",
        rows=("*args",),
        server=THEIRS,
    ),
    Fault(
        words="its server asks for an object `kwargs`, and takes no other names",
        rows=("**kwargs, flat", "**kwargs, none"),
        server=THEIRS,
    ),
    Fault(
        words="its server cannot call an endpoint that is named as a member of its own client",
        rows=("a name that the client has itself",),
        server=THEIRS,
    ),
    Fault(
        words="its server's schema calls a text stream with a media type an array",
        rows=("stream with ContentType",),
        server=THEIRS,
    ),
    Fault(
        words="its server ends a stream that broke off as if it were complete",
        rows=("stream that breaks off is no success",),
        server=THEIRS,
    ),
    Fault(
        words="its server writes numbers of a stream without anything between them",
        rows=("stream of int",),
        server=THEIRS,
        is_certain=False,
    ),
    Fault(words="its server cannot cancel a task", rows=("task: cancel",), server=THEIRS),
]


def known_fault(column: Column, row: Row) -> Fault | None:
    """The fault that shows in this cell; none may where only our own code takes part."""
    if column.client is OURS and column.server is OURS:
        return None
    return next((fault for fault in FAULTS if fault.shows(column, row)), None)


def fault_of(column: Column, row: Row) -> str | None:
    fault = known_fault(column, row)
    return None if fault is None else fault.words
