"""Several replicas of a peer: which is asked, and how they come and go."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from tests.runtime.conftest import free_port
from tests.runtime.peers.wire_ends import (
    LOOPS,
    Conversation,
    Listener,
    Wire,
    becomes,
    listening,
    open_sockets,
    response,
    run,
    run_on,
    turns,
)

from bentoml._peers import connection as connection_module
from bentoml._peers import replicas as module
from bentoml._peers.channel import Channel, Request
from bentoml._peers.replicas import Address, Replica, Replicas

LONG_S = 60.0


async def called(channel: Channel) -> bytes:
    """The body of an answer."""
    return bytes((await channel.call(Request("POST", "/", b"", [], LONG_S))).body)


def answering(body: bytes = b"", headers: bytes = b"") -> Conversation:
    async def talk(wire: Wire) -> None:
        while True:
            await wire.request()
            await wire.send(response(body, headers=headers))

    return talk


class Held:
    """A peer that answers when the test says so."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.asked = 0

    async def __call__(self, wire: Wire) -> None:
        while True:
            await wire.request()
            self.asked += 1
            await self.answers.wait()
            await wire.send(response(b"held"))


@asynccontextmanager
async def channel_to(*urls: str) -> AsyncIterator[Channel]:
    channel = Channel("Leaf", urls, "")
    try:
        yield channel
    finally:
        channel.close()
        await turns(3)


# Addresses


@pytest.mark.parametrize(
    ("url", "authority", "host", "port", "path", "is_name"),
    [
        ("http://leaf:3000", "leaf:3000", "leaf", 3000, "", True),
        ("http://leaf", "leaf", "leaf", 80, "", True),
        ("https://leaf", "leaf", "leaf", 443, "", True),
        ("https://leaf:80/", "leaf:80", "leaf", 80, "", True),
        ("http://10.0.0.1:3000/v1/", "10.0.0.1:3000", "10.0.0.1", 3000, "/v1", False),
        ("http://[fd00::1]:3000", "[fd00::1]:3000", "fd00::1", 3000, "", False),
        (
            "http://b\u00fccher:3000/\u00fc%20b",
            "xn--bcher-kva:3000",
            "xn--bcher-kva",
            3000,
            "/%C3%BC%20b",
            True,
        ),
    ],
    ids=["name", "port of HTTP", "port of HTTPS", "other port", "path", "IPv6", "beyond ASCII"],
)
def test_an_address_is_taken_apart(
    url: str, authority: str, host: str, port: int, path: str, is_name: bool
) -> None:
    address = Address.of(url)

    assert (address.authority, address.host, address.port) == (authority, host, port)
    assert (address.path, address.is_name) == (path, is_name)


# Which is asked


def test_calls_are_spread_evenly() -> None:
    async def test() -> None:
        one, two = Held(), Held()
        async with (
            listening(one) as first,
            listening(two) as second,
            channel_to(first.url, second.url) as channel,
        ):
            calls = [asyncio.create_task(called(channel)) for _ in range(10)]
            await becomes(lambda: one.asked + two.asked == 10)
            one.answers.set()
            two.answers.set()
            await asyncio.gather(*calls)

        assert (one.asked, two.asked) == (5, 5)

    run(test())


def test_a_slow_replica_gets_fewer_calls() -> None:
    async def test() -> None:
        slow = Held()
        async with (
            listening(slow) as first,
            listening(answering(b"quick")) as second,
            channel_to(first.url, second.url) as channel,
        ):
            calls = [asyncio.create_task(called(channel)) for _ in range(2)]
            await becomes(lambda: slow.asked)
            bodies = [await called(channel) for _ in range(20)]
            slow.answers.set()
            await asyncio.gather(*calls)

        assert (slow.asked, bodies) == (1, [b"quick"] * 20)

    run(test())


def test_a_replica_that_is_down_is_not_asked_until_it_is_back() -> None:
    async def test() -> None:
        port = free_port()
        async with (
            listening(answering(b"one")) as first,
            channel_to(first.url, f"http://127.0.0.1:{port}") as channel,
        ):
            while_down = [await called(channel) for _ in range(10)]

            async with listening(answering(b"two"), ("127.0.0.1", port)) as second:
                await becomes(lambda: second.accepted)  # by the probe
                await turns(5)
                when_back = [await called(channel) for _ in range(10)]
                accepted = second.accepted
                channel.close()

        assert while_down == [b"one"] * 10
        assert sorted(when_back) == [b"one"] * 5 + [b"two"] * 5
        assert accepted == 1  # the connection of the probe carries the calls

    run(test())


def test_a_replica_that_ends_its_connections_is_asked_last() -> None:
    async def test() -> None:
        async with (
            listening(answering(b"leaves", b"connection: close\r\n")) as first,
            listening(answering(b"stays")) as second,
            channel_to(first.url, second.url) as channel,
        ):
            bodies = [await called(channel) for _ in range(12)]

        assert bodies.count(b"leaves") == 1

    run(test())


def test_a_replica_that_ends_its_connections_is_asked_when_no_other_is_there() -> None:
    async def test() -> None:
        async with (
            listening(answering(b"leaves", b"connection: close\r\n")) as listener,
            channel_to(listener.url) as channel,
        ):
            bodies = [await called(channel) for _ in range(5)]

        assert bodies == [b"leaves"] * 5

    run(test())


# Connections


def test_connections_are_closed_when_they_were_idle_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_IDLE_S", 0.02)
    monkeypatch.setattr(connection_module, "LONGEST_IDLE_S", 0.01)

    async def test() -> None:
        async with listening(answering()) as listener, channel_to(listener.url) as channel:
            await asyncio.gather(*(called(channel) for _ in range(5)))

            await listener.all_left()

    run(test())


def test_no_more_connections_are_kept_than_64() -> None:
    async def test() -> None:
        held = Held()
        async with listening(held) as listener, channel_to(listener.url) as channel:
            calls = [asyncio.create_task(called(channel)) for _ in range(70)]
            await becomes(lambda: held.asked == 70)
            held.answers.set()
            await asyncio.gather(*calls)

            await becomes(lambda: listener.present == 64)

    run(test())


async def silent(wire: Wire) -> None:
    await wire.is_left()


def replica_at(url: str) -> Replica:
    address = Address.of(url)
    return Replica(address, address.host, is_spare=False)


def test_a_replica_that_does_not_come_to_terms_is_given_up_in_time() -> None:
    async def test() -> None:
        async with listening(silent) as listener:
            replica = replica_at(listener.url.replace("http", "https"))
            with pytest.raises(TimeoutError, match=r"no connection within 0\.0 s"):
                await replica.connect(0.02)

            await listener.all_left()

    run(test())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_caller_that_leaves_while_it_connects_leaves_no_connection(loop: str, scheme: str) -> None:
    async def test() -> None:
        before = open_sockets()
        async with listening(silent) as listener:
            replica = replica_at(listener.url.replace("http", scheme))
            for count in range(20):
                connecting = asyncio.create_task(replica.acquire(LONG_S))
                await turns(count)
                connecting.cancel()
                (outcome,) = await asyncio.gather(connecting, return_exceptions=True)
                if not isinstance(outcome, BaseException):
                    replica.release(outcome)
                    replica.leave()
            await turns(3)

            assert replica.in_flight == 0
        await turns(3)
        assert open_sockets() == before

    run_on(LOOPS[loop], test())


# Names


class Names(asyncio.SelectorEventLoop):
    """A loop with a name server of its own.

    Attributes:
        ips: of each name; it does not answer for those that have none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ips: dict[str, Sequence[str]] = {}
        self.asked = 0

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> list[Any]:
        self.asked += 1
        await asyncio.sleep(0)
        if host not in self.ips:
            raise socket.gaierror(socket.EAI_AGAIN, "it does not answer")
        return [
            (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))
            for ip in self.ips[host]
        ]


def run_with(ips: Mapping[str, Sequence[str]], test: Coroutine[Any, Any, None]) -> None:
    def new_loop() -> Names:
        loop = Names()
        loop.ips = dict(ips)
        return loop

    run_on(new_loop, test)


def names() -> Names:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Names)
    return loop


@pytest.fixture
def resolved_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are asked for again with each call."""
    monkeypatch.setattr(module, "_RESOLVE_EVERY_S", -1.0)


@asynccontextmanager
async def leaves(count: int, port: int) -> AsyncIterator[list[Listener]]:
    """Replicas at 127.0.0.1, 127.0.0.2 ..., each of which answers with the last number of its address."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(listening(answering(b"%d" % number), (f"127.0.0.{number}", port)))
            for number in range(1, count + 1)
        ]


async def renewed(channel: Channel) -> None:
    """Make a call, behind which the names are asked for again, and wait until that is done."""
    before = names().asked
    await called(channel)
    await becomes(lambda: names().asked > before)
    await turns(5)


def test_calls_go_to_all_addresses_of_a_name() -> None:
    async def test() -> None:
        port = free_port()
        async with leaves(3, port), channel_to(f"http://leaf:{port}") as channel:
            bodies = [await called(channel) for _ in range(9)]

        assert sorted(bodies) == [b"1"] * 3 + [b"2"] * 3 + [b"3"] * 3

    run_with({"leaf": ["127.0.0.1", "127.0.0.2", "127.0.0.3"]}, test())


def test_callers_that_are_first_together_see_the_same_replicas() -> None:
    async def test() -> None:
        port = free_port()
        async with leaves(2, port) as listeners:
            async with channel_to(f"http://leaf:{port}") as channel:
                bodies = await asyncio.gather(*(called(channel) for _ in range(10)))
            for listener in listeners:
                await listener.all_left()  # when the channel is closed, all their connections are

        assert sorted(bodies) == [b"1"] * 5 + [b"2"] * 5

    run_with({"leaf": ["127.0.0.1", "127.0.0.2"]}, test())


def test_a_new_replica_gets_calls(resolved_each_time: None) -> None:
    async def test() -> None:
        port = free_port()
        async with leaves(2, port), channel_to(f"http://leaf:{port}") as channel:
            alone = [await called(channel) for _ in range(4)]
            names().ips["leaf"] = ["127.0.0.1", "127.0.0.2"]
            await renewed(channel)
            together = [await called(channel) for _ in range(4)]

        assert (alone, sorted(together)) == ([b"1"] * 4, [b"1", b"1", b"2", b"2"])

    run_with({"leaf": ["127.0.0.1"]}, test())


def test_a_replica_that_is_gone_is_left(resolved_each_time: None) -> None:
    async def test() -> None:
        port = free_port()
        async with leaves(2, port) as (_, gone), channel_to(f"http://leaf:{port}") as channel:
            before = [await called(channel) for _ in range(4)]
            names().ips["leaf"] = ["127.0.0.1"]
            await renewed(channel)
            after = [await called(channel) for _ in range(4)]
            await gone.all_left()

        assert (sorted(before), after) == ([b"1", b"1", b"2", b"2"], [b"1"] * 4)

    run_with({"leaf": ["127.0.0.1", "127.0.0.2"]}, test())


def test_a_call_that_runs_at_a_replica_that_is_gone_ends_well(resolved_each_time: None) -> None:
    async def test() -> None:
        port = free_port()
        held = Held()
        async with (
            listening(held, ("127.0.0.2", port)) as gone,
            listening(answering(), ("127.0.0.1", port)),
            channel_to(f"http://leaf:{port}") as channel,
        ):
            call = asyncio.create_task(called(channel))
            await becomes(lambda: held.asked)
            names().ips["leaf"] = ["127.0.0.1"]
            names().asked = 0
            later = asyncio.create_task(called(channel))
            await becomes(lambda: names().asked)
            await turns(5)
            held.answers.set()

            assert await call == b"held"
            await later
            await gone.all_left()  # and its connection is not kept

    run_with({"leaf": ["127.0.0.2"]}, test())


def test_replicas_stay_when_the_name_server_is_away(resolved_each_time: None) -> None:
    async def test() -> None:
        port = free_port()
        async with leaves(2, port), channel_to(f"http://leaf:{port}") as channel:
            await called(channel)
            names().ips.clear()
            await renewed(channel)
            bodies = [await called(channel) for _ in range(4)]

        assert sorted(bodies) == [b"1", b"1", b"2", b"2"]

    run_with({"leaf": ["127.0.0.1", "127.0.0.2"]}, test())


def test_of_two_names_one_that_is_unknown_for_a_while_keeps_its_replicas(resolved_each_time: None) -> None:
    async def test() -> None:
        port = free_port()
        urls = f"http://one:{port}", f"http://two:{port}"
        async with leaves(3, port), channel_to(*urls) as channel:
            await called(channel)
            del names().ips["one"]
            names().ips["two"] = ["127.0.0.3"]
            await renewed(channel)
            bodies = [await called(channel) for _ in range(4)]

        assert sorted(bodies) == [b"1", b"1", b"3", b"3"]

    run_with({"one": ["127.0.0.1"], "two": ["127.0.0.2"]}, test())


def test_of_two_kinds_of_addresses_the_newer_one_is_spare() -> None:
    async def test() -> None:
        replicas = Replicas([Address.of("http://leaf:3000")])
        asked = {str(await replicas.pick([], LONG_S)) for _ in range(6)}
        first = await replicas.pick([], LONG_S)
        assert first is not None

        assert asked == {"127.0.0.1:3000"}
        assert str(await replicas.pick([first], LONG_S)) == "[::1]:3000"

    run_with({"leaf": ["::1", "127.0.0.1"]}, test())


def test_the_newer_kind_of_address_is_asked_where_there_is_no_other() -> None:
    async def test() -> None:
        replicas = Replicas([Address.of("http://leaf:3000")])
        asked = {str(await replicas.pick([], LONG_S)) for _ in range(6)}

        assert asked == {"[fd00::1]:3000", "[fd00::2]:3000"}

    run_with({"leaf": ["fd00::1", "fd00::2"]}, test())


def test_an_address_that_a_name_gives_twice_is_one_replica() -> None:
    async def test() -> None:
        replicas = Replicas([Address.of("http://leaf:3000")])
        first = await replicas.pick([], LONG_S)
        assert first is not None

        assert await replicas.pick([first], LONG_S) is None

    run_with({"leaf": ["127.0.0.1", "127.0.0.1"]}, test())
