"""Calls to one peer, at whose addresses sockets do what each test says."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
import trustme
from tests.runtime.conftest import free_port
from tests.runtime.peers.wire_ends import (
    Wire,
    listening,
    open_sockets,
    response,
    run,
    turns,
)

from bentoml._peers.channel import Channel, Request, RetryBudget
from bentoml.exceptions import BentoMLConfigException, DeadlineExceeded, RemoteException, ServiceUnavailable

LONG_S = 60.0
VARIABLE = "BENTO_URL_LEAF"


def channel_to(*urls: str) -> Channel:
    return Channel("Leaf", urls, VARIABLE)


def request(*, timeout_s: float = LONG_S, is_idempotent: bool = False, body: bytes = b"") -> Request:
    return Request("POST", "/double", b"", [body], timeout_s, is_idempotent=is_idempotent)


async def called(channel: Channel) -> bytes:
    """The body of an answer that comes as a whole."""
    return bytes((await channel.call(request())).body)


async def streamed(channel: Channel) -> bytes:
    """The body of an answer that comes in pieces."""
    stream = await channel.open_stream(request())
    try:
        return await stream.read_all(LONG_S)
    finally:
        stream.close()


def refusing() -> str:
    """An address at which nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


class Counting:
    """A conversation that counts requests, and answers each as the test says.

    Attributes:
        heads: of the requests that have come, whole.
    """

    def __init__(self, *answers: Callable[[Wire], Awaitable[None]]) -> None:
        self._answers = answers
        self.heads: list[bytes] = []

    async def __call__(self, wire: Wire) -> None:
        while True:
            self.heads.append(await wire.request())
            await self._answers[min(len(self.heads), len(self._answers)) - 1](wire)


def saying(*pieces: bytes) -> Callable[[Wire], Awaitable[None]]:
    async def send(wire: Wire) -> None:
        await wire.send(*pieces)

    return send


def cutting(*pieces: bytes) -> Callable[[Wire], Awaitable[None]]:
    """Answer with this much, and close."""

    async def cut(wire: Wire) -> None:
        await wire.send(*pieces)
        wire.end()
        raise EOFError

    return cut


async def resetting(wire: Wire) -> None:
    wire.reset()
    raise EOFError


async def silent(wire: Wire) -> None:
    await wire.is_left()


# What is sent


def test_a_request_says_how_long_its_caller_waits() -> None:
    async def test() -> None:
        peer = Counting(saying(response()))
        async with listening(peer) as listener:
            channel = channel_to(listener.url + "/base")
            await channel.call(request(timeout_s=7.5, body=b"abc"))
            channel.close()

        line, host, timeout, length, *_ = peer.heads[0].split(b"\r\n")
        assert (line, host, length) == (
            b"POST /base/double HTTP/1.1",
            b"host: 127.0.0.1:%d" % listener.address[1],
            b"content-length: 3",
        )
        name, _, milliseconds = timeout.partition(b": ")
        assert name == b"x-bento-timeout-ms"
        assert 7000 < int(milliseconds) <= 7500

    run(test())


def test_calls_one_after_the_other_share_a_connection() -> None:
    async def test() -> None:
        async with listening(Counting(saying(response()))) as listener:
            channel = channel_to(listener.url)
            for _ in range(5):
                await channel.call(request())
            channel.close()

            assert listener.accepted == 1

    run(test())


# A request that did not reach the peer


def test_a_peer_that_is_down_is_named_with_address_and_variable_at_once() -> None:
    async def test() -> None:
        url = refusing()
        channel = channel_to(url)

        with pytest.raises(ServiceUnavailable) as raised:
            await called(channel)
        channel.close()
        await turns(2)

        assert str(raised.value) == f"Leaf at {url} ({VARIABLE}) cannot be reached: Connection refused"

    run(test())


@pytest.mark.parametrize("is_stream", [False, True], ids=["call", "stream"])
def test_a_refused_call_goes_to_the_next_replica(is_stream: bool) -> None:
    async def test() -> None:
        async with listening(Counting(saying(response(b"from the other")))) as listener:
            for urls in [refusing(), listener.url], [listener.url, refusing()]:
                channel = channel_to(*urls)
                body = await (streamed if is_stream else called)(channel)
                channel.close()
                await turns(2)

                assert body == b"from the other"

    run(test())


def test_when_no_replica_is_left_all_are_named() -> None:
    async def test() -> None:
        urls = refusing(), refusing(), refusing()
        channel = channel_to(*urls)

        with pytest.raises(ServiceUnavailable, match=", ".join(urls)):
            await channel.call(request())
        channel.close()
        await turns(2)

    run(test())


def test_a_peer_whose_connections_end_at_once_is_not_asked_for_ever() -> None:
    async def test() -> None:
        async def end(wire: Wire) -> None:
            wire.end()

        async with listening(end) as listener:
            channel = channel_to(listener.url)
            for _ in range(20):
                with pytest.raises((ServiceUnavailable, RemoteException)):
                    await channel.call(request())
            channel.close()
            await turns(2)

            assert listener.accepted <= 20 + 20  # one for each call, and as many probes at most

    run(test())


def test_a_name_that_no_server_knows_is_said_to_be_unknown() -> None:
    async def test() -> None:
        with pytest.raises(ServiceUnavailable, match=r"Leaf at http://leaf\.invalid:1 .* cannot be found: "):
            await channel_to("http://leaf.invalid:1").call(request())

    run(test())


@pytest.mark.parametrize("url", ["http://a..b:80", "http://leaf:99999", "http://[::1:80"])
def test_what_is_no_address_is_said_with_its_variable(url: str) -> None:
    with pytest.raises(BentoMLConfigException, match=f"^{VARIABLE}: http"):
        channel_to(url)


# A request that may have reached the peer

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"
CUTS = {
    "before the answer": cutting(),
    "within its head": cutting(HEAD[:20]),
    "before its body": cutting(HEAD),
    "within its body": cutting(HEAD, b"abc"),
    "reset": resetting,
    "no HTTP": cutting(b"\0" * 100),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("is_stream", [False, True], ids=["call", "stream"])
def test_a_request_that_was_read_is_never_sent_again(
    cut: Callable[[Wire], Awaitable[None]], is_stream: bool
) -> None:
    async def test() -> None:
        peer = Counting(cut)
        async with listening(peer) as listener, listening(peer) as another:
            channel = channel_to(listener.url, another.url)
            send = streamed if is_stream else called

            with pytest.raises(RemoteException, match=r"^Leaf at .* ended the connection during /double: "):
                await send(channel)
            channel.close()
            await turns(2)

        assert len(peer.heads) == 1

    run(test())


@pytest.mark.parametrize("status", ["429 Too Many Requests", "502 Bad Gateway", "503 Service Unavailable"])
def test_a_busy_peer_is_asked_once(status: str) -> None:
    async def test() -> None:
        peer = Counting(saying(response(status=status)))
        async with listening(peer) as listener:
            channel = channel_to(listener.url)
            answer = await channel.call(request())
            channel.close()

        assert (answer.status, len(peer.heads)) == (int(status[:3]), 1)

    run(test())


TROUBLE = {**CUTS, **{str(status): saying(response(status=f"{status} Busy")) for status in (429, 502, 503)}}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
def test_a_method_that_may_be_called_again_is(trouble: Callable[[Wire], Awaitable[None]]) -> None:
    async def test() -> None:
        peer = Counting(trouble, saying(response(b"at last")))
        async with listening(peer) as listener:
            channel = channel_to(listener.url)
            answer = await channel.call(request(is_idempotent=True))
            channel.close()
            await turns(2)

        assert (answer.status, bytes(answer.body), len(peer.heads)) == (200, b"at last", 2)

    run(test())


def test_an_error_of_the_method_is_no_reason_to_call_it_again() -> None:
    async def test() -> None:
        peer = Counting(saying(response(status="500 Error")))
        async with listening(peer) as listener:
            channel = channel_to(listener.url)
            await channel.call(request(is_idempotent=True))
            channel.close()

        assert len(peer.heads) == 1

    run(test())


def test_a_method_is_called_four_times_at_most() -> None:
    async def test() -> None:
        peer = Counting(saying(response(status="503 Busy")))
        async with listening(peer) as listener:
            channel = channel_to(listener.url)
            answer = await channel.call(request(is_idempotent=True))
            channel.close()

        assert (answer.status, len(peer.heads)) == (503, 4)

    run(test())


def test_a_method_is_not_called_again_when_its_caller_would_not_wait_for_it() -> None:
    async def test() -> None:
        peer = Counting(saying(response(status="503 Busy")))
        async with listening(peer) as listener:
            channel = channel_to(listener.url)
            answer = await channel.call(request(is_idempotent=True, timeout_s=0.02))
            channel.close()

        assert (answer.status, len(peer.heads)) == (503, 1)

    run(test())


def test_pauses_before_further_attempts_grow_and_differ() -> None:
    async def test() -> None:
        came: list[list[float]] = []

        async def busy(wire: Wire) -> None:
            came[-1].append(time.monotonic())
            await wire.send(response(status="503 Busy"))

        async with listening(Counting(busy)) as listener:
            for seed in 1, 2:
                random.seed(seed)
                came.append([])
                channel = channel_to(listener.url)
                await channel.call(request(is_idempotent=True))
                channel.close()

        least = [0.025, 0.05, 0.1]
        for times in came:
            pauses = [later - earlier for earlier, later in pairwise(times)]
            assert all(pause >= at_least - 0.002 for pause, at_least in zip(pauses, least, strict=True))
        assert came[0] != came[1]

    run(test())


def test_a_peer_in_trouble_is_not_given_more_of_it() -> None:
    async def test() -> None:
        peer = Counting(saying(response(status="503 Busy")))
        async with listening(peer) as listener:
            channel = channel_to(listener.url)
            await asyncio.gather(*(channel.call(request(is_idempotent=True)) for _ in range(30)))
            channel.close()

        assert len(peer.heads) <= 30 + 10

    run(test())


def test_the_budget_of_attempts_is_a_tenth_of_the_calls() -> None:
    budget = RetryBudget()
    spent = sum(budget.spend() for _ in range(100))
    for _ in range(101):
        budget.earn()

    assert (spent, sum(budget.spend() for _ in range(100))) == (10, 10)


# Time


@pytest.mark.parametrize("is_stream", [False, True], ids=["call", "stream"])
def test_an_answer_that_does_not_come_in_time_is_given_up(is_stream: bool) -> None:
    async def test() -> None:
        async with listening(Counting(silent)) as listener:
            channel = channel_to(listener.url)
            send = channel.open_stream if is_stream else channel.call

            with pytest.raises(DeadlineExceeded, match=r"^Leaf at .* did not answer /double in time$"):
                await send(request(timeout_s=0.02))
            channel.close()

    run(test())


def test_nothing_is_sent_for_a_caller_that_does_not_wait_any_more() -> None:
    async def test() -> None:
        async with listening(Counting(saying(response()))) as listener:
            with pytest.raises(
                DeadlineExceeded, match=r"was not asked for /double: the time was over before$"
            ):
                await channel_to(listener.url).call(request(timeout_s=-1.0))

            assert listener.accepted == 0

    run(test())


def test_a_name_server_that_does_not_answer_costs_no_more_than_the_caller_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        async def forever(*_: object, **__: object) -> None:
            await asyncio.get_running_loop().create_future()

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "getaddrinfo", forever)

        with pytest.raises(DeadlineExceeded, match="was not asked for /double"):
            await channel_to("http://leaf:3000").call(request(timeout_s=0.02))

    asyncio.run(test())


def test_a_late_piece_of_a_stream_is_a_deadline() -> None:
    async def test() -> None:
        async with listening(Counting(saying(HEAD, b"a piece"))) as listener:
            channel = channel_to(listener.url)
            stream = await channel.open_stream(request())
            assert await stream.read(LONG_S) == b"a piece"

            with pytest.raises(DeadlineExceeded):
                await stream.read(0.02)
            stream.close()
            channel.close()

    run(test())


# Streams


def test_after_its_end_the_connection_of_a_stream_carries_the_next_call() -> None:
    async def test() -> None:
        async with listening(Counting(saying(response(b"whole")))) as listener:
            channel = channel_to(listener.url)
            bodies = [await streamed(channel), await streamed(channel), await called(channel)]
            channel.close()

            assert (bodies, listener.accepted) == ([b"whole"] * 3, 1)

    run(test())


def test_a_stream_that_is_closed_before_its_end_is_ended_at_the_peer() -> None:
    async def test() -> None:
        left = asyncio.Event()

        async def send(wire: Wire) -> None:
            await wire.send(HEAD, b"a piece")
            await wire.is_left()
            left.set()

        async with listening(Counting(send)) as listener:
            channel = channel_to(listener.url)
            stream = await channel.open_stream(request())
            stream.close()
            await left.wait()
            channel.close()

    run(test())


def test_a_closed_stream_reads_nothing_of_the_next_one() -> None:
    async def test() -> None:
        async with listening(Counting(saying(response(b"whole")))) as listener:
            channel = channel_to(listener.url)
            first = await channel.open_stream(request())
            await first.read_all(LONG_S)
            first.close()
            second = await channel.open_stream(request())

            assert (await first.read(LONG_S), await second.read(LONG_S)) == (b"", b"whole")
            second.close()
            channel.close()

    run(test())


# What is left behind


def test_ten_thousand_abandoned_calls_leave_nothing_behind() -> None:
    async def test() -> None:
        dice = random.Random(7)

        async def talk(wire: Wire) -> None:
            while True:
                await wire.request()
                await turns(dice.randrange(6))
                await wire.send(HEAD)
                await turns(dice.randrange(6))
                await wire.send(bytes(100))

        async def abandon(number: int) -> None:
            call = asyncio.create_task((streamed if number % 2 else called)(channel))
            await turns(dice.randrange(25))
            call.cancel()
            with suppress(asyncio.CancelledError):
                await call

        async with listening(talk) as listener:
            before = open_sockets()
            tasks = len(asyncio.all_tasks())
            channel = channel_to(listener.url)
            for start in range(0, 10_000, 50):
                await asyncio.gather(*(abandon(start + number) for number in range(50)))
            channel.close()
            last = channel_to(listener.url)  # whoever connected before is accepted before
            await called(last)
            last.close()
            await listener.all_left()
            await turns(3)

            assert (open_sockets(), len(asyncio.all_tasks())) == (before, tasks)

    run(test())


# TLS


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


class Encrypted:
    """A server on `localhost` with a certificate, that answers each request."""

    def __init__(self, authority: trustme.CA) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self._context)

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0, ssl=self._context)
        return f"https://localhost:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, EOFError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(response(bytes(100_000)))
        writer.close()


def test_a_certificate_is_checked_against_those_that_the_system_trusts(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        async with Encrypted(authority) as url:
            channel = channel_to(url)
            answers = [await channel.call(request()) for _ in range(3)]
            channel.close()

            assert [bytes(answer.body) for answer in answers] == [bytes(100_000)] * 3

    run(test())


def test_a_peer_with_an_unknown_certificate_is_sent_nothing(authority: trustme.CA) -> None:
    async def test() -> None:
        async with Encrypted(authority) as url:
            channel = channel_to(url)
            with pytest.raises(
                ServiceUnavailable, match="cannot be reached: its certificate: unable to get local"
            ):
                await channel.call(request())
            channel.close()
            await turns(2)

    run(test())


def test_a_peer_that_does_not_encrypt_is_sent_nothing() -> None:
    async def test() -> None:
        async with listening(saying(response())) as listener:
            channel = channel_to(listener.url.replace("http", "https"))
            with pytest.raises(ServiceUnavailable, match="cannot be reached: TLS: "):
                await channel.call(request())
            channel.close()
            await turns(2)

    run(test())
