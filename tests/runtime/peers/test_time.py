"""How long calls may take over several hops, and what happens once nobody waits for one any more."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest
from tests.runtime.conftest import DEADLINE_S, until
from tests.runtime.peers.graph import Served, addresses_of, peers_of, served

import bentoml
from bentoml import codec
from bentoml._deadline import QUEUED_HEADER, TIMEOUT_HEADER
from bentoml._peers.remote_endpoint import Limits
from bentoml.exceptions import DeadlineExceeded


class Moments:
    """What has happened in the services, which run in this process."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.finish = threading.Event()

    def wait_for(self, *calls: str) -> None:
        until(lambda: set(calls) <= set(self.calls), f"{calls}, there are {self.calls}")


moments = Moments()


@pytest.fixture(autouse=True)
def _new_moments() -> Iterator[None]:
    moments.calls.clear()
    moments.finish.clear()
    yield
    moments.finish.set()


async def forever(where: str) -> None:
    moments.calls.append(f"{where} begun")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        moments.calls.append(f"{where} cancelled")
        raise


@bentoml.service(traffic={"timeout": 20.0, "max_concurrency": 4}, threads=4)
class Leaf:
    @bentoml.api
    async def remaining(self, ctx: bentoml.Context) -> list[int]:
        return [int(ctx.request.headers[TIMEOUT_HEADER])]

    @bentoml.api
    async def wait(self) -> None:
        await forever("leaf")

    @bentoml.api
    def block(self) -> str:
        moments.calls.append("leaf begun")
        moments.finish.wait(DEADLINE_S)
        moments.calls.append("leaf finished")
        return "finished"

    @bentoml.api
    async def count(self) -> AsyncIterator[int]:
        yield 1
        await forever("leaf")

    @bentoml.api
    async def begin_never(self) -> AsyncIterator[int]:
        await forever("leaf")
        yield 1

    @bentoml.api
    async def count_on(self) -> AsyncIterator[int]:
        number = 0
        while True:
            yield (number := number + 1)
            await asyncio.sleep(0.005)

    @bentoml.api
    async def note(self) -> None:
        moments.calls.append("leaf called")


@bentoml.service(traffic={"timeout": 20.0})
class Patient:
    @bentoml.api
    async def wait(self) -> None:
        await asyncio.Event().wait()

    @bentoml.api
    async def count(self) -> AsyncIterator[int]:
        for number in range(3):
            yield number
        await asyncio.Event().wait()

    @bentoml.api
    async def tasks(self) -> int:
        return len(asyncio.all_tasks())


@bentoml.service
class Fickle:
    patient: Any = bentoml.depends(Patient)


@bentoml.service(traffic={"timeout": 20.0, "item_timeout": 0.2})
class Impatient:
    @bentoml.api
    async def count(self) -> AsyncIterator[int]:
        yield 1
        await forever("impatient")


@bentoml.service(traffic={"timeout": 20.0, "total_timeout": 0.5})
class Brief:
    @bentoml.api
    async def count(self) -> AsyncIterator[int]:
        while True:
            yield 1
            await asyncio.sleep(0.005)


@bentoml.service(traffic={"timeout": 10.0})
class Middle:
    leaf: Any = bentoml.depends(Leaf)

    @bentoml.api
    async def remaining(self, ctx: bentoml.Context) -> list[int]:
        await asyncio.sleep(0.06)
        return [int(ctx.request.headers[TIMEOUT_HEADER]), *await self.leaf.remaining()]

    @bentoml.api
    async def wait(self) -> None:
        await asyncio.gather(self.leaf.wait(), forever("middle"))

    @bentoml.api
    async def count(self) -> AsyncIterator[int]:
        try:
            async for number in self.leaf.count():
                yield number
        finally:
            moments.calls.append("middle closed")


@bentoml.service(traffic={"timeout": 5.0})
class Top:
    middle: Any = bentoml.depends(Middle)
    leaf: Any = bentoml.depends(Leaf)
    impatient: Any = bentoml.depends(Impatient)
    brief: Any = bentoml.depends(Brief)

    @bentoml.api
    async def remaining(self) -> list[int]:
        await asyncio.sleep(0.06)
        remaining: list[int] = await self.middle.remaining()
        return remaining

    @bentoml.api
    def remaining_from_a_thread(self) -> list[int]:
        remaining: list[int] = self.leaf.to_sync.remaining()
        return remaining

    @bentoml.api
    async def wait(self) -> None:
        await asyncio.gather(self.middle.wait(), forever("top"))

    @bentoml.api
    async def count(self) -> AsyncIterator[int]:
        try:
            async for number in self.middle.count():
                yield number
        finally:
            moments.calls.append("top closed")

    @bentoml.api
    async def block(self) -> str:
        answer: str = await self.leaf.to_async.block()
        return answer


@pytest.fixture(scope="module")
def graph() -> Iterator[dict[str, Served]]:
    with served(Top) as graph:
        yield graph


def test_each_hop_has_less_time_than_the_one_before(graph: dict[str, Served]) -> None:
    at_middle, at_leaf = graph["Top"].ask("/remaining")

    assert 0 < at_leaf <= at_middle - 50 <= 5000 - 100


def test_a_caller_that_gives_less_time_is_heard_at_every_hop(graph: dict[str, Served]) -> None:
    response = graph["Top"].post("/remaining", json={}, headers={TIMEOUT_HEADER: "3000"})

    at_middle, at_leaf = response.json()
    assert at_leaf < at_middle < 3000


def test_time_is_handed_on_from_threads_too(graph: dict[str, Served]) -> None:
    response = graph["Top"].post("/remaining_from_a_thread", json={}, headers={TIMEOUT_HEADER: "3000"})

    assert response.json()[0] <= 3000


def test_time_in_the_queue_of_a_proxy_counts(graph: dict[str, Served]) -> None:
    two_seconds_ago = f"t={(time.time() - 2) * 1e6:.0f}"

    response = graph["Top"].post(
        "/remaining_from_a_thread", json={}, headers={QUEUED_HEADER: two_seconds_ago}
    )

    assert response.json()[0] <= 3000


@pytest.mark.parametrize(
    "headers",
    [{TIMEOUT_HEADER: "0"}, {TIMEOUT_HEADER: "1000", QUEUED_HEADER: "t=1000000000"}],
    ids=["no time", "spent in a queue"],
)
def test_work_whose_time_is_over_is_refused_before_it_starts(
    graph: dict[str, Served], headers: dict[str, str]
) -> None:
    refused = graph["Leaf"].post(
        "/note",
        content=b"".join(codec.encode([[], {}])),
        headers={"content-type": codec.MEDIA_TYPE, **headers},
    )

    assert (refused.status_code, moments.calls) == (504, [])


def leave(service: Served, path: str, *, after: str) -> None:
    """Send a request, and go away once something has happened."""
    port = int(service.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"POST {path} HTTP/1.1\r\nhost: top\r\ncontent-length: 2\r\n\r\n{{}}".encode())
        moments.wait_for(after)


def test_a_client_that_goes_away_cancels_all_that_runs_for_it(graph: dict[str, Served]) -> None:
    leave(graph["Top"], "/wait", after="leaf begun")

    moments.wait_for("top cancelled", "middle cancelled", "leaf cancelled")


def test_a_client_that_goes_away_ends_streams_over_all_hops(graph: dict[str, Served]) -> None:
    leave(graph["Top"], "/count", after="leaf begun")

    moments.wait_for("leaf cancelled", "middle closed", "top closed")


def test_a_call_whose_time_is_over_cancels_all_that_runs_for_it(graph: dict[str, Served]) -> None:
    response = graph["Top"].post("/wait", json={}, headers={TIMEOUT_HEADER: "1000"})

    assert response.status_code == 504
    moments.wait_for("top cancelled", "middle cancelled", "leaf cancelled")


def test_a_caller_that_is_cancelled_cancels_its_call(graph: dict[str, Served]) -> None:
    async def give_up(leaf: Any) -> None:
        call = asyncio.create_task(leaf.wait())
        await asyncio.to_thread(moments.wait_for, "leaf begun")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    with peers_of(Top, addresses_of(graph)) as peers:
        asyncio.run(give_up(peers.leaf))

    moments.wait_for("leaf cancelled")


def test_ten_thousand_abandoned_calls_leave_nothing_at_the_peer() -> None:
    dice = random.Random(11)

    async def call(patient: Any) -> None:
        await patient.wait()

    async def read(patient: Any) -> None:
        async for _ in patient.count():
            pass

    async def abandon(patient: Any, number: int) -> None:
        task = asyncio.create_task((read if number % 2 else call)(patient))
        await asyncio.sleep(dice.random() * 0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def abandon_all(patient: Any) -> None:
        for start in range(0, 10_000, 100):
            await asyncio.gather(*(abandon(patient, start + number) for number in range(100)))

    with served(Fickle) as graph, peers_of(Fickle, {"Patient": graph["Patient"].address}) as peers:
        patient = graph["Patient"]
        at_rest = patient.ask("/tasks")
        asyncio.run(abandon_all(peers.patient))

        until(lambda: patient.connections == 0, "no connection is open")
        assert patient.ask("/tasks") == at_rest


def test_a_method_in_a_thread_runs_on_and_keeps_its_place(graph: dict[str, Served]) -> None:
    for _ in range(4):
        leave(graph["Top"], "/block", after="leaf begun")
        moments.calls.remove("leaf begun")

    full = graph["Leaf"].post("/note", json={})
    moments.finish.set()
    until(lambda: moments.calls.count("leaf finished") == 4, "they have finished")

    assert full.status_code == 429
    until(lambda: graph["Leaf"].post("/note", json={}).status_code == 200, "their places are free")


@pytest.mark.parametrize(
    ("limits", "method", "items"),
    [
        (Limits(answer_s=0.5, item_s=20), "begin_never", 0),
        (Limits(answer_s=20, item_s=0.5), "count", 1),
    ],
    ids=["to the first item", "between items"],
)
def test_each_limit_of_a_stream_is_its_own(
    graph: dict[str, Served], limits: Limits, method: str, items: int
) -> None:
    came: list[int] = []

    with peers_of(Top, addresses_of(graph), limits=limits) as peers, pytest.raises(DeadlineExceeded):
        came.extend(getattr(peers.leaf.to_sync, method)())

    assert len(came) == items
    moments.wait_for("leaf cancelled")


@pytest.mark.parametrize(("peer", "limit"), [("impatient", "item_timeout"), ("brief", "total_timeout")])
def test_the_limits_of_a_peers_own_end_its_streams(graph: dict[str, Served], peer: str, limit: str) -> None:
    came: list[int] = []

    words = rf"`traffic\.{limit}` is over"
    with peers_of(Top, addresses_of(graph)) as peers, pytest.raises(DeadlineExceeded, match=words):
        came.extend(getattr(peers, peer).to_sync.count())

    assert came


def test_a_stream_may_take_longer_than_its_answer_and_items(graph: dict[str, Served]) -> None:
    with peers_of(Top, addresses_of(graph), limits=Limits(answer_s=0.5, item_s=0.5)) as peers:
        items = peers.leaf.to_sync.count_on()
        begun = time.monotonic()
        while time.monotonic() < begun + 0.6:
            last = next(items)
        items.close()

    assert last > 1
