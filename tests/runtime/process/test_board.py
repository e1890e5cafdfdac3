from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from bentoml._process.board import Board, SharedAdmission


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board.new(3)
    yield board
    board.close()


def admissions(board: Board, limit: int | None) -> list[SharedAdmission]:
    """One for each worker."""
    return [SharedAdmission(board, index, limit) for index in range(len(board.calls))]


def test_who_opens_the_board_sees_what_others_write(board: Board) -> None:
    same = Board(os.dup(board.descriptor), 3)
    board.beat(1)
    board.calls[2] = 5

    assert ([same.beats(index) for index in range(3)], list(same.calls)) == ([0, 1, 0], [0, 0, 5])
    same.close()


def test_a_worker_that_has_ended_leaves_nothing_on_the_board(board: Board) -> None:
    board.beat(1)
    admissions(board, None)[1].enter()
    board.clear(1)

    assert (board.beats(1), sum(board.calls)) == (0, 0)


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_as_many_calls_run_as_the_limit_says_whoever_runs_them(board: Board, limit: int) -> None:
    workers = admissions(board, limit)
    admitted = [workers[call % 3].enter() for call in range(limit + 5)]

    assert admitted == [True] * limit + [False] * 5
    assert workers[0].running == limit


def test_a_call_that_ends_makes_room_for_one_of_another_worker(board: Board) -> None:
    first, second, _ = admissions(board, 1)
    first.enter()
    assert not second.enter()
    first.leave()

    assert second.enter()


def test_a_replica_is_full_to_all_workers_while_one_of_them_runs_all_it_may(board: Board) -> None:
    first, second, _ = admissions(board, 1)
    before = second.is_full
    first.enter()

    assert [before, second.is_full] == [False, True]


def test_without_a_limit_any_number_of_calls_run(board: Board) -> None:
    worker = admissions(board, None)[0]

    assert all(worker.enter() for _ in range(1000))


def test_a_worker_that_has_been_cleared_makes_room(board: Board) -> None:
    first, second, _ = admissions(board, 1)
    first.enter()
    board.clear(0)

    assert second.enter()


HAMMER = """
import fcntl, os, sys
from bentoml._process.board import Board, SharedAdmission

descriptor, count, index, limit = map(int, sys.argv[1:])
admission = SharedAdmission(Board(descriptor, 4), index, limit)
seen = Board(count, 1)  # calls that were admitted and still run, and the most that there were
for _ in range(3000):
    if admission.enter():
        for change in (1, -1):
            fcntl.lockf(count, fcntl.LOCK_EX)
            seen.calls[0] += change
            while seen.beats(0) < seen.calls[0]:
                seen.beat(0)
            fcntl.lockf(count, fcntl.LOCK_UN)
        admission.leave()
"""


@pytest.mark.parametrize("limit", [1, 3, 4])
def test_the_limit_is_kept_by_processes_that_enter_at_once(limit: int) -> None:
    board, count = Board.new(4), Board.new(1)
    descriptors = (board.descriptor, count.descriptor)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, *map(str, (*descriptors, index, limit))], pass_fds=descriptors
        )
        for index in range(4)
    ]

    assert [process.wait() for process in processes] == [0] * 4
    assert 1 <= count.beats(0) <= limit
    assert sum(board.calls) == 0
    board.close()
    count.close()


HOLDER = """
import fcntl, sys, time
fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_a_process_that_dies_while_it_decides_holds_up_nobody(board: Board) -> None:
    command = [sys.executable, "-c", HOLDER, str(board.descriptor)]
    with subprocess.Popen(command, pass_fds=[board.descriptor], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        admitted: list[bool] = []
        entering = threading.Thread(target=lambda: admitted.append(admissions(board, 1)[0].enter()))
        entering.start()
        holder.send_signal(signal.SIGKILL)
        entering.join()

    assert admitted == [True]
