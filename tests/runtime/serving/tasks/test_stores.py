"""What both stores promise."""

from __future__ import annotations

import os
import threading

from tests.runtime.serving.tasks.conftest import OpenStore, answer, task_request

from bentoml._serving.tasks.store import TaskRequest, TaskResponse, TaskStore
from bentoml._task_status import TaskStatus

LONG_S = 60.0
ENDED_S = -1.0  # a lease that has ended already


def status(store: TaskStore, task_id: str) -> TaskStatus | None:
    task = store.status(task_id)
    return None if task is None else task.status


def test_a_submitted_task_waits(open_store: OpenStore) -> None:
    store = open_store()

    store.submit(task_request("a"))

    task = store.status("a")
    assert task is not None
    assert (task.status, task.executed_at) == (TaskStatus.PENDING, None)


def test_a_claimed_task_comes_with_its_request_byte_for_byte(open_store: OpenStore) -> None:
    store = open_store()
    request = TaskRequest(
        task_id="a",
        endpoint="paint",
        headers=((b"content-type", b"image/png"), (b"x-name", b"caf\xe9")),
        body=os.urandom(100_000),
    )
    store.submit(request)

    assert store.claim("worker", LONG_S) == request


def test_a_claimed_task_is_in_progress(open_store: OpenStore) -> None:
    store = open_store()
    store.submit(task_request("a"))

    store.claim("worker", LONG_S)

    task = store.status("a")
    assert task is not None
    assert task.status is TaskStatus.IN_PROGRESS
    assert task.executed_at is not None
    assert task.executed_at >= task.created_at - 1


def test_the_task_that_waits_longest_is_claimed_first(open_store: OpenStore) -> None:
    store = open_store()
    for task_id in ("b", "a", "c"):
        store.submit(task_request(task_id))

    claimed = [store.claim("worker", LONG_S) for _ in range(3)]

    assert [request.task_id for request in claimed if request] == ["b", "a", "c"]


def test_no_task_is_claimed_twice(open_store: OpenStore) -> None:
    store = open_store()
    submitted = [f"task-{i}" for i in range(40)]
    for task_id in submitted:
        store.submit(task_request(task_id))
    claimed: list[str] = []

    def claim_all(worker: TaskStore) -> None:
        while request := worker.claim("worker", LONG_S):
            claimed.append(request.task_id)

    threads = [threading.Thread(target=claim_all, args=(open_store(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(claimed) == sorted(submitted)


def test_a_service_sees_its_own_tasks_only(open_store: OpenStore) -> None:
    other = open_store(service="Sculptor")
    open_store().submit(task_request("a"))

    assert (other.claim("worker", LONG_S), other.status("a"), other.cancel("a")) == (None, None, False)


def test_a_response_is_kept_byte_for_byte(open_store: OpenStore) -> None:
    store = open_store()
    store.submit(task_request("a"))
    store.claim("worker", LONG_S)
    response = TaskResponse(status=201, headers=((b"x-name", b"caf\xe9"),), body=os.urandom(100_000))

    store.finish("worker", "a", response)

    assert open_store().response("a") == response
    assert status(store, "a") is TaskStatus.COMPLETED


def test_a_response_that_is_an_error_makes_the_task_a_failed_one(open_store: OpenStore) -> None:
    store = open_store()
    store.submit(task_request("a"))
    store.claim("worker", LONG_S)

    store.finish("worker", "a", answer(b"no such colour", status=400))

    assert status(store, "a") is TaskStatus.FAILED


def test_the_request_outlives_the_response_so_that_it_can_run_again(open_store: OpenStore) -> None:
    store = open_store()
    store.submit(task_request("a", b"red"))
    store.claim("worker", LONG_S)
    store.finish("worker", "a", answer())

    assert store.request("a") == task_request("a", b"red")


def test_only_the_worker_that_holds_a_task_can_finish_it(open_store: OpenStore) -> None:
    store = open_store()
    store.submit(task_request("a"))
    store.claim("worker", LONG_S)

    assert not store.finish("another", "a", answer())
    assert status(store, "a") is TaskStatus.IN_PROGRESS


def test_a_task_that_was_cancelled_before_it_was_begun_is_not_claimed(open_store: OpenStore) -> None:
    store = open_store()
    store.submit(task_request("a"))

    assert store.cancel("a")
    assert store.claim("worker", LONG_S) is None


def test_what_a_cancelled_task_comes_to_is_dropped(open_store: OpenStore) -> None:
    store = open_store()
    store.submit(task_request("a"))
    store.claim("worker", LONG_S)

    store.cancel("a")

    assert not store.finish("worker", "a", answer())
    assert (status(store, "a"), store.response("a")) == (TaskStatus.CANCELED, None)


def test_a_task_that_has_ended_cannot_be_cancelled(open_store: OpenStore) -> None:
    store = open_store()
    store.submit(task_request("a"))
    store.claim("worker", LONG_S)
    store.finish("worker", "a", answer())

    assert not store.cancel("a")
    assert status(store, "a") is TaskStatus.COMPLETED


def test_renewing_tells_which_tasks_are_held_still(open_store: OpenStore) -> None:
    store = open_store()
    for task_id in ("a", "b"):
        store.submit(task_request(task_id))
        store.claim("worker", LONG_S)
    store.cancel("b")

    assert store.renew("worker", ["a", "b", "unknown"], LONG_S) == {"a"}


def test_a_task_whose_lease_has_ended_fails_with_words(open_store: OpenStore) -> None:
    store = open_store()
    store.submit(task_request("a"))
    store.claim("worker", ENDED_S)

    assert open_store().expire(answer(b"its worker died", status=500)) == ("a",)
    assert store.response("a") == answer(b"its worker died", status=500)


def test_a_task_whose_lease_is_renewed_does_not_expire(open_store: OpenStore) -> None:
    store = open_store()
    store.submit(task_request("a"))
    store.claim("worker", ENDED_S)
    store.renew("worker", ["a"], LONG_S)

    assert store.expire(answer(status=500)) == ()


def test_a_worker_that_was_taken_for_dead_cannot_finish_its_task(open_store: OpenStore) -> None:
    store = open_store()
    store.submit(task_request("a"))
    store.claim("worker", ENDED_S)
    store.expire(answer(status=500))

    assert not store.finish("worker", "a", answer())
    assert status(store, "a") is TaskStatus.FAILED


def test_a_released_task_is_the_next_to_be_claimed(open_store: OpenStore) -> None:
    store = open_store()
    for task_id in ("a", "b"):
        store.submit(task_request(task_id))
    store.claim("worker", LONG_S)

    store.release("worker", "a")

    assert store.claim("another", LONG_S) == task_request("a")


def test_purging_leaves_what_is_not_old(open_store: OpenStore) -> None:
    store = open_store()
    store.submit(task_request("a"))

    store.purge()

    assert status(store, "a") is TaskStatus.PENDING
