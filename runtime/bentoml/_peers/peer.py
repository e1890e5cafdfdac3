"""Peers of the graph: what a running service finds behind `depends(Service)`."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, MutableMapping, Sequence
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

from bentoml._fan_out import call_for_each, call_for_each_blocking
from bentoml._peers.blocking import BlockingLoop
from bentoml._peers.channel import Channel
from bentoml._peers.connection import Answer
from bentoml._peers.remote_call import RemoteCall
from bentoml._peers.remote_endpoint import Limits, RemoteEndpoint
from bentoml._peers.remote_task import BlockingRemoteTasks, RemoteTasks
from bentoml._service import Service

T = TypeVar("T")

_Use: TypeAlias = AsyncGenerator[None, None]

_TASK_ACTIONS: Final = ("submit", "get", "get_status", "cancel", "retry")


class Peer:
    """One peer service, with a method for each of its endpoints.

    Methods declared `async` are awaited or iterated over with `async for`, the others return or are plain
    iterators; `to_async` and `to_sync` have all of them in one of the two kinds. All calls of a process go
    through one of these.

    Args:
        addresses: base URLs, between which calls are balanced.
        source: the variable that named them, for errors.
        token: proves to the peer that this process belongs to its deployment.
    """

    to_async: _Face
    to_sync: _Face

    def __init__(
        self,
        service: Service[Any],
        addresses: Sequence[str],
        *,
        source: str,
        limits: Limits,
        token: str | None,
        blocking: BlockingLoop,
    ) -> None:
        self._service = service
        self._channels = _Channels(service.name, addresses, source)
        self.to_async, self.to_sync = _Face(service), _Face(service)
        for name, endpoint in service.endpoints.items():
            remote = RemoteEndpoint(endpoint, service, limits, token)
            make = _streams if endpoint.is_stream else _methods
            awaited, waited_for = make(remote, self._channels, blocking)
            for method in (awaited, waited_for):
                method.__name__, method.__doc__ = endpoint.name, endpoint.__doc__
            vars(self.to_async)[name], vars(self.to_sync)[name] = awaited, waited_for
            vars(self)[name] = awaited if endpoint.is_awaited else waited_for

    def __getattr__(self, name: str) -> Any:
        raise _no_endpoint(self._service, name)

    def __repr__(self) -> str:
        return f"<Peer {self._channels.where}>"


class _Face(SimpleNamespace):
    """The methods of a peer in one of the two kinds."""

    def __init__(self, service: Service[Any]) -> None:
        super().__init__()
        self.__service = service

    def __getattr__(self, name: str) -> Any:
        raise _no_endpoint(self.__service, name)


def _no_endpoint(service: Service[Any], name: str) -> AttributeError:
    endpoints = ", ".join(service.endpoints) or "none"
    return AttributeError(f"{service.name} has no endpoint {name!r}; its endpoints: {endpoints}")


class _Channels:
    """The channel to one peer for each loop that calls it: connections belong to the loop that made them."""

    def __init__(self, name: str, addresses: Sequence[str], source: str) -> None:
        self._make: Callable[[], Channel] = partial(Channel, name, addresses, source)
        self.where = self._make().where  # raises for addresses that are none
        self._by_loop: MutableMapping[asyncio.AbstractEventLoop, Channel] = weakref.WeakKeyDictionary()
        self._uses: MutableMapping[asyncio.AbstractEventLoop, _Use] = weakref.WeakKeyDictionary()

    def here(self) -> Channel:
        """That of the running loop."""
        loop = asyncio.get_running_loop()
        channel = self._by_loop.get(loop)
        if channel is None:
            channel = self._by_loop[loop] = self._make()
            use = self._uses[loop] = self._use(loop, channel)
            _run_through(use.asend(None))
        return channel

    async def _use(self, loop: asyncio.AbstractEventLoop, channel: Channel) -> _Use:
        """Closes the channel when it is closed itself: here, or by the end of `asyncio.run` in an endpoint.

        A loop that ends closes the generators that began on it. Connections would else stay open, and hold
        the loop as well.
        """
        try:
            yield
        finally:
            self._by_loop.pop(loop, None)
            channel.close()

    async def sent(self, call: RemoteCall) -> Answer:
        return await call.sent(self.here())

    def close_here(self) -> None:
        """Close that of the running loop."""
        use = self._uses.pop(asyncio.get_running_loop(), None)
        if use is not None:
            _run_through(use.aclose())


def _run_through(step: Coroutine[Any, Any, None]) -> None:
    """Run what waits for nothing."""
    with suppress(StopIteration):
        step.send(None)


Method = Callable[..., Any]


def _methods(remote: RemoteEndpoint, channels: _Channels, blocking: BlockingLoop) -> tuple[Method, Method]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        remote_call = RemoteCall(remote, args, kwargs)
        return remote_call.result(await remote_call.sent(channels.here()))

    def call_blocking(*args: Any, **kwargs: Any) -> Any:
        # Encoded and decoded in the caller's thread; only what lies between is the loop's.
        remote_call = RemoteCall(remote, args, kwargs)
        return remote_call.result(blocking.run(channels.sent(remote_call)))

    vars(call)["map"] = partial(call_for_each, call)
    vars(call_blocking)["map"] = partial(call_for_each_blocking, call_blocking)
    if remote.endpoint.is_task:
        tasks = RemoteTasks(remote, channels.here)
        for method, about in (call, tasks), (call_blocking, BlockingRemoteTasks(tasks, blocking)):
            for action in _TASK_ACTIONS:
                vars(method)[action] = getattr(about, action)
    else:
        for method in call, call_blocking:
            vars(method)["submit"] = partial(_refuse_to_submit, remote)
    return call, call_blocking


def _refuse_to_submit(remote: RemoteEndpoint, *_: object, **__: object) -> NoReturn:
    raise TypeError(f"{remote.where} is no task; `@bentoml.task` in place of `@bentoml.api` makes it one")


def _streams(remote: RemoteEndpoint, channels: _Channels, blocking: BlockingLoop) -> tuple[Method, Method]:
    async def iterate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        pieces = RemoteCall(remote, args, kwargs).items(channels.here())
        try:
            async for values in pieces:
                for value in values:
                    yield value
        finally:
            await pieces.aclose()

    def iterate_blocking(*args: Any, **kwargs: Any) -> Generator[Any, None, None]:
        remote_call = RemoteCall(remote, args, kwargs)
        pieces = blocking.run(_on_this_loop(lambda: remote_call.items(channels.here())))
        try:
            while values := blocking.run(_next(pieces)):
                yield from values
        finally:
            blocking.close_soon(pieces)

    return iterate, iterate_blocking


async def _on_this_loop(make: Callable[[], T]) -> T:
    return make()


async def _next(pieces: AsyncGenerator[list[Any], None]) -> list[Any]:
    """The next items of a stream; none at its end."""
    return await anext(pieces, [])


def close_peer(peer: Peer) -> None:
    """Close the connections of the running loop to a peer. No method: an endpoint may have any name."""
    peer._channels.close_here()
