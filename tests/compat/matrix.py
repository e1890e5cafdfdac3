"""Every row played through every client on every server, as data and as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from tests.compat.rows import ROWS, Row
from tests.compat.servers import IMPLEMENTATIONS, Column, Implementation, drive

# Column → row's name → None, or what went wrong.
Matrix: TypeAlias = Mapping[Column, Mapping[str, "str | None"]]
FaultOf: TypeAlias = Callable[[Column, Row], "str | None"]

COLUMNS = [
    Column(client=client, kind=kind, server=server)
    for client in reversed(IMPLEMENTATIONS)
    for server in IMPLEMENTATIONS
    for kind in ("sync", "async")
]


def played(addresses: Mapping[str, Mapping[str, str]], folder: Path) -> Matrix:
    """Play all rows: the clients of both implementations at the same time."""

    def play(client: Implementation) -> dict[Column, dict[str, str | None]]:
        columns = [column for column in COLUMNS if column.client is client]
        calls = [
            {
                "kind": column.kind,
                "addresses": addresses[column.server.name],
                "rows": [row.name for row in ROWS.values() if is_served(column, row)],
            }
            for column in columns
        ]
        return dict(zip(columns, drive(client, calls, folder), strict=True))

    with ThreadPoolExecutor() as playing:
        theirs, ours = playing.map(play, IMPLEMENTATIONS)
    return {**theirs, **ours}


def is_served(column: Column, row: Row) -> bool:
    return row.project in column.server.projects


def as_text(matrix: Matrix, columns: Sequence[Column], fault_of: FaultOf) -> str:
    """A line for each row, a mark for each column, and what the marks stand for."""
    notes: dict[str, str] = {}
    lines = []
    width = max(map(len, ROWS))
    for row in ROWS.values():
        marks = []
        for column in columns:
            fault = fault_of(column, row)
            found = matrix[column].get(row.name, fault)
            if found is None:
                marks.append("pass")
            elif fault is None:
                marks.append("FAIL")
            else:
                marks.append(f"({notes.setdefault(fault, str(len(notes) + 1))})")
        lines.append(f"{row.name:{width}}  " + "".join(f"{mark:8}" for mark in marks).rstrip())
    return "\n".join(
        [*_head(columns, width), *lines, *(f"({mark}) {fault}" for fault, mark in notes.items())]
    )


def _head(columns: Sequence[Column], width: int) -> list[str]:
    parts = [
        ("client", [column.client.name for column in columns]),
        ("", [column.kind for column in columns]),
        ("server", [column.server.name for column in columns]),
    ]
    return [f"{name:>{width}}  " + "".join(f"{cell:8}" for cell in cells).rstrip() for name, cells in parts]
