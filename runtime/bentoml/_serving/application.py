"""The ASGI application of one service: its endpoints, probes and documentation."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
import math
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from bentoml import codec
from bentoml._client.peer import close_peers, connect_peers
from bentoml._config import ServiceConfig
from bentoml._endpoint import Endpoint
from bentoml._environment import DEPENDENTS, names
from bentoml._service import Service
from bentoml._serving.body import as_response, read_body, read_fields
from bentoml._serving.openapi import openapi_document
from bentoml._signature import Arguments, EndpointSignature
from bentoml.exceptions import (
    BadInput,
    BentoMLException,
    DeadlineExceeded,
    TooManyRequests,
    UnservableException,
)

log = logging.getLogger("bentoml")

_UNEXPECTED = "An unexpected error has occurred, please check the server log."


@dataclass(frozen=True, kw_only=True)
class Replica:
    """What an application knows of the process it runs in.

    Args:
        workers: how many processes share the service's `max_concurrency`.
        on_load: told how many calls run, whenever that changes.
    """

    config: ServiceConfig
    workers: int = 1
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    on_load: Callable[[int], None] = lambda running: None


def create_app(service: Service[Any], replica: Replica) -> FastAPI:
    """The application; its lifespan makes the service's instance.

    Raises:
        UnservableException: an endpoint streams, or its annotations cannot be resolved or carried.
        BentoMLConfigException: a peer has no address.
    """
    for name, endpoint in service.endpoints.items():
        if endpoint.is_stream:
            raise UnservableException(f"{service.name}.{name}: endpoints that stream are not served yet")
    signatures = {
        name: EndpointSignature(endpoint, service.name) for name, endpoint in service.endpoints.items()
    }
    for signature in signatures.values():
        _ = signature.input_model, signature.output  # what cannot be served is said before anything starts
    runner = _Runner(replica)
    peers = connect_peers(service, replica.config.traffic.timeout, replica.environ)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        def attach(instance: object) -> None:
            vars(instance).update(peers)

        runner.instance = service.instantiate(before_init=attach)
        try:
            yield
        finally:
            await close_peers(peers)
            runner.close()

    app = FastAPI(
        title=service.name, lifespan=lifespan, docs_url="/", redoc_url=None, openapi_url="/docs.json"
    )
    app.openapi = functools.partial(openapi_document, service, signatures)  # type: ignore[method-assign]
    accepts_frames = bool(names(DEPENDENTS, replica.environ))
    for name, endpoint in service.endpoints.items():
        handler = _EndpointApp(endpoint, signatures[name], runner, accepts_frames=accepts_frames)
        app.router.routes.append(Route(service.path_prefix + endpoint.route, handler, methods=["POST"]))
    for prefix in {"", service.path_prefix}:
        for probe in ("livez", "readyz", "healthz"):
            app.router.routes.append(Route(f"{prefix}/{probe}", _probe, methods=["GET"]))
    return app


async def _probe(request: Request) -> Response:
    return PlainTextResponse("\n")


class _Runner:
    """Runs the methods of the one instance: async ones on the loop, the others in `threads` threads."""

    instance: object

    def __init__(self, replica: Replica) -> None:
        self._timeout_s = replica.config.traffic.timeout
        concurrency = replica.config.traffic.max_concurrency
        self._limit = math.ceil(concurrency / replica.workers) if concurrency else None
        self._threads = ThreadPoolExecutor(replica.config.threads, thread_name_prefix="endpoint")
        self._on_load = replica.on_load
        self._running = 0

    async def run(self, endpoint: Endpoint, arguments: Arguments) -> Any:
        """The method's result.

        Raises:
            TooManyRequests: as many calls run as may.
            DeadlineExceeded: the method took longer than `traffic.timeout`.
        """
        if self._limit is not None and self._running >= self._limit:
            raise TooManyRequests("Too many requests")
        self._running += 1
        self._on_load(self._running)
        try:
            return await self._in_time(self._call(endpoint, arguments))
        finally:
            self._running -= 1
            self._on_load(self._running)

    async def _in_time(self, call: Coroutine[Any, Any, Any]) -> Any:
        # Not `wait_for`: a TimeoutError of the method's own must stay apart from ours.
        task = asyncio.ensure_future(call)
        try:
            await asyncio.wait({task}, timeout=self._timeout_s)
            if task.done():
                return task.result()
        finally:
            task.cancel()
        raise DeadlineExceeded(f"Not able to process the request in {self._timeout_s} seconds")

    def _call(self, endpoint: Endpoint, arguments: Arguments) -> Coroutine[Any, Any, Any]:
        method = functools.partial(endpoint.func, self.instance, *arguments.positional, **arguments.keywords)
        if inspect.iscoroutinefunction(endpoint.func):
            return method()  # type: ignore[no-any-return]  # a coroutine function gives a coroutine
        return self._call_in_thread(method)

    async def _call_in_thread(self, method: Callable[[], Any]) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, contextvars.copy_context().run, method)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class _EndpointApp:
    """One endpoint as an ASGI application: frames from peers, JSON and forms from everyone else."""

    def __init__(
        self, endpoint: Endpoint, signature: EndpointSignature, runner: _Runner, *, accepts_frames: bool
    ) -> None:
        self._endpoint = endpoint
        self._signature = signature
        self._runner = runner
        self._accepts_frames = accepts_frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except ClientDisconnect:
            return  # nobody is left to answer
        except Exception as error:  # noqa: BLE001  # whatever a method raises becomes a response
            response = _error_response(error, f"{request.method} {request.url.path}")
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        is_frame = request.headers.get("content-type") == codec.MEDIA_TYPE
        if is_frame and not self._accepts_frames:
            return JSONResponse({"error": f"{codec.MEDIA_TYPE} is for peers of this service only"}, 415)
        try:
            arguments = await (self._call(request) if is_frame else self._fields(request))
        except ValidationError as error:
            return _validation_response(error)
        result = await self._runner.run(self._endpoint, arguments)
        if is_frame:
            return Response(b"".join(codec.encode(result)), media_type=codec.MEDIA_TYPE)
        return as_response(result, self._signature)

    async def _fields(self, request: Request) -> Arguments:
        return self._signature.from_fields(await read_fields(request, self._signature.takes_lists))

    async def _call(self, request: Request) -> Arguments:
        match codec.decode(await read_body(request.stream())):
            case [list() as args, dict() as kwargs] if all(isinstance(key, str) for key in kwargs):
                return self._signature.from_call(args, kwargs)
        raise BadInput("frame: expected a call, a list of the positional and the named arguments")


def _validation_response(error: ValidationError) -> Response:
    detail = error.errors(include_url=False, include_context=False, include_input=False)
    count = error.error_count()
    summary = f"{count} validation error{'s' if count > 1 else ''} for Input"
    return JSONResponse({"error": summary, "detail": detail}, 400)


def _error_response(error: Exception, where: str) -> Response:
    if isinstance(error, BentoMLException) and error.status in (401, 403):
        return JSONResponse({"error": "Authorization error"}, error.status)
    if isinstance(error, BentoMLException) and error.status < 500:
        return JSONResponse({"error": error.message}, error.status)
    if isinstance(error, DeadlineExceeded):
        log.warning("%s: %s", where, error)
        return JSONResponse({"error": error.message}, error.status)
    log.error("%s failed", where, exc_info=error)
    status = error.status if isinstance(error, BentoMLException) else 500
    return JSONResponse({"error": _UNEXPECTED}, status)
