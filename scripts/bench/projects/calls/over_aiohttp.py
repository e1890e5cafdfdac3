"""The graph as plain FastAPI, its calls made with aiohttp."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp  # type: ignore[import-not-found]  # in .venv-ray, which Ray Serve brings it to

from . import loops
from .plain import callee, caller_over

__all__ = ["callee", "caller"]


class Callee:
    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def add(self, *, a: int) -> int:
        async with self._http.post("/add", json={"a": a}) as response:
            return int(await response.json())

    async def echo(self, *, text: str) -> str:
        async with self._http.post("/echo", json={"text": text}) as response:
            return str(await response.json())

    async def back(self, *, array: loops.Array) -> loops.Array:
        async with self._http.post("/back", data=array.tobytes()) as response:
            return loops.array_like(array, await response.read())

    async def count(self, *, items: int) -> AsyncIterator[str]:
        async with self._http.post("/count", json={"items": items}) as response:
            async for line in response.content:
                yield line.decode()


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Callee]:
    async with aiohttp.ClientSession(url, raise_for_status=True) as http:
        yield Callee(http)


caller = caller_over(connect)
