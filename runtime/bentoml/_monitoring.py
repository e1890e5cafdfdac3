"""The data log of `bentoml.monitor`: what a model was given and what it said, as lines of JSON in files."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal, get_args

from bentoml import _trace
from bentoml._context import server_context

if TYPE_CHECKING:
    from bentoml._config import MonitoringOptions

Role = Literal["feature", "prediction", "target"]
DataType = Literal["numerical", "categorical", "numerical_sequence"]

_OURS = ("timestamp", "request_id", "trace_id")  # columns that every record has


@contextmanager
def monitor(name: str) -> Iterator[Monitor]:
    """Records values, which are written as one record when the block ends, or as several for batches.

    They go to `monitoring/<name>/data/`, the names and types of the columns to `monitoring/<name>/schema/`.
    A block that raises writes nothing.

    Raises:
        ValueError: the columns have different lengths, or are not those of the block before.
    """
    recorded = Monitor(name)
    yield recorded
    _data_log.write(recorded)


class Monitor:
    """The columns of one block of `bentoml.monitor`."""

    def __init__(self, name: str) -> None:
        if name in ("", ".", "..") or name != Path(name).name:
            raise ValueError(f"a monitor's name is the name of a folder, found {name!r}")
        self.name = name
        self.columns: dict[str, Column] = {}
        self.values: dict[str, list[object]] = {}

    def log(self, data: object, name: str, role: Role, data_type: DataType) -> None:
        """Record one value of the column `name`."""
        self.log_batch([data], name, role, data_type)

    def log_batch(self, data_batch: Iterable[object], name: str, role: Role, data_type: DataType) -> None:
        """Record a value of the column `name` for each record of a batch."""
        for found, valid in ((role, get_args(Role)), (data_type, get_args(DataType))):
            if found not in valid:
                raise ValueError(f"column {name!r}: expected one of {', '.join(valid)}, found {found!r}")
        name = f"{name}_" if name in _OURS else name
        self.columns[name] = Column(name, role, data_type)
        self.values.setdefault(name, []).extend(data_batch)

    def records(self) -> list[dict[str, object]]:
        """One mapping of columns to values for each record."""
        lengths = {name: len(values) for name, values in self.values.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise ValueError(
                f"monitor {self.name!r}: columns must have as many values as each other; {shown}"
            )
        return [dict(zip(self.values, row, strict=True)) for row in zip(*self.values.values(), strict=True)]


@dataclass(frozen=True)
class Column:
    """A column's part of the schema."""

    name: str
    role: Role
    type: DataType

    def __str__(self) -> str:
        return f"{self.name} ({self.role}, {self.type})"


def configure_monitoring(*, enabled: bool = True, options: MonitoringOptions | None = None) -> None:
    """Say where data goes, as a service's `monitoring` does; files that are open are closed."""
    folder = Path("monitoring" if options is None else options.log_path)
    _data_log.configure(folder if enabled else None)


class _DataLog:
    """The files of all monitors of this process."""

    def __init__(self) -> None:
        self._folder: Path | None = Path("monitoring")
        self._files: dict[str, TimedRotatingFileHandler] = {}
        self._columns: dict[str, dict[str, Column]] = {}
        self._lock = Lock()

    def configure(self, folder: Path | None) -> None:
        with self._lock:
            for file in self._files.values():
                file.close()
            self._files.clear()
            self._columns.clear()
            self._folder = folder

    def write(self, recorded: Monitor) -> None:
        records = recorded.records()
        if self._folder is None or not records:
            return
        context = _trace.current.get()
        common = {
            "timestamp": datetime.now(timezone.utc).isoformat(),
            "request_id": "" if context is None else context.span_id,
            "trace_id": "" if context is None else context.trace_id,
        }
        lines = [json.dumps({**record, **common}, default=_plain) for record in records]
        with self._lock:
            file = self._file(self._folder / recorded.name, recorded)
            for line in lines:
                file.handle(logging.makeLogRecord({"msg": line}))

    def _file(self, folder: Path, recorded: Monitor) -> TimedRotatingFileHandler:
        columns = self._columns.setdefault(recorded.name, recorded.columns)
        if columns != recorded.columns:
            known, found = (", ".join(map(str, each.values())) for each in (columns, recorded.columns))
            raise ValueError(f"monitor {recorded.name!r}: its columns are {known}; found {found}")
        if recorded.name not in self._files:
            self._write_schema(folder / "schema", columns)
            (folder / "data").mkdir(parents=True, exist_ok=True)
            self._files[recorded.name] = TimedRotatingFileHandler(
                folder / "data" / f"data.{server_context.worker_index}.log", when="midnight", encoding="utf-8"
            )
        return self._files[recorded.name]

    def _write_schema(self, folder: Path, columns: Mapping[str, Column]) -> None:
        schema = {
            "meta_data": {
                "bento_name": server_context.bento_name or server_context.service_name,
                "bento_version": server_context.bento_version or "not available",
            },
            "columns": [asdict(column) for column in columns.values()],
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"schema.{server_context.worker_index}.log").write_text(json.dumps(schema) + "\n")


_data_log = _DataLog()


def _plain(value: object) -> object:
    """What NumPy and its kin hold, as plain Python values."""
    tolist = getattr(value, "tolist", None)
    if callable(tolist):
        return tolist()
    raise TypeError(f"a monitor records numbers, text and sequences of them, found {type(value).__name__}")
