from __future__ import annotations

import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from tests.runtime.conftest import DEADLINE_S, until
from tests.runtime.serving.tasks.conftest import OpenSQLite, answer, task_request

from bentoml._serving.tasks.sqlite_store import SQLiteTaskStore
from bentoml.exceptions import BentoMLConfigException, ServiceUnavailable, TooManyRequests

LONG_S = 60.0


def finish(store: SQLiteTaskStore, task_id: str, body: bytes = b"") -> None:
    store.submit(task_request(task_id, body))
    store.claim("worker", LONG_S)
    store.finish("worker", task_id, answer())


def test_only_its_user_may_read_the_file_and_what_belongs_to_it(
    open_sqlite: OpenSQLite, database: Path
) -> None:
    open_sqlite().submit(task_request("a"))

    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in database.parent.iterdir()}
    assert modes == {"tasks.db": "0o600", "tasks.db-shm": "0o600", "tasks.db-wal": "0o600"}


def test_tasks_outlive_the_process_that_wrote_them(open_sqlite: OpenSQLite) -> None:
    store = open_sqlite()
    finish(store, "done")
    store.submit(task_request("waiting"))
    store.close()

    again = open_sqlite()

    assert again.response("done") == answer()
    assert again.claim("another", LONG_S) == task_request("waiting")


def test_a_folder_that_does_not_exist_is_made(tmp_path: Path) -> None:
    path = tmp_path / "state" / "painter" / "tasks.db"

    SQLiteTaskStore(path, service="Painter").close()

    assert path.is_file()


def test_a_database_of_something_else_is_refused_and_left_alone(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    before = database.read_bytes()

    with pytest.raises(BentoMLConfigException, match=r"tasks\.db: a database of something else"):
        SQLiteTaskStore(database, service="Painter")
    assert database.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_alone(database: Path) -> None:
    database.write_text("milk, eggs, bread\n" * 100)

    with pytest.raises(BentoMLConfigException, match="not a database"):
        SQLiteTaskStore(database, service="Painter")
    assert database.read_text() == "milk, eggs, bread\n" * 100


def test_a_store_of_another_version_is_refused(open_sqlite: OpenSQLite, database: Path) -> None:
    open_sqlite().close()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 7")

    with pytest.raises(BentoMLConfigException, match="a task store of version 7, expected 1; choose another"):
        open_sqlite()


def test_old_tasks_are_forgotten_with_their_bodies(open_sqlite: OpenSQLite, database: Path) -> None:
    store = open_sqlite(retention_s=-1)
    finish(store, "a", b"red")
    store.submit(task_request("b"))

    store.purge()

    with closing(sqlite3.connect(database)) as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("tasks", "requests", "responses")
        ]
    assert counts == [0, 0, 0]


def test_a_task_that_runs_is_never_forgotten(open_sqlite: OpenSQLite) -> None:
    store = open_sqlite(retention_s=-1)
    store.submit(task_request("a"))
    store.claim("worker", LONG_S)

    store.purge()

    assert store.finish("worker", "a", answer())


def test_what_purging_frees_is_given_back_to_the_disk(open_sqlite: OpenSQLite, database: Path) -> None:
    store = open_sqlite(retention_s=-1)
    finish(store, "a", bytes(20 * 2**20))
    store.purge()
    store.close()

    assert database.stat().st_size < 2**20


def test_the_tasks_that_ended_first_make_room_for_new_ones(open_sqlite: OpenSQLite) -> None:
    store = open_sqlite(max_bytes=10 * 2**20)
    for task_id in range(40):
        finish(store, f"task-{task_id}", bytes(2**20))

    kept = [task_id for task_id in range(40) if store.status(f"task-{task_id}")]
    assert kept
    assert kept == list(range(kept[0], 40))


def test_the_file_stays_about_as_large_as_it_may_be(open_sqlite: OpenSQLite, database: Path) -> None:
    store = open_sqlite(max_bytes=10 * 2**20)
    for task_id in range(40):
        finish(store, f"task-{task_id}", bytes(2**20))
    store.close()

    assert database.stat().st_size < 13 * 2**20


def test_a_task_is_refused_where_those_that_wait_take_all_the_room(open_sqlite: OpenSQLite) -> None:
    store = open_sqlite(max_bytes=4 * 2**20)
    for task_id in ("a", "b", "c"):
        store.submit(task_request(task_id, bytes(2**20)))

    with pytest.raises(TooManyRequests, match="no room for the task: those that wait or run fill"):
        store.submit(task_request("d", bytes(2**20)))
    assert store.status("d") is None


def test_a_store_that_cannot_be_written_is_unavailable(open_sqlite: OpenSQLite, database: Path) -> None:
    store = open_sqlite()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("DROP TABLE requests")

    with pytest.raises(ServiceUnavailable, match=r"tasks\.db: no such table: requests"):
        store.submit(task_request("a"))
    assert store.status("a") is None


def test_a_store_is_closed_between_the_calls_that_other_threads_make(open_sqlite: OpenSQLite) -> None:
    store, begun = open_sqlite(), threading.Event()
    refused: list[str] = []

    def submit_all() -> None:
        try:
            while True:
                store.submit(task_request(secrets.token_hex(8), bytes(10_000)))
                begun.set()
        except ServiceUnavailable as error:
            refused.append(error.message)

    threads = [threading.Thread(target=submit_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait(DEADLINE_S)
    store.close()
    for thread in threads:
        thread.join()

    assert ["closed" in words for words in refused] == [True] * 4


WRITER = """
import sys
from pathlib import Path
from bentoml._serving.tasks.sqlite_store import SQLiteTaskStore
from bentoml._serving.tasks.store import TaskRequest, TaskResponse

path, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
sys.stdin.readline()
for i in range(count):
    # Opened anew now and then: making, opening and closing a database have locks of their own.
    if i % 20 == 0:
        store = SQLiteTaskStore(path, service="Painter")
    task_id = f"{name}-{i}"
    store.submit(TaskRequest(task_id=task_id, endpoint="paint", headers=(), body=bytes(5000)))
    request = store.claim(name, 60.0)
    if request is not None:
        store.renew(name, [request.task_id], 60.0)
        response = TaskResponse(status=200, headers=(), body=request.task_id.encode())
        assert store.finish(name, request.task_id, response)
    store.status(task_id)
    if i % 20 == 19:
        store.purge()
        store.close()
print("done", flush=True)
"""


def start_writer(database: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", WRITER, str(database), name, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_eight_processes_make_and_write_one_file_at_once(database: Path, open_sqlite: OpenSQLite) -> None:
    writers = [start_writer(database, f"writer-{i}", 100) for i in range(8)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    outcomes = [writer.communicate(timeout=4 * DEADLINE_S) for writer in writers]

    assert outcomes == [("done\n", "")] * 8
    store = open_sqlite()
    responses = {f"writer-{i}-{j}": store.response(f"writer-{i}-{j}") for i in range(8) for j in range(100)}
    assert all(kept and kept.body.decode() == task_id for task_id, kept in responses.items())


MAKER = """
import sys, time
from pathlib import Path
from bentoml._serving.tasks.sqlite_store import SQLiteTaskStore

start = float(sys.argv[2])
for i in range(30):
    while time.time() < start + i / 20:
        pass
    SQLiteTaskStore(Path(sys.argv[1]) / f"{i}.db", service="Painter").close()
print("done")
"""


def test_processes_may_make_the_file_in_the_same_instant(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", MAKER, str(tmp_path), str(time.time() + 1)]
    makers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]

    assert [maker.communicate() for maker in makers] == [("done\n", "")] * 4


def test_a_process_that_is_killed_while_it_writes_leaves_a_file_that_others_go_on_with(
    database: Path, open_sqlite: OpenSQLite
) -> None:
    store = open_sqlite()
    writer = start_writer(database, "writer", 1_000_000)
    assert writer.stdin is not None
    writer.stdin.write("go\n")
    writer.stdin.flush()
    until(lambda: store.status("writer-30"), "the writer has written")

    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()

    store.submit(task_request("after"))
    assert store.request("after") == task_request("after")
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
