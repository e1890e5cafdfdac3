from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeAlias

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL.Image import Image
from tests.runtime.conftest import ServiceProcess, Start, until

import bentoml
from bentoml import testing
from bentoml._task_status import TaskStatus
from bentoml.exceptions import (
    BadInput,
    BentoMLConfigException,
    InvalidArgument,
    RemoteException,
    TooManyRequests,
)

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]


@bentoml.service
class Leaf:
    @bentoml.api
    def double(self, x: int) -> int:
        return 2 * x


@bentoml.service
class Top:
    leaf = bentoml.depends(Leaf)

    @bentoml.api
    def quadruple(self, x: int) -> int:
        return self.leaf.double(self.leaf.double(x))


@bentoml.service
class Diamond:
    left = bentoml.depends(Top)
    right = bentoml.depends(Leaf)

    @bentoml.api
    def shares(self) -> bool:
        return self.left.leaf is self.right


@bentoml.service
class Everything:
    def __init__(self) -> None:
        self.events: list[str] = ["init"]

    @bentoml.on_startup
    def start(self) -> None:
        self.events.append("start")

    @bentoml.api
    def seen(self) -> list[str]:
        return self.events

    @bentoml.api
    def flip(self, image: Image) -> Image:
        return image.transpose(PILImage.Transpose.FLIP_LEFT_RIGHT)

    @bentoml.api
    def scale(self, x: Floats, by: float = 2.0) -> Floats:
        scaled: Floats = x * np.float32(by)
        return scaled

    @bentoml.api
    async def words(self, n: int) -> AsyncIterator[str]:
        for number in range(n):
            yield f"wörd {number} "

    @bentoml.api
    def objects(self, n: int) -> Iterator[dict[str, int]]:
        for number in range(n):
            yield {"n": number}

    @bentoml.api
    async def broken(self) -> AsyncIterator[str]:
        yield "one"
        raise ValueError("inside")

    @bentoml.api
    def refuse(self) -> str:
        raise BadInput("not today")

    @bentoml.api
    def fail(self) -> str:
        raise ValueError("inside")

    @bentoml.task
    def job(self, x: int) -> int:
        return 2 * x


class Fake:
    def double(self, x: int) -> int:
        return x + 100


def test_a_service_is_called_as_a_client_would() -> None:
    with testing.client(Leaf) as client:
        assert client.double(4) == 8


def test_a_service_is_called_from_a_loop() -> None:
    async def call() -> Any:
        async with testing.async_client(Leaf) as client:
            return await asyncio.gather(client.double(1), client.double(x=2))

    assert asyncio.run(call()) == [2, 4]


def test_arguments_are_checked_as_those_of_a_request() -> None:
    with (
        testing.client(Leaf) as client,
        pytest.raises(InvalidArgument, match="1 validation error for Input; x: "),
    ):
        client.double("many")


def test_a_service_lives_as_long_as_its_client() -> None:
    with testing.client(Everything) as client:
        assert client.seen() == ["init", "start"]
        assert "asgi" in {thread.name for thread in threading.enumerate()}

    assert "asgi" not in {thread.name for thread in threading.enumerate()}


def test_types_go_and_come_as_such() -> None:
    with testing.client(Everything) as client:
        array, image = client.scale([1, 2], by=3), client.flip(PILImage.new("RGB", (2, 3)))

    np.testing.assert_array_equal(array, np.array([3, 6], np.float32))
    assert image.size == (2, 3)


def test_streams_are_read_item_by_item() -> None:
    with testing.client(Everything) as client:
        assert list(client.words(2)) == ["wörd 0 ", "wörd 1 "]
        assert list(client.objects(2)) == [{"n": 0}, {"n": 1}]


def test_a_stream_that_breaks_raises_after_its_items() -> None:
    with testing.client(Everything) as client:
        items = client.broken()

        assert next(items) == "one"
        with pytest.raises(RemoteException, match="http://service/broken gave no whole answer"):
            next(items)


def test_errors_are_those_that_a_client_gets() -> None:
    with testing.client(Everything) as client:
        with pytest.raises(InvalidArgument, match="not today"):
            client.refuse()
        with pytest.raises(RemoteException, match="An unexpected error has occurred"):
            client.fail()


def test_a_task_runs_and_is_not_there_in_the_next_test() -> None:
    with testing.client(Everything) as client:
        task = client.job.submit(4)
        until(lambda: task.get_status() is TaskStatus.COMPLETED, "the task has ended")
        assert task.get() == 8

    with testing.client(Everything) as client, pytest.raises(bentoml.exceptions.NotFound):
        client.job.get(task.id)


def test_configuration_is_put_over_that_of_the_service() -> None:
    entered, leave = threading.Event(), threading.Event()

    @bentoml.service(traffic={"max_concurrency": 5}, threads=2)
    class Slow:
        @bentoml.api
        def wait(self) -> str:
            entered.set()
            leave.wait()
            return "done"

    with testing.client(Slow, config={"traffic": {"max_concurrency": 1}}) as client:
        first = threading.Thread(target=client.wait)
        first.start()
        entered.wait()
        with pytest.raises(TooManyRequests):
            client.wait()
        leave.set()
        first.join()


def test_configuration_that_is_not_valid_is_told() -> None:
    with (
        pytest.raises(BentoMLConfigException, match="max_concurrency"),
        testing.client(Leaf, config={"traffic": {"max_concurrency": "x"}}),
    ):
        pass


def test_a_dependency_is_an_instance_of_its_class() -> None:
    with testing.client(Top) as client:
        assert client.quadruple(1) == 4


def test_a_dependency_is_replaced_by_an_object() -> None:
    with testing.client(Top, dependencies={"leaf": Fake()}) as client:
        assert client.quadruple(1) == 201


def test_a_diamond_has_one_leaf() -> None:
    with testing.client(Diamond) as client:
        assert client.shares() is True


def test_a_name_that_is_no_dependency_is_told() -> None:
    with (
        pytest.raises(TypeError, match=r"Top has no dependency \['leef'\]; it has: leaf"),
        testing.client(Top, dependencies={"leef": Fake()}),
    ):
        pass


def test_what_is_no_service_is_told() -> None:
    with (
        pytest.raises(TypeError, match=r"expected a class marked with `@bentoml.service`, found"),
        testing.client(Fake),
    ):
        pass


def test_a_service_that_cannot_be_made_says_why() -> None:
    @bentoml.service
    class Broken:
        def __init__(self) -> None:
            raise ValueError("no weights")

    with pytest.raises(ValueError, match="no weights"), testing.client(Broken):
        pass


PEER = """
import bentoml

@bentoml.service
class Leaf:
    @bentoml.api
    def double(self, x: int) -> int:
        return 1000 * x
"""


def test_a_dependency_may_run_elsewhere(start: Start, tmp_path: Any) -> None:
    (tmp_path / "service.py").write_text(PEER)
    peer: ServiceProcess = start("service:Leaf", BENTOML_DEPENDENTS="Top").wait_until_ready()

    with testing.client(Top, peers={"Leaf": peer.address}) as client:
        assert client.quadruple(1) == 1_000_000
