"""Services outside the graph: what `depends(url=...)` and `depends(deployment=...)` lead to.

They are called as any client calls them, over the public interface, and are asked what they offer by the
first call: a service starts whether or not such a peer is there.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import MutableMapping
from typing import Any

from bentoml._client.http import AsyncHTTPClient, SyncHTTPClient
from bentoml._service import Service


class ExternalPeer:
    """One service outside the graph, with a method for each of its endpoints.

    Where its class is known, methods declared `async def` are awaited and the others return. Where it is not,
    the caller decides: a method called on a running loop is awaited, elsewhere it returns. `to_async` and
    `to_sync` have all of them in one of the two kinds.

    Args:
        service: its class, where `depends()` was given one.
        timeout_s: seconds to wait for each piece of an answer.
        token: what it asks its callers for, if it does.
    """

    def __init__(
        self, address: str, service: Service[Any] | None, timeout_s: float, token: str | None = None
    ) -> None:
        self._address = address
        self._service = service
        self._timeout_s = timeout_s
        self._token = token
        # Connections belong to the loop that made them, and an endpoint may run one of its own.
        self._by_loop: MutableMapping[object, AsyncHTTPClient] = weakref.WeakKeyDictionary()

    @property
    def to_async(self) -> AsyncHTTPClient:
        loop = _running_loop()
        client = None if loop is None else self._by_loop.get(loop)
        if client is None:
            client = AsyncHTTPClient(
                self._address, token=self._token, timeout=self._timeout_s, server_ready_timeout=0
            )
            if loop is not None:
                self._by_loop[loop] = client
        return client

    @property
    def to_sync(self) -> SyncHTTPClient:
        own = vars(self)
        if "_sync" not in own:
            # It asks for the schema. Threads that come before one is there do so side by side: behind a
            # lock, each would wait for the timeouts of all before it.
            made = SyncHTTPClient(
                self._address, token=self._token, timeout=self._timeout_s, server_ready_timeout=0
            )
            if own.setdefault("_sync", made) is not made:
                made.close()
        kept: SyncHTTPClient = own["_sync"]
        return kept

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self._service is None:
            return _EitherMethod(self, name)
        endpoint = self._service.endpoints.get(name)
        if endpoint is None:
            endpoints = ", ".join(self._service.endpoints) or "none"
            raise AttributeError(f"{self._service.name} has no endpoint {name!r}; its endpoints: {endpoints}")
        if endpoint.is_awaited:
            return getattr(self.to_async, endpoint.name)
        return _EitherMethod(self, endpoint.name, is_blocking=True)

    def __repr__(self) -> str:
        return f"<{self._service.name if self._service else 'service'} at {self._address}>"


class _EitherMethod:
    """A method that is awaited where the caller can await, and returns elsewhere."""

    def __init__(self, peer: ExternalPeer, name: str, *, is_blocking: bool = False) -> None:
        self._peer = peer
        self._name = name
        self._is_blocking = is_blocking

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._method()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """What a task has besides, such as `submit`."""
        if name.startswith("__"):
            raise AttributeError(name)  # what `inspect` looks for is not worth a question to the peer
        return getattr(self._method(), name)

    def _method(self) -> Any:
        if self._is_blocking or _running_loop() is None:
            return getattr(self._peer.to_sync, self._name)
        return getattr(self._peer.to_async, self._name)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def close_external(peer: ExternalPeer) -> None:
    """Close the connections to a peer. Not a method of its own, since an endpoint may have any name."""
    client = peer._by_loop.pop(asyncio.get_running_loop(), None)
    if client is not None:
        await client.close()
    if "_sync" in vars(peer):
        peer.to_sync.close()
