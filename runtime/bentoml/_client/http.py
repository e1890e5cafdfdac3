"""Clients of a service from outside: one that waits for its answers, and one to be awaited."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import httpx

from bentoml._client.address import Address, BearerToken, Get, Inquiry, Pause, Received, token_for
from bentoml._client.asgi import ASGITransport, BlockingASGITransport
from bentoml._client.call import Call, Value, about_task, submission
from bentoml._client.response import Downloads, error_of, sink_for
from bentoml._client.schema import EndpointSchema
from bentoml._client.stream import decoder_for
from bentoml._client.task import AsyncTask, Task, id_in, status_in
from bentoml._fan_out import call_for_each, call_for_each_blocking
from bentoml._task_status import TaskStatus
from bentoml._version import __version__
from bentoml.exceptions import NotFound

if TYPE_CHECKING:
    from starlette.types import ASGIApp

T = TypeVar("T")
C = TypeVar("C", bound="_Client")
_HEADERS = {"user-agent": f"bentoml/{__version__}"}


class _Client(ABC):
    """What both clients have in common: all but the sending."""

    _loaded: dict[str, EndpointSchema] | None = None

    def __init__(self, url: str, *, token: str | None) -> None:
        self._address = Address(url)
        token = token_for(self._address) if token is None else token
        self._auth = BearerToken(token, self._address) if token else None
        self._downloads = Downloads()

    def _attributes(self, endpoints: Mapping[str, EndpointSchema]) -> dict[str, EndpointSchema]:
        """The endpoints by the names of their methods, which leave those of the client alone."""
        return {
            f"api_{name}" if hasattr(type(self), name) or name in vars(self) else name: endpoint
            for name, endpoint in endpoints.items()
        }

    def _endpoint(self, name: str) -> EndpointSchema:
        endpoints = self._loaded or {}
        if name not in endpoints:
            raise NotFound(f"{self._address} has no endpoint {name!r}; its endpoints: {_listed(endpoints)}")
        return endpoints[name]

    _for_each: Callable[..., Value]

    def _call(self, endpoint: EndpointSchema, args: tuple[Value, ...], kwargs: Mapping[str, Value]) -> Value:
        call = Call(endpoint=endpoint, args=args, kwargs=kwargs)
        if not endpoint.is_stream:
            return self._result(call)
        endpoint.check(args, kwargs)
        return self._items(call)

    @abstractmethod
    def _result(self, call: Call) -> Value:
        """Send the call, and make its result of the response."""

    @abstractmethod
    def _items(self, call: Call) -> Value:
        """The items of a stream; the call is sent when the first is asked for."""

    def _no_attribute(self, name: str) -> AttributeError:
        endpoints = _listed(vars(self).get("_loaded") or {})
        return AttributeError(f"{self!r} has no endpoint {name!r}; its endpoints: {endpoints}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {vars(self).get('_address')}>"


def _timeout(step: Get) -> Any:
    # The type of the client's own default has no public name.
    return httpx.USE_CLIENT_DEFAULT if step.timeout_s is None else step.timeout_s


def _listed(endpoints: Mapping[str, EndpointSchema]) -> str:
    return ", ".join(endpoints) or "none"


class Method(Generic[C]):
    """One endpoint of a service, to be called as if it were here."""

    def __init__(self, client: C, endpoint: EndpointSchema) -> None:
        self._client, self._endpoint = client, endpoint
        self.__name__, self.__doc__ = endpoint.name, f"{endpoint}\n\n{endpoint.description}".strip()

    def __call__(self, *args: Value, **kwargs: Value) -> Value:
        return self._client._call(self._endpoint, args, kwargs)

    def map(self, items: Value, **options: Value) -> Value:
        """Call it for each of `items`, some at once: to be awaited where the method is.

        The results are in the order of the items. Options are `concurrency=8`, and `return_exceptions=False`,
        with which an exception takes the place of its result.
        """
        return self._client._for_each(self, items, **options)

    def __repr__(self) -> str:
        return f"<{self._endpoint} of {self._client._address}>"


class SyncHTTPClient(_Client):
    """A client of the service at `url`, with a method for each of its endpoints.

    A method whose name the client needs itself is called `api_<name>`. Arrays, images, frames and files are
    given and received as such; the files received are there for as long as the client is. Methods of
    endpoints that stream give an iterator, whose items are there as soon as the service has sent them. Those
    of tasks have `submit()`.

    Args:
        url: the service's address, with the path under which it is reached, if there is one.
        token: sent as a bearer token to this address, and to no other that it redirects to. When not given,
            `BENTO_CLOUD_API_KEY` is, to addresses of the service that the key is for.
        timeout: seconds to wait for a connection, and for each piece of an answer; None waits for ever.
        server_ready_timeout: seconds to wait until the service is ready, `timeout` when not given; with 0
            there is no waiting.
        app: an ASGI application to call in place of the network.
        transport: what sends the requests in place of the network.

    Raises:
        ValueError: `url` is no URL of HTTP.
        ServiceUnavailable: the service is not ready in time.
        RemoteException: what answers is no service.
    """

    _for_each = staticmethod(call_for_each_blocking)

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float | None = 30,
        server_ready_timeout: float | None = None,
        app: ASGIApp | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, token=token)
        if app is not None:
            transport = BlockingASGITransport(app)
        self._http = httpx.Client(
            base_url=self._address.url,
            headers=_HEADERS,
            auth=self._auth,
            timeout=timeout,
            follow_redirects=True,
            transport=transport,
        )
        try:
            wait_s = timeout if server_ready_timeout is None else server_ready_timeout
            if app is None and wait_s != 0:
                self._ask(self._address.wait_until_ready(wait_s))
            self._loaded = self._ask(self._address.fetch_endpoints())
        except BaseException:
            self.close()
            raise
        for attribute, endpoint in self._attributes(self._loaded).items():
            vars(self)[attribute] = (TaskMethod if endpoint.is_task else Method)(self, endpoint)

    def call(self, name: str, /, *args: Value, **kwargs: Value) -> Value:
        """Call the endpoint of this name."""
        return self._call(self._endpoint(name), args, kwargs)

    def is_ready(self, timeout: float | None = None) -> bool:
        """Whether the service takes requests now.

        Args:
            timeout: seconds after which it does not; the client's own when not given.
        """
        return self._ask(self._address.is_ready(timeout))

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Send any request, with the options of `httpx.Client.request`; an error of its own is a response."""
        return self._http.request(method, url, **options)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> SyncHTTPClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # Only called for what is not there; to type checkers, an endpoint may have any name.
    def __getattr__(self, name: str) -> Value:
        raise self._no_attribute(name)

    def _result(self, call: Call) -> Value:
        with (
            self._response(call) as response,
            sink_for(call.output, response.headers, self._downloads) as sink,
        ):
            for chunk in response.iter_bytes():
                sink.write(chunk)
            return sink.value()

    def _items(self, call: Call) -> Iterator[Value]:
        decoder = decoder_for(call.output)
        with self._response(call) as response:
            for chunk in response.iter_bytes():
                yield from decoder.feed(chunk)
            yield from decoder.end()

    @contextmanager
    def _response(self, call: Call) -> Iterator[httpx.Response]:
        with call.failures(self._address):
            with call.request(self._http, self._address) as request:
                response = self._http.send(request, stream=True)
            try:
                if not response.is_success:
                    raise error_of(response.status_code, response.read())
                yield response
            finally:
                response.close()

    def _ask(self, inquiry: Inquiry[T]) -> T:
        reply = None
        while True:
            try:
                step = next(inquiry) if reply is None else inquiry.send(reply)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # what a generator returns is not typed
            reply = self._take(step)

    def _take(self, step: Get | Pause) -> Received:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return Received(0)
        try:
            response = self._http.get(step.url, timeout=_timeout(step))
        except httpx.RequestError as error:
            return Received(0, reason=str(error))
        return Received(response.status_code, response.content)


class TaskMethod(Method["SyncHTTPClient"]):
    """One task of a service: called, it is waited for; submitted, it runs while others do."""

    def submit(self, *args: Value, **kwargs: Value) -> Task:
        """Have the service run it, and return at once."""
        return self._task(submission(self._endpoint, args, kwargs))

    def get(self, task_id: str) -> Value:
        """The result of a task that has ended."""
        return self._client._result(about_task(self._endpoint, "get", task_id))

    def get_status(self, task_id: str) -> TaskStatus:
        """How far a task has come."""
        call = about_task(self._endpoint, "status", task_id)
        with call.failures(self._client._address):
            return status_in(self._client._result(call))

    def cancel(self, task_id: str) -> None:
        """Have a task stopped."""
        self._client._result(about_task(self._endpoint, "cancel", task_id))

    def retry(self, task_id: str) -> Task:
        """Submit a task again."""
        return self._task(about_task(self._endpoint, "retry", task_id))

    def _task(self, call: Call) -> Task:
        with call.failures(self._client._address):
            return Task(id_in(self._client._result(call)), self)


class AsyncHTTPClient(_Client):
    """As `SyncHTTPClient`, with methods that are awaited, and `async for` over those that stream.

    What the endpoints are is asked on entering `async with`, else by the first call.

    Args:
        url: the service's address, with the path under which it is reached, if there is one.
        token: as for `SyncHTTPClient`.
        timeout: seconds to wait for a connection, and for each piece of an answer; None waits for ever.
        server_ready_timeout: seconds to wait until the service is ready, `timeout` when not given; with 0
            there is no waiting.
        app: an ASGI application to call in place of the network.
        transport: what sends the requests in place of the network.

    Raises:
        ValueError: `url` is no URL of HTTP.
    """

    _for_each = staticmethod(call_for_each)

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float | None = 30,
        server_ready_timeout: float | None = None,
        app: ASGIApp | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, token=token)
        wait_s = timeout if server_ready_timeout is None else server_ready_timeout
        self._wait_s = wait_s if app is None else 0
        self._loading = asyncio.Lock()
        self._http = httpx.AsyncClient(
            base_url=self._address.url,
            headers=_HEADERS,
            auth=self._auth,
            timeout=timeout,
            follow_redirects=True,
            transport=transport if app is None else ASGITransport(app),
        )

    def call(self, name: str, /, *args: Value, **kwargs: Value) -> Value:
        """Call the endpoint of this name: to be awaited, or iterated over where it streams."""
        if self._loaded is None:
            return _LateCall(self, lambda: self._call(self._endpoint(name), args, kwargs))
        return self._call(self._endpoint(name), args, kwargs)

    async def is_ready(self, timeout: float | None = None) -> bool:
        """Whether the service takes requests now.

        Args:
            timeout: seconds after which it does not; the client's own when not given.
        """
        return await self._ask(self._address.is_ready(timeout))

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Send any request, with the options of `httpx.AsyncClient.request`; an error is a response."""
        return await self._http.request(method, url, **options)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncHTTPClient:
        try:
            await self._load()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    # Only called for what is not there: no endpoint, or not known to be one yet.
    def __getattr__(self, name: str) -> Value:
        if name.startswith("_") or self._loaded is not None:
            raise self._no_attribute(name)
        return _LateMethod(self, name)

    async def _load(self) -> None:
        async with self._loading:
            if self._loaded is not None:
                return
            if self._wait_s != 0:
                await self._ask(self._address.wait_until_ready(self._wait_s))
            endpoints = await self._ask(self._address.fetch_endpoints())
            for attribute, endpoint in self._attributes(endpoints).items():
                vars(self)[attribute] = (AsyncTaskMethod if endpoint.is_task else Method)(self, endpoint)
            self._loaded = endpoints

    async def _result(self, call: Call) -> Value:
        async with self._response(call) as response:
            with sink_for(call.output, response.headers, self._downloads) as sink:
                async for chunk in response.aiter_bytes():
                    sink.write(chunk)
                return sink.value()

    async def _items(self, call: Call) -> AsyncIterator[Value]:
        decoder = decoder_for(call.output)
        async with self._response(call) as response:
            async for chunk in response.aiter_bytes():
                for item in decoder.feed(chunk):
                    yield item
            for item in decoder.end():
                yield item

    @asynccontextmanager
    async def _response(self, call: Call) -> AsyncIterator[httpx.Response]:
        with call.failures(self._address):
            with call.request(self._http, self._address) as request:
                response = await self._http.send(request, stream=True)
            try:
                if not response.is_success:
                    raise error_of(response.status_code, await response.aread())
                yield response
            finally:
                await response.aclose()

    async def _ask(self, inquiry: Inquiry[T]) -> T:
        reply = None
        while True:
            try:
                step = next(inquiry) if reply is None else inquiry.send(reply)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # what a generator returns is not typed
            reply = await self._take(step)

    async def _take(self, step: Get | Pause) -> Received:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return Received(0)
        try:
            response = await self._http.get(step.url, timeout=_timeout(step))
        except httpx.RequestError as error:
            return Received(0, reason=str(error))
        return Received(response.status_code, response.content)


class AsyncTaskMethod(Method["AsyncHTTPClient"]):
    """One task of a service: called, it is waited for; submitted, it runs while others do."""

    async def submit(self, *args: Value, **kwargs: Value) -> AsyncTask:
        """Have the service run it, and return at once."""
        return await self._task(submission(self._endpoint, args, kwargs))

    async def get(self, task_id: str) -> Value:
        """The result of a task that has ended."""
        return await self._client._result(about_task(self._endpoint, "get", task_id))

    async def get_status(self, task_id: str) -> TaskStatus:
        """How far a task has come."""
        call = about_task(self._endpoint, "status", task_id)
        with call.failures(self._client._address):
            return status_in(await self._client._result(call))

    async def cancel(self, task_id: str) -> None:
        """Have a task stopped."""
        await self._client._result(about_task(self._endpoint, "cancel", task_id))

    async def retry(self, task_id: str) -> AsyncTask:
        """Submit a task again."""
        return await self._task(about_task(self._endpoint, "retry", task_id))

    async def _task(self, call: Call) -> AsyncTask:
        with call.failures(self._client._address):
            return AsyncTask(id_in(await self._client._result(call)), self)


class _LateMethod:
    """A method of an endpoint that is not known yet: the first call asks the service what it is."""

    def __init__(self, client: AsyncHTTPClient, attribute: str) -> None:
        self._client = client
        self._attribute = attribute

    def __call__(self, *args: Value, **kwargs: Value) -> _LateCall:
        return _LateCall(self._client, lambda: getattr(self._client, self._attribute)(*args, **kwargs))

    # `submit` and the other methods of tasks.
    def __getattr__(self, name: str) -> Callable[..., _LateCall]:
        if name.startswith("_"):
            raise AttributeError(name)

        def method(*args: Value, **kwargs: Value) -> _LateCall:
            return _LateCall(
                self._client, lambda: getattr(getattr(self._client, self._attribute), name)(*args, **kwargs)
            )

        return method


class _LateCall:
    """A call that is made once the endpoints are known: awaited, or iterated over, as they then demand."""

    def __init__(self, client: AsyncHTTPClient, call: Callable[[], Value]) -> None:
        self._client = client
        self._call = call

    def __await__(self) -> Generator[Any, None, Value]:
        return self._result().__await__()

    async def _result(self) -> Value:
        await self._client._load()
        return await self._call()

    async def __aiter__(self) -> AsyncIterator[Value]:
        await self._client._load()
        items = self._call()
        async with aclosing(items):
            async for item in items:
                yield item
