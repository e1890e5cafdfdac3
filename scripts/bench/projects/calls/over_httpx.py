"""The graph as plain FastAPI, its calls made with httpx."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from . import loops
from .plain import callee, caller_over

__all__ = ["callee", "caller"]


class Callee:
    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def add(self, *, a: int) -> int:
        response = await self._http.post("/add", json={"a": a})
        return int(response.raise_for_status().json())

    async def echo(self, *, text: str) -> str:
        response = await self._http.post("/echo", json={"text": text})
        return str(response.raise_for_status().json())

    async def back(self, *, array: loops.Array) -> loops.Array:
        response = await self._http.post("/back", content=array.tobytes())
        return loops.array_like(array, response.raise_for_status().content)

    async def count(self, *, items: int) -> AsyncIterator[str]:
        async with self._http.stream("POST", "/count", json={"items": items}) as response:
            async for line in response.raise_for_status().aiter_lines():
                yield line + "\n"


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Callee]:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        yield Callee(http)


caller = caller_over(connect)
