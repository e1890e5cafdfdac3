"""Tasks of an application: their routes, and the requests that run in the background."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Scope

from bentoml._serving.body import Disconnected
from bentoml._serving.handler import Handler
from bentoml._serving.peer_calls import FRAME, TRUSTED
from bentoml._serving.reply import UNEXPECTED, error_reply, reply_for, response_of
from bentoml._serving.tasks.location import store_from
from bentoml._serving.tasks.routes import TaskRoutes
from bentoml._serving.tasks.runner import TaskRunner
from bentoml._serving.tasks.store import TaskRequest, TaskResponse
from bentoml._trace import request_id

# A task keeps what its endpoint needs of a request, and none of what belongs to a connection or a caller.
_KEPT_HEADERS: Final = frozenset({b"content-type", b"content-length", b"accept", b"user-agent"})


# Kept beside them, in place of the proof: whoever reads the store could call with it.
_BY_A_PEER: Final = (b"x-bento-peer", b"1")

_OF_THE_CALL: Final = frozenset({b"server", b"x-bentoml-request-id", b"x-bentoml-trace-id"})

Answer: TypeAlias = Callable[[Request], Awaitable[Response]]


class BackgroundTasks:
    """Keeps and runs the tasks of one application.

    Args:
        handlers: those of its endpoints that are tasks, by path.
        concurrency: how many tasks run at once in this worker.
        server: the value of the `Server` header.
    """

    def __init__(
        self,
        service: str,
        handlers: Mapping[str, Handler],
        concurrency: int,
        environ: Mapping[str, str],
        server: bytes,
    ) -> None:
        self._handlers = handlers
        self._server = server
        self._store = store_from(service, environ)
        self._runner = TaskRunner(
            store=self._store,
            worker=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
            execute=self._execute,
            concurrency=concurrency,
        )

    def routes(self) -> list[BaseRoute]:
        """The routes beside each task's own."""
        routes: list[BaseRoute] = []
        for path, handler in self._handlers.items():
            tasks = TaskRoutes(store=self._store, runner=self._runner, endpoint=path)
            routes += [
                Route(f"{path}/submit", self._endpoint(_submit(handler, tasks)), methods=["POST"]),
                Route(f"{path}/status", self._endpoint(_about(tasks.status)), methods=["GET"]),
                Route(f"{path}/get", self._endpoint(_stored(handler, tasks)), methods=["GET"]),
                Route(f"{path}/retry", self._endpoint(_about(tasks.retry)), methods=["POST"]),
                Route(f"{path}/cancel", self._endpoint(_about(tasks.cancel)), methods=["PUT"]),
            ]
        return routes

    def _endpoint(self, answer: Answer) -> Answer:
        """`answer` with errors and headers as endpoints of services have them."""

        async def endpoint(request: Request) -> Response:
            try:
                response = await answer(request)
            except Disconnected:
                return Response(status_code=499)  # nobody is left to read it
            except Exception as error:  # noqa: BLE001  # whatever is raised becomes a response
                reply = reply_for(error, f"{request.method} {request.url.path}")
                response = response_of(reply)
            else:
                response.raw_headers.append((b"x-bentoml-request-id", request_id().encode()))
            response.raw_headers.append((b"server", self._server))
            return response

        return endpoint

    async def start(self) -> None:
        await self._runner.start()

    def drain(self) -> None:
        """Begin no more; those that run go on."""
        self._runner.drain()

    async def stop(self, grace_s: float) -> None:
        """Drain, and let those that run end within the time of grace."""
        await self._runner.stop(grace_s)
        await asyncio.to_thread(self._store.close)

    async def _execute(self, request: TaskRequest) -> TaskResponse:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        await self._handlers[request.endpoint].answer_detached(_scope(request), _replay(request.body), send)
        start, *bodies = sent
        return TaskResponse(
            status=start["status"],
            headers=tuple((bytes(name), bytes(value)) for name, value in start["headers"]),
            body=b"".join(message.get("body", b"") for message in bodies),
        )


def _submit(handler: Handler, tasks: TaskRoutes) -> Answer:
    async def submit(request: Request) -> Response:
        received = dict(request.headers.raw)
        refused = handler.refused_call(received)
        if refused is not None:
            return response_of(refused)
        body = bytes(await handler.take_body(request.receive))
        headers = tuple(item for item in request.headers.raw if item[0] in _KEPT_HEADERS)
        # What does not fit is refused now, to whoever can mend it, and not kept to fail later.
        await handler.check({**request.scope, "headers": list(headers)}, _replay(body))
        if handler.is_trusted(received):
            headers = (*headers, _BY_A_PEER)
        return JSONResponse(await tasks.submit(headers, body))

    return submit


def _about(action: Callable[[str | None], Awaitable[dict[str, object]]]) -> Answer:
    async def answer(request: Request) -> Response:
        return JSONResponse(await action(request.query_params.get("task_id")))

    return answer


def _stored(handler: Handler, tasks: TaskRoutes) -> Answer:
    async def get(request: Request) -> Response:
        stored = await tasks.get(request.query_params.get("task_id"))
        is_failure = stored.status >= 400 and (b"content-type", FRAME) in stored.headers
        if is_failure and not handler.is_trusted(dict(request.headers.raw)):
            # What a peer was told is none of anyone else's business.
            return response_of(error_reply(stored.status, UNEXPECTED, None))
        response = Response(stored.body, stored.status)
        # Those of the connection that it is sent on now are not those of the call.
        response.raw_headers = [item for item in stored.headers if item[0] not in _OF_THE_CALL]
        return response

    return get


def _scope(request: TaskRequest) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": "POST",
        "path": request.endpoint,
        "raw_path": request.endpoint.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [item for item in request.headers if item != _BY_A_PEER],
        TRUSTED: _BY_A_PEER in request.headers,
        "client": None,
        "server": None,
    }


def _replay(body: bytes) -> Callable[[], Awaitable[Any]]:
    """A `receive` that gives the body, and then nothing: nobody is there who could leave."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    return receive
