"""Mounted applications by themselves: their lives, and what their lifespans give to their requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from bentoml._mount import Mount
from bentoml._serving.mounts import PassiveMount, lifespans, mounted


class Plain:
    """A service without methods of its own."""


async def tell(request: Request) -> JSONResponse:
    return JSONResponse(request.state._state)


def application(
    lifespan: Callable[[Any], AbstractAsyncContextManager[Any]], routes: Sequence[Route] = ()
) -> Starlette:
    return Starlette(routes=[*routes, Route("/state", tell)], lifespan=lifespan)


def at(path: str, app: ASGIApp) -> PassiveMount:
    return mounted(Mount(app, path, f"the one at {path}"), "", Plain)


def yielding(state: dict[str, Any] | None) -> Starlette:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any] | None]:
        yield state

    return application(lifespan)


def test_the_state_of_a_lifespan_is_that_of_its_own_requests_beside_the_servers() -> None:
    mounts = [
        at("/a", yielding({"model": "a"})),
        at("/b", yielding({"other": "b"})),
        at("/c", yielding(None)),
    ]
    router = Router(routes=mounts)

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        await router({**scope, "state": {"of": "the server"}}, receive, send)

    async def scenario() -> list[object]:
        transport = httpx.ASGITransport(served)
        async with lifespans(mounts), httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return [(await client.get(f"/{name}/state")).json() for name in "abc"]

    server = {"of": "the server"}
    assert asyncio.run(scenario()) == [{**server, "model": "a"}, {**server, "other": "b"}, server]


async def refuse_to_stop(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "the disk is full"})


def failing_at_its_stop(error: BaseException) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise error

    return app


@pytest.mark.parametrize(
    ("app", "words"),
    [
        (refuse_to_stop, "the one at /bad failed while it was stopped: the disk is full"),
        (failing_at_its_stop(ValueError("no stop")), "ValueError: no stop"),
        (failing_at_its_stop(SystemExit(3)), "SystemExit: 3"),
        (failing_at_its_stop(asyncio.CancelledError()), "CancelledError"),
    ],
)
def test_an_application_that_fails_as_it_stops_is_logged_and_the_others_are_stopped(
    app: ASGIApp, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[str] = []

    @asynccontextmanager
    async def first(_: Starlette) -> AsyncIterator[None]:
        yield
        events.append("the first is stopped")

    async def scenario() -> None:
        async with lifespans([at("/first", application(first)), at("/bad", app)]):
            events.append("all run")

    asyncio.run(scenario())
    assert events == ["all run", "the first is stopped"]
    assert words in caplog.text


@pytest.mark.parametrize("error", [ValueError("no start"), SystemExit(3)])
def test_an_application_that_cannot_start_keeps_the_service_from_it(error: BaseException) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if isinstance(error, SystemExit):
            raise error
        await receive()
        await send({"type": "lifespan.startup.failed", "message": str(error)})

    async def scenario() -> BaseException | None:
        try:
            async with lifespans([at("/bad", app)]):
                return None
        except (RuntimeError, SystemExit) as raised:
            return raised

    assert str(error) in str(asyncio.run(scenario()))
