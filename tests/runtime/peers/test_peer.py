from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import BaseModel
from tests.runtime.conftest import DEADLINE_S, service_of
from tests.runtime.peers.wire_ends import Wire, listening, run

import bentoml
from bentoml import _deadline as deadline
from bentoml import codec
from bentoml._annotations import Type
from bentoml._deadline import Deadline
from bentoml._peers.channel import Channel
from bentoml._peers.dependencies import Peers, connect_peers
from bentoml._peers.peer import close_peer
from bentoml._peers.remote_call import RemoteCall
from bentoml._peers.remote_endpoint import Limits, RemoteEndpoint
from bentoml.exceptions import (
    BentoMLException,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    RemoteException,
    ServiceUnavailable,
)


class Score(BaseModel):
    value: float


@bentoml.service(path_prefix="/v1")
class Leaf:
    @bentoml.api
    def score(self) -> list[Score]:
        return [Score(value=1.0)]

    @bentoml.api
    def double(self, x: int) -> int:
        """Twice as much."""
        return 2 * x

    @bentoml.api(route="/later")
    async def double_later(self, x: int) -> int:
        return 2 * x

    @bentoml.api
    def close(self) -> str:
        return "the endpoint"


@bentoml.service
class Top:
    leaf = bentoml.depends(Leaf)
    same = bentoml.depends(Leaf)


Answer = Callable[[str, Any], tuple[int, str, bytes]]
LIMITS = Limits(answer_s=10.0, item_s=10.0)


@pytest.fixture
def leaf() -> Iterator[Callable[[Answer], Any]]:
    """Makes a client of a peer that answers as the test says, by path and decoded frame."""
    servers: list[ThreadingHTTPServer] = []
    connected: list[Peers] = []

    def serve(answer: Answer, timeout_s: float = 10.0) -> Any:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                call = codec.decode(self.rfile.read(int(self.headers["content-length"])))
                status, content_type, body = answer(self.path, call)
                self.send_response(status)
                self.send_header("content-type", content_type)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002  # its own name

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        servers.append(server)
        environ = {"BENTOML_PEER_LEAF": f"http://127.0.0.1:{server.server_port}"}
        limits = Limits(answer_s=timeout_s, item_s=timeout_s)
        connected.append(connect_peers(service_of(Top), service_of(Top).dependencies, limits, environ))
        return connected[-1].by_attribute["leaf"]

    yield serve
    for peers in connected:
        asyncio.run(peers.close())
    for server in servers:
        server.shutdown()
        server.server_close()


def framed(value: object) -> tuple[int, str, bytes]:
    return 200, codec.MEDIA_TYPE, b"".join(codec.encode(value))


def test_a_method_calls_the_route_with_its_arguments(leaf: Callable[[Answer], Any]) -> None:
    peer = leaf(lambda path, call: framed((path, call)))

    assert peer.double(1, y=[2]) == ("/v1/double", [[1], {"y": [2]}])


def test_a_method_that_is_async_is_awaited(leaf: Callable[[Answer], Any]) -> None:
    peer = leaf(lambda path, call: framed((path, call)))

    async def call() -> Any:
        result = await peer.double_later(x=1)
        close_peer(peer)
        return result

    assert asyncio.run(call()) == ("/v1/later", [[], {"x": 1}])


def test_every_method_is_there_to_be_awaited_and_to_be_waited_for(leaf: Callable[[Answer], Any]) -> None:
    peer = leaf(lambda path, call: framed(path))

    async def call() -> Any:
        result = await peer.to_async.double(1)
        close_peer(peer)
        return result

    assert peer.to_sync.double_later(1) == "/v1/later"
    assert asyncio.run(call()) == "/v1/double"


def test_a_result_is_of_the_class_that_the_endpoints_annotation_names(leaf: Callable[[Answer], Any]) -> None:
    peer = leaf(lambda path, call: framed([Score(value=2.0)]))

    assert peer.score() == [Score(value=2.0)]


def test_a_result_that_is_something_else_arrives_as_it_is(leaf: Callable[[Answer], Any]) -> None:
    peer = leaf(lambda path, call: framed("none today"))

    assert peer.score() == "none today"


def test_an_endpoint_may_be_called_close(leaf: Callable[[Answer], Any]) -> None:
    assert leaf(lambda path, call: framed("the endpoint")).close() == "the endpoint"


def test_a_method_has_its_name_and_words(leaf: Callable[[Answer], Any]) -> None:
    peer = leaf(lambda path, call: framed(None))

    assert (peer.double.__name__, peer.double.__doc__) == ("double", "Twice as much.")
    assert repr(peer).startswith("<Peer Leaf at http://127.0.0.1:")


def test_an_attribute_that_is_no_endpoint_is_told_with_those_that_are(leaf: Callable[[Answer], Any]) -> None:
    peer = leaf(lambda path, call: framed(None))

    with pytest.raises(AttributeError) as caught:
        peer.triple(1)

    assert (
        str(caught.value)
        == "Leaf has no endpoint 'triple'; its endpoints: score, double, double_later, close"
    )


def test_dependencies_on_one_service_share_a_client() -> None:
    peers = connect_peers(
        service_of(Top), service_of(Top).dependencies, LIMITS, {"BENTOML_PEER_LEAF": "http://leaf:3000"}
    )

    assert peers.by_attribute["leaf"] is peers.by_attribute["same"]
    asyncio.run(peers.close())


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (400, b'{"error": "say more"}', InvalidArgument, "Leaf/double: say more"),
        (
            400,
            b'{"error": "1 validation error for Input", "detail": [{"loc": ["x", 0], "msg": "too small"}]}',
            InvalidArgument,
            "Leaf/double: 1 validation error for Input; x.0: too small",
        ),
        (404, b'{"detail": "Not Found"}', NotFound, "Leaf/double: Not Found"),
        (415, b'{"error": "no frames"}', BentoMLException, "Leaf/double: no frames"),
        (499, b"[1]", BentoMLException, "Leaf/double: [1]"),
        (500, b'{"error": "look at the log"}', RemoteException, "Leaf/double: look at the log"),
        (503, b"", ServiceUnavailable, "Leaf/double: "),
        (504, b'{"error": "late"}', DeadlineExceeded, "Leaf/double: late"),
    ],
)
def test_a_status_of_the_peer_is_raised_as_its_exception(
    leaf: Callable[[Answer], Any], status: int, body: bytes, kind: type[BentoMLException], message: str
) -> None:
    peer = leaf(lambda path, call: (status, "application/json", body))

    with pytest.raises(kind) as caught:
        peer.double(1)

    assert (str(caught.value), caught.value.status) == (message, status)


def test_a_service_that_has_no_such_endpoint_is_no_affair_of_the_callers_caller(
    leaf: Callable[[Answer], Any],
) -> None:
    peer = leaf(lambda path, call: (404, "text/plain", b"Not Found"))

    with pytest.raises(RemoteException, match=r"^Leaf/double: no such endpoint is served at that address$"):
        peer.double(1)


@pytest.mark.parametrize(
    ("content_type", "body"), [("application/json", b"2"), (codec.MEDIA_TYPE, b"2"), ("text/html", b"<p>")]
)
def test_an_answer_that_is_no_frame_is_the_peers_failure(
    leaf: Callable[[Answer], Any], content_type: str, body: bytes
) -> None:
    peer = leaf(lambda path, call: (200, content_type, body))

    with pytest.raises(RemoteException, match=r"^Leaf/double: ") as caught:
        peer.double(1)

    assert caught.value.status == 500


@pytest.mark.parametrize("method", ["double", "double_later"])
def test_a_peer_that_is_not_there_is_named_with_its_variable(method: str) -> None:
    # Port 9 is for discarding; nothing listens there.
    peers = connect_peers(
        service_of(Top), service_of(Top).dependencies, LIMITS, {"BENTOML_PEER_LEAF": "http://127.0.0.1:9"}
    )

    async def call() -> None:
        try:
            result = getattr(peers.by_attribute["leaf"], method)(1)
            await result
        finally:
            await peers.close()

    with pytest.raises(
        ServiceUnavailable,
        match=r"^Leaf at http://127\.0\.0\.1:9 \(BENTOML_PEER_LEAF\) cannot be reached: Connection refused",
    ):
        asyncio.run(call())


def test_a_peer_that_does_not_answer_in_time_is_named(leaf: Callable[..., Any]) -> None:
    answered = threading.Event()

    def slow(path: str, call: Any) -> tuple[int, str, bytes]:
        answered.wait(10)
        return framed(None)

    peer = leaf(slow, timeout_s=0.05)
    with pytest.raises(DeadlineExceeded, match=r"\(BENTOML_PEER_LEAF\) did not answer /v1/double in time"):
        peer.double(1)
    answered.set()


def test_a_peer_that_hangs_up_is_named(leaf: Callable[[Answer], Any]) -> None:
    def hang_up(path: str, call: Any) -> tuple[int, str, bytes]:
        raise ConnectionAbortedError

    peer = leaf(hang_up)
    with pytest.raises(
        RemoteException, match=r"\(BENTOML_PEER_LEAF\) ended the connection during /v1/double: "
    ):
        peer.double(1)


@pytest.mark.parametrize(("verb", "may_be_sent_again"), [("GET", True), ("PUT", True), ("POST", False)])
def test_what_is_asked_about_a_task_may_be_asked_again(verb: str, may_be_sent_again: bool) -> None:
    remote = RemoteEndpoint(service_of(Leaf).endpoints["double"], service_of(Leaf), LIMITS, token=None)

    assert remote.bare_request(verb, "status?task_id=1").is_idempotent is may_be_sent_again


def test_why_a_stream_did_not_begin_is_waited_for_no_longer_than_the_caller_waits() -> None:
    async def announce_and_be_silent(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 500 Oops\r\ncontent-length: 9\r\n\r\n")
        await wire.is_left()

    async def test() -> None:
        limits = Limits(answer_s=2 * DEADLINE_S, item_s=2 * DEADLINE_S)
        remote = RemoteEndpoint(service_of(Leaf).endpoints["double"], service_of(Leaf), limits, token=None)
        async with listening(announce_and_be_silent) as listener:
            channel = Channel("Leaf", [listener.url], "")
            deadline.current.set(Deadline(time.monotonic() + 0.2))
            with pytest.raises(DeadlineExceeded):
                await anext(RemoteCall(remote, (1,), {}).items(channel))
            channel.close()

    run(test())


def test_a_version_of_the_peer_may_be_learnt_while_another_thread_makes_a_call() -> None:
    remote = RemoteEndpoint(service_of(Leaf).endpoints["double"], service_of(Leaf), LIMITS, token=None)
    new, old, older = (
        replace(remote.contract, result=Type(name)).text() for name in ("str", "bytes", "list")
    )

    class Learning(dict[str, int]):
        """Arguments at the sight of which another version is learnt."""

        def __iter__(self) -> Iterator[str]:
            remote.learn(older)
            return super().__iter__()

    remote.learn(new)
    remote.learn(old)

    assert b"x-bento-contract" in remote.call_request((), Learning(x=1)).headers
