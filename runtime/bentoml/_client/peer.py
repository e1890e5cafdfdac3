"""Clients of peers: what a running service finds behind `depends()`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import httpx
from pydantic import TypeAdapter, ValidationError

from bentoml import codec
from bentoml._client.response import error_words
from bentoml._endpoint import Endpoint
from bentoml._environment import peer_variable
from bentoml._service import Service
from bentoml._signature import EndpointSignature
from bentoml._trace import outgoing_headers
from bentoml.exceptions import (
    BadInput,
    DeadlineExceeded,
    RemoteException,
    ServiceUnavailable,
    UnservableException,
    exception_for,
)

_HEADERS = {"content-type": codec.MEDIA_TYPE, "accept": codec.MEDIA_TYPE}
# More than the callers of one worker; a pool that is full would make them wait for one another.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=4.0)


class Peer:
    """One peer service, with a method for each of its endpoints.

    Methods declared `async def` are awaited, the others return; `to_async` and `to_sync` have all of them
    in one of the two kinds. One client serves all calls of a process.
    """

    to_async: SimpleNamespace
    to_sync: SimpleNamespace

    def __init__(self, service: Service[Any], address: str, timeout_s: float) -> None:
        self._service = service
        self._channel = _Channel(service.name, address + service.path_prefix, timeout_s)
        self.to_async, self.to_sync = SimpleNamespace(), SimpleNamespace()
        for name, endpoint in service.endpoints.items():
            awaited, blocking = self._methods(endpoint)
            vars(self.to_async)[name], vars(self.to_sync)[name] = awaited, blocking
            vars(self)[name] = awaited if endpoint.is_async else blocking

    def _methods(self, endpoint: Endpoint) -> tuple[Callable[..., Any], Callable[..., Any]]:
        channel, route = self._channel, endpoint.route
        result = _ResultType(endpoint, self._service.name)

        if endpoint.is_stream:
            return _refuse_stream(endpoint), _refuse_stream(endpoint)

        async def call_async(*args: Any, **kwargs: Any) -> Any:
            return result.of(await channel.call(route, args, kwargs))

        def call(*args: Any, **kwargs: Any) -> Any:
            return result.of(channel.call_blocking(route, args, kwargs))

        for method in (call_async, call):
            method.__name__, method.__doc__ = endpoint.name, endpoint.__doc__
        return call_async, call

    def __getattr__(self, name: str) -> Any:
        endpoints = ", ".join(self._service.endpoints) or "none"
        raise AttributeError(f"{self._service.name} has no endpoint {name!r}; its endpoints: {endpoints}")

    def __repr__(self) -> str:
        return f"<Peer {self._service.name} at {self._channel.address}>"


def _refuse_stream(endpoint: Endpoint) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise UnservableException(f"{endpoint.name} streams, and streams between services are not served yet")

    return refuse


class _ResultType:
    """Makes the project's own classes of a result again: they travel as plain mappings."""

    def __init__(self, endpoint: Endpoint, service: str) -> None:
        self._endpoint = endpoint
        self._service = service

    def of(self, value: Any) -> Any:
        """The value as the annotation says it is; as it came where that says nothing, or is not true."""
        if self._adapter is None:
            return value
        try:
            return self._adapter.validate_python(value)
        except ValidationError:
            return value

    @cached_property
    def _adapter(self) -> TypeAdapter[Any] | None:
        try:
            signature = EndpointSignature(self._endpoint, self._service)
            return signature.output if signature.returns_classes else None
        except UnservableException:
            # The annotation may name modules that only the peer has.
            return None


class _Channel:
    """Calls to one address: encode, send, receive, decode."""

    def __init__(self, service: str, address: str, timeout_s: float) -> None:
        self.address = address
        self._service = service
        timeout = httpx.Timeout(timeout_s, connect=5.0)
        self._client = httpx.AsyncClient(
            base_url=address, headers=_HEADERS, timeout=timeout, limits=_LIMITS, trust_env=False
        )
        self._blocking_client = httpx.Client(
            base_url=address, headers=_HEADERS, timeout=timeout, limits=_LIMITS, trust_env=False
        )

    async def call(self, route: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        body = b"".join(codec.encode([list(args), kwargs]))
        try:
            response = await self._client.post(route, content=body, headers=outgoing_headers())
        except httpx.HTTPError as error:
            raise self._failure(error, route) from error
        return self._result(response, route)

    def call_blocking(self, route: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        body = b"".join(codec.encode([list(args), kwargs]))
        try:
            response = self._blocking_client.post(route, content=body, headers=outgoing_headers())
        except httpx.HTTPError as error:
            raise self._failure(error, route) from error
        return self._result(response, route)

    def _result(self, response: httpx.Response, route: str) -> Any:
        if response.status_code == 200 and response.headers.get("content-type") == codec.MEDIA_TYPE:
            try:
                # A bytearray, so that arrays which the caller gets may be written to.
                return codec.decode(bytearray(response.content))
            except BadInput as error:
                raise RemoteException(f"{self._service}{route}: its answer: {error}") from None
        raise exception_for(response.status_code, f"{self._service}{route}: {error_words(response.content)}")

    def _failure(self, error: httpx.HTTPError, route: str) -> Exception:
        where = f"{self._service} at {self.address} ({peer_variable(self._service)})"
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return ServiceUnavailable(f"{where} cannot be reached: {error}")
        if isinstance(error, httpx.TimeoutException):
            return DeadlineExceeded(f"{where} did not answer {route} in time")
        return RemoteException(f"{where} ended the connection during {route}: {error}")

    async def close(self) -> None:
        await self._client.aclose()
        self._blocking_client.close()


async def close_peer(peer: Peer) -> None:
    """Close the connections to a peer. Not a method of its own, since an endpoint may have any name."""
    await peer._channel.close()
