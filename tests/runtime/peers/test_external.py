"""Dependencies outside the graph, called over a real socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
import uvicorn
from tests.runtime.conftest import free_port, service_of, until

import bentoml
from bentoml._config import load_config
from bentoml._peers.dependencies import connect_peers
from bentoml._peers.external import ExternalPeer, close_external
from bentoml._peers.remote_endpoint import Limits
from bentoml._serving.application import Replica, create_app
from bentoml.exceptions import BentoMLConfigException, InvalidArgument, ServiceUnavailable

PORT = free_port()
ADDRESS = f"http://127.0.0.1:{PORT}"
LIMITS = Limits(answer_s=10.0, item_s=10.0)


@bentoml.service(path_prefix="/v1")
class Iris:
    @bentoml.api
    def predict(self, values: list[float]) -> float:
        if not values:
            raise InvalidArgument("no values")
        return sum(values)

    @bentoml.api
    async def later(self, x: int) -> int:
        return x

    @bentoml.api
    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number


@bentoml.service
class Caller:
    untyped = bentoml.depends(url=f"{ADDRESS}/v1")
    typed = bentoml.depends(Iris, url=f"{ADDRESS}/v1")
    named = bentoml.depends(deployment="iris-x6dewa", cluster="lab")


@pytest.fixture(scope="module", autouse=True)
def iris() -> Iterator[None]:
    config = load_config("Iris")
    app = create_app(service_of(Iris), Replica(config=config, environ={}))
    server = uvicorn.Server(uvicorn.Config(app, port=PORT, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started, "the server is there")
    yield
    server.should_exit = True
    thread.join()


@pytest.fixture
def peers() -> Iterator[dict[str, Any]]:
    environ = {"BENTOML_DEPLOYMENT_IRIS_X6DEWA__LAB": f"{ADDRESS}/v1"}
    caller = service_of(Caller)
    connected = connect_peers(caller, caller.dependencies, LIMITS, environ)
    yield dict(connected.by_attribute)
    asyncio.run(connected.close())


@pytest.mark.parametrize("attribute", ["untyped", "typed", "named"])
def test_a_method_returns_where_nothing_can_be_awaited(peers: dict[str, Any], attribute: str) -> None:
    assert peers[attribute].predict([1, 2]) == 3


def test_a_method_is_awaited_where_it_can_be(peers: dict[str, Any]) -> None:
    async def call() -> list[object]:
        untyped, typed = peers["untyped"], peers["typed"]
        counted = [number async for number in untyped.count(3)]
        values = [await untyped.predict(values=[1]), await typed.later(2), await untyped.to_async.later(3)]
        await close_external(untyped)
        await close_external(typed)
        return [*values, counted]

    assert asyncio.run(call()) == [1, 2, 3, [0, 1, 2]]


def test_a_method_declared_def_returns_on_a_loop_too(peers: dict[str, Any]) -> None:
    async def call() -> object:
        return await asyncio.to_thread(peers["typed"].predict, [1, 2])

    assert asyncio.run(call()) == 3


def test_an_error_of_the_peer_is_its_exception(peers: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=r"^no values\nIn http://127\.0\.0\.1:[0-9]+/v1/predict$"):
        peers["untyped"].predict([])


def test_what_is_no_endpoint_is_told_with_those_that_are(peers: dict[str, Any]) -> None:
    with pytest.raises(
        AttributeError, match="has no endpoint 'nothing'; its endpoints: predict, later, count"
    ):
        peers["typed"].nothing(1)
    with pytest.raises(AttributeError, match="has no endpoint 'nothing'; its endpoints: "):
        peers["untyped"].nothing(1)


def test_a_peer_that_is_not_there_does_not_keep_a_service_from_starting() -> None:
    @bentoml.service
    class Early:
        iris = bentoml.depends(url="http://127.0.0.1:9")

    early = service_of(Early)
    peers = connect_peers(early, early.dependencies, LIMITS, {})

    with pytest.raises(ServiceUnavailable):
        peers.by_attribute["iris"].predict([1])


def test_threads_that_call_a_peer_which_is_not_there_do_not_wait_for_one_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = ExternalPeer(f"http://127.0.0.1:{silent.getsockname()[1]}", None, timeout_s=30)

        def call() -> None:
            with suppress(ServiceUnavailable):
                peer.to_sync  # noqa: B018

        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        # All of them ask at once, and none has been answered.
        silent.settimeout(20)
        asked = [silent.accept()[0] for _ in threads]
        for connection in asked:
            connection.close()
        for thread in threads:
            thread.join()


def test_what_python_looks_for_in_any_function_is_no_question_to_the_peer() -> None:
    peer = ExternalPeer("http://127.0.0.1:9", None, timeout_s=30)

    assert not hasattr(peer.predict, "__wrapped__")


def test_more_than_one_address_is_refused() -> None:
    @bentoml.service
    class Two:
        iris = bentoml.depends(url="http://127.0.0.1:8,http://127.0.0.1:9")

    two = service_of(Two)

    with pytest.raises(BentoMLConfigException, match=r"^`Two\.iris`: 2 base URLs, expected one"):
        connect_peers(two, two.dependencies, LIMITS, {})


def test_threads_share_one_client(peers: dict[str, Any]) -> None:
    with ThreadPoolExecutor(8) as pool:
        clients = [*pool.map(lambda _: peers["untyped"].to_sync, range(8))]

    assert len({id(client) for client in clients}) == 1
    assert clients[0].predict([1]) == 1


def test_a_deployment_without_an_address_is_named_with_its_variable() -> None:
    caller = service_of(Caller)

    with pytest.raises(
        BentoMLConfigException, match=r"BENTOML_DEPLOYMENT_IRIS_X6DEWA__LAB \(for `Caller\.named`\)"
    ):
        connect_peers(caller, caller.dependencies, LIMITS, {})
