from __future__ import annotations

from contextlib import closing

import pytest
from tests.runtime.conftest import until
from tests.runtime.serving.tasks.conftest import OpenRedis, RedisServer, answer, task_request

from bentoml._serving.tasks.redis_store import RedisTaskStore
from bentoml.exceptions import BentoMLConfigException, ServiceUnavailable, TooManyRequests

pytestmark = pytest.mark.redis


def test_a_task_is_forgotten_once_it_has_not_changed_for_long(open_redis: OpenRedis) -> None:
    store = open_redis(retention_s=1)
    store.submit(task_request("a"))
    store.claim("worker", 60)
    store.finish("worker", "a", answer())

    until(lambda: store.status("a") is None, "the task is forgotten")


def test_a_task_that_was_forgotten_while_it_waited_is_passed_over(
    open_redis: OpenRedis, redis_server: RedisServer
) -> None:
    store = open_redis()
    for task_id in ("a", "b"):
        store.submit(task_request(task_id))
    with closing(redis_server.client()) as client:
        client.delete("bentoml:tasks:1:{Painter}:task:a")

    assert store.claim("worker", 60) == task_request("b")


def test_nothing_is_left_of_tasks_that_have_ended_but_themselves(
    open_redis: OpenRedis, redis_server: RedisServer
) -> None:
    store = open_redis()
    for task_id in ("finished", "cancelled", "abandoned"):
        store.submit(task_request(task_id))
    store.cancel("cancelled")
    for _ in range(2):
        store.claim("worker", -1)
    store.finish("worker", "finished", answer())
    store.expire(answer(status=500))

    with closing(redis_server.client()) as client:
        keys = {key: client.ttl(key) for key in client.scan_iter("*")}
    assert set(keys) == {
        f"bentoml:tasks:1:{{Painter}}:task:{task_id}".encode()
        for task_id in ("finished", "cancelled", "abandoned")
    }
    assert all(0 < ttl <= 3600 for ttl in keys.values())


def test_a_server_that_comes_back_is_gone_on_with(open_redis: OpenRedis, redis_server: RedisServer) -> None:
    store = open_redis()
    store.claim("worker", 60)
    redis_server.stop()
    with pytest.raises(ServiceUnavailable, match="task store unix://"):
        store.submit(task_request("a"))

    redis_server.start()

    store.submit(task_request("a"))
    assert store.claim("worker", 60) == task_request("a")


def test_where_memory_is_short_new_tasks_are_refused_and_others_go_on(
    open_redis: OpenRedis, redis_server: RedisServer
) -> None:
    redis_server.stop()
    redis_server.start("--maxmemory", "8mb")
    store = open_redis()

    def fill(size: int) -> None:
        for i in range(10_000):
            store.submit(task_request(f"{size}-{i}", bytes(size)))

    for size in (2**20, 2**10):
        with pytest.raises(TooManyRequests, match="has no memory left"):
            fill(size)
    first, second = f"{2**20}-0", f"{2**20}-1"
    assert store.claim("worker", 60) == task_request(first, bytes(2**20))
    assert store.renew("worker", [first], 60) == {first}
    assert store.finish("worker", first, answer(bytes(2**20)))
    assert store.claim("worker", -1) == task_request(second, bytes(2**20))
    assert store.expire(answer(status=500)) == (second,)


def test_errors_do_not_show_the_servers_password() -> None:
    with (
        closing(RedisTaskStore("redis://user:s3cret@127.0.0.1:1/0", service="Painter")) as store,
        pytest.raises(ServiceUnavailable) as caught,
    ):
        store.submit(task_request("a"))

    assert caught.value.message.startswith("task store redis://127.0.0.1:1/0: ")
    assert "s3cret" not in caught.value.message


def test_a_url_that_redis_does_not_know_is_refused_at_once() -> None:
    with pytest.raises(BentoMLConfigException, match="redis://localhost:port"):
        RedisTaskStore("redis://localhost:port", service="Painter")
