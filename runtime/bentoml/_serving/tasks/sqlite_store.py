"""Tasks in an SQLite file: for all workers on one machine, of one replica or of several."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from bentoml._serving.tasks.store import (
    RETENTION_S,
    Task,
    TaskRequest,
    TaskResponse,
    headers_from,
    headers_text,
)
from bentoml._task_status import TaskStatus
from bentoml.exceptions import BentoMLConfigException, ServiceUnavailable, TooManyRequests

_APPLICATION_ID: Final = 0x62746B73
_SCHEMA_VERSION: Final = 1

# Bodies have tables of their own: an update rewrites the whole row, and leases are renewed all the time.
_SCHEMA: Final = """
CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    service TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    status TEXT NOT NULL,
    queued_at REAL NOT NULL,
    created_at REAL NOT NULL,
    executed_at REAL,
    changed_at REAL NOT NULL,
    worker TEXT,
    leased_until REAL
);
CREATE TABLE requests (
    id TEXT PRIMARY KEY REFERENCES tasks ON DELETE CASCADE,
    headers TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE responses (
    id TEXT PRIMARY KEY REFERENCES tasks ON DELETE CASCADE,
    status INTEGER NOT NULL,
    headers TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX pending ON tasks (service, queued_at) WHERE status = 'pending';
CREATE INDEX leased ON tasks (service, leased_until) WHERE status = 'in_progress';
CREATE INDEX idle ON tasks (changed_at) WHERE status != 'in_progress';
"""

_BUSY_TIMEOUT_S: Final = 30.0
_JOURNAL_BYTES: Final = 16 * 2**20
_LARGEST_BLOB: Final = 10**9 - 2**20
_VACUUMED_PAGES: Final = 1024
_FORGOTTEN_AT_ONCE: Final = 16


class SQLiteTaskStore:
    """Keeps the tasks of a service in a file that only its user may read.

    Each process makes a store of its own after it was forked. The file lies on a file system of this
    machine: what coordinates the processes is memory that they share.

    Args:
        service: whose tasks; several services may share a file.
        retention_s: how long a task is kept after its last change, unless it runs.
        max_bytes: how large the file's content may become; the tasks that ended first go first.

    Raises:
        BentoMLConfigException: the file is no task store, one of another version, or cannot be made.
    """

    def __init__(
        self, path: Path, *, service: str, retention_s: float = RETENTION_S, max_bytes: int = 2 * 2**30
    ) -> None:
        self.largest_body = min(max_bytes, _LARGEST_BLOB)
        self._path = path
        self._service = service
        self._retention_s = retention_s
        self._max_bytes = max_bytes
        self._local = threading.local()
        self._opened: list[_Opened] = []
        self._is_closed = False
        self._opening = threading.Lock()
        try:
            _make_file(path)
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise BentoMLConfigException(f"{path}: cannot keep tasks here: {error}") from error
        except BentoMLConfigException:
            self.close()
            raise

    def submit(self, request: TaskRequest) -> None:
        now = time.time()
        with self._writing() as connection:
            if not self._make_room(connection, len(request.body)):
                raise TooManyRequests(
                    f"no room for the task: those that wait or run fill the {self._max_bytes} bytes for tasks"
                )
            connection.execute(
                "INSERT INTO tasks (id, service, endpoint, status, queued_at, created_at, changed_at)"
                " VALUES (?, ?, ?, 'pending', ?, ?, ?)",
                (request.task_id, self._service, request.endpoint, now, now, now),
            )
            connection.execute(
                "INSERT INTO requests VALUES (?, ?, ?)",
                (request.task_id, headers_text(request.headers), request.body),
            )

    def claim(self, worker: str, lease_s: float) -> TaskRequest | None:
        # Asked many times a second by every worker: as long as nothing waits, nobody takes the write lock.
        with self._reading() as connection:
            if self._oldest_pending(connection) is None:
                return None
        now = time.time()
        with self._writing() as connection:
            task_id = self._oldest_pending(connection)
            if task_id is None:
                return None
            connection.execute(
                "UPDATE tasks SET status = 'in_progress', worker = ?, leased_until = ?,"
                " executed_at = ?, changed_at = ? WHERE id = ?",
                (worker, now + lease_s, now, now, task_id),
            )
        return self.request(task_id)

    def renew(self, worker: str, task_ids: Collection[str], lease_s: float) -> frozenset[str]:
        held = (
            "service = ? AND worker = ? AND status = 'in_progress' AND id IN (SELECT value FROM json_each(?))"
        )
        which = (self._service, worker, json.dumps(list(task_ids)))
        with self._writing() as connection:
            connection.execute(
                f"UPDATE tasks SET leased_until = ? WHERE {held}",  # noqa: S608  # a constant of this method
                (time.time() + lease_s, *which),
            )
            rows = connection.execute(f"SELECT id FROM tasks WHERE {held}", which)  # noqa: S608  # as above
            return frozenset(task_id for (task_id,) in rows)

    def release(self, worker: str, task_id: str) -> None:
        with self._writing() as connection:
            connection.execute(
                "UPDATE tasks SET status = 'pending', worker = NULL, leased_until = NULL, executed_at = NULL,"
                " queued_at = 0, changed_at = ?"
                " WHERE id = ? AND service = ? AND worker = ? AND status = 'in_progress'",
                (time.time(), task_id, self._service, worker),
            )

    def finish(self, worker: str, task_id: str, response: TaskResponse) -> bool:
        with self._writing() as connection:
            held = connection.execute(
                "SELECT 1 FROM tasks WHERE id = ? AND service = ? AND worker = ? AND status = 'in_progress'",
                (task_id, self._service, worker),
            ).fetchone()
            if held is not None:
                _end(connection, task_id, response)
        return held is not None

    def cancel(self, task_id: str) -> bool:
        with self._writing() as connection:
            changed = connection.execute(
                "UPDATE tasks SET status = 'canceled', worker = NULL, leased_until = NULL, changed_at = ?"
                " WHERE id = ? AND service = ? AND status IN ('pending', 'in_progress')",
                (time.time(), task_id, self._service),
            )
            return changed.rowcount > 0

    def expire(self, response: TaskResponse) -> tuple[str, ...]:
        ended = "SELECT id FROM tasks WHERE service = ? AND status = 'in_progress' AND leased_until < ?"
        which = (self._service, time.time())
        with self._reading() as connection:
            if connection.execute(ended, which).fetchone() is None:
                return ()
        with self._writing() as connection:
            task_ids = tuple(task_id for (task_id,) in connection.execute(ended, which).fetchall())
            for task_id in task_ids:
                _end(connection, task_id, response)
        return task_ids

    def status(self, task_id: str) -> Task | None:
        with self._reading() as connection:
            row = connection.execute(
                "SELECT endpoint, status, created_at, executed_at FROM tasks WHERE id = ? AND service = ?",
                (task_id, self._service),
            ).fetchone()
        if row is None:
            return None
        endpoint, status, created_at, executed_at = row
        return Task(
            task_id=task_id,
            endpoint=endpoint,
            status=TaskStatus(status),
            created_at=created_at,
            executed_at=executed_at,
        )

    def request(self, task_id: str) -> TaskRequest | None:
        with self._reading() as connection:
            row = connection.execute(
                "SELECT endpoint, headers, body FROM tasks JOIN requests USING (id)"
                " WHERE id = ? AND service = ?",
                (task_id, self._service),
            ).fetchone()
        if row is None:
            return None
        endpoint, headers, body = row
        return TaskRequest(task_id=task_id, endpoint=endpoint, headers=headers_from(headers), body=body)

    def response(self, task_id: str) -> TaskResponse | None:
        with self._reading() as connection:
            row = connection.execute(
                "SELECT responses.status, headers, body FROM tasks JOIN responses USING (id)"
                " WHERE id = ? AND service = ?",
                (task_id, self._service),
            ).fetchone()
        if row is None:
            return None
        status, headers, body = row
        return TaskResponse(status=status, headers=headers_from(headers), body=body)

    def purge(self) -> None:
        # All of it in steps, so that others write in between.
        before = time.time() - self._retention_s
        while self._forget_old(before):
            pass
        with self._writing() as connection:
            self._make_room(connection, 0)
        with self._reading() as connection:
            free, last = _free_pages(connection), -1
            while free not in (0, last):
                connection.execute(f"PRAGMA incremental_vacuum({_VACUUMED_PAGES})").fetchall()
                free, last = _free_pages(connection), free

    def close(self) -> None:
        with self._opening:
            self._is_closed = True
        for opened in self._opened:
            with opened.in_use:
                opened.connection.close()

    def _oldest_pending(self, connection: sqlite3.Connection) -> str | None:
        row = connection.execute(
            "SELECT id FROM tasks WHERE service = ? AND status = 'pending' ORDER BY queued_at LIMIT 1",
            (self._service,),
        ).fetchone()
        return None if row is None else str(row[0])

    def _forget_old(self, before: float) -> bool:
        with self._writing() as connection:
            forgotten = connection.execute(
                "DELETE FROM tasks WHERE id IN (SELECT id FROM tasks"
                " WHERE status != 'in_progress' AND changed_at < ? LIMIT ?)",
                (before, _FORGOTTEN_AT_ONCE),
            )
            return forgotten.rowcount > 0

    def _make_room(self, connection: sqlite3.Connection, size: int) -> bool:
        """Forget ended tasks until `size` more bytes fit; False where they do not even so."""
        while _used_bytes(connection) + size > self._max_bytes:
            forgotten = connection.execute(
                "DELETE FROM tasks WHERE id IN (SELECT id FROM tasks"
                " WHERE status != 'in_progress' AND status != 'pending' ORDER BY changed_at LIMIT ?)",
                (_FORGOTTEN_AT_ONCE,),
            )
            if not forgotten.rowcount:
                return False
        return True

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            opened = self._of_this_thread()
            with opened.in_use:
                yield opened.connection
        except sqlite3.Error as error:
            raise ServiceUnavailable(f"task store {self._path}: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as connection:
            # One that begins by reading fails at its first write, without a wait, if another wrote meanwhile.
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _of_this_thread(self) -> _Opened:
        opened: _Opened | None = getattr(self._local, "opened", None)
        if opened is None:
            with self._opening:
                if self._is_closed:
                    raise ServiceUnavailable(f"task store {self._path}: closed")
                opened = _Opened(self._path)
                self._opened.append(opened)
            opened.configure()
            self._local.opened = opened
        return opened

    def _prepare(self) -> None:
        connection = self._of_this_thread().connection
        if not self._is_prepared(connection):
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            _use_write_ahead_log(connection)
            with self._writing():
                if not self._is_prepared(connection):
                    for statement in _SCHEMA.split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                    connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")

    def _is_prepared(self, connection: sqlite3.Connection) -> bool:
        if not _number(connection, "SELECT count(*) FROM sqlite_master"):
            return False
        if _number(connection, "PRAGMA application_id") != _APPLICATION_ID:
            raise BentoMLConfigException(f"{self._path}: a database of something else, no task store")
        version = _number(connection, "PRAGMA user_version")
        if version != _SCHEMA_VERSION:
            raise BentoMLConfigException(
                f"{self._path}: a task store of version {version}, expected {_SCHEMA_VERSION};"
                " choose another file, or delete it with the tasks that it holds"
            )
        return True


class _Opened:
    """A thread's connection. Whoever closes it from another one has to find it at rest."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(
            path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        self.in_use = threading.RLock()

    def configure(self) -> None:
        with self.in_use:
            self.connection.execute("PRAGMA foreign_keys = ON")
            self.connection.execute("PRAGMA synchronous = NORMAL")
            self.connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}").fetchone()


def _end(connection: sqlite3.Connection, task_id: str, response: TaskResponse) -> None:
    connection.execute(
        "UPDATE tasks SET status = ?, worker = NULL, leased_until = NULL, changed_at = ? WHERE id = ?",
        (response.outcome.value, time.time(), task_id),
    )
    connection.execute(
        "INSERT INTO responses VALUES (?, ?, ?, ?)",
        (task_id, response.status, headers_text(response.headers), response.body),
    )


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


def _free_pages(connection: sqlite3.Connection) -> int:
    return _number(connection, "PRAGMA freelist_count")


def _used_bytes(connection: sqlite3.Connection) -> int:
    pages = _number(connection, "PRAGMA page_count") - _free_pages(connection)
    return pages * _number(connection, "PRAGMA page_size")


def _make_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Only a file that is new is opened here: closing one that SQLite has open would drop SQLite's locks.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Readers and a writer at once. Here alone SQLite does not wait for another process by itself."""
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            with closing(connection.execute("PRAGMA journal_mode = WAL")) as answer:
                answer.fetchone()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
