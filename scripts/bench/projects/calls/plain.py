"""The graph as plain FastAPI, with the client for HTTP to be chosen."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import fastapi
import pydantic
from fastapi.responses import StreamingResponse

from . import loops


class Numbers(pydantic.BaseModel):
    a: int
    b: int = 1


class Text(pydantic.BaseModel):
    text: str


class Items(pydantic.BaseModel):
    items: int


class Case(pydantic.BaseModel):
    case: str
    size: int
    times: int


callee = fastapi.FastAPI()


@callee.post("/add")
async def add(numbers: Numbers) -> int:
    return numbers.a + numbers.b


@callee.post("/echo")
async def echo(text: Text) -> str:
    return text.text


@callee.post("/back")
async def back(request: fastapi.Request) -> fastapi.Response:
    return fastapi.Response(await request.body(), media_type="application/octet-stream")


@callee.post("/count")
async def count(items: Items) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        for number in range(items.items):
            yield loops.ITEM.format(number)

    return StreamingResponse(lines(), media_type="text/plain")


class Client(loops.Callee, Protocol):
    """The callee, over a client for HTTP."""

    async def echo(self, *, text: str) -> str: ...


def caller_over(connect: Callable[[str], AbstractAsyncContextManager[Client]]) -> fastapi.FastAPI:
    """The service that calls, over one client for as long as it runs."""
    clients: list[Client] = []

    @asynccontextmanager
    async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
        async with connect(os.environ["CALLEE_URL"]) as client:
            clients.append(client)
            yield

    app = fastapi.FastAPI(lifespan=lifespan)

    @app.post("/measure")
    async def measure(case: Case) -> loops.Measured:
        return await loops.measure(clients[0], case.case, case.size, case.times)

    @app.post("/echo")
    async def echo(text: Text) -> str:
        return await clients[0].echo(text=text.text)

    return app
