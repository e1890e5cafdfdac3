"""The graph as services of this interface: this file is served here and by the existing implementation."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import numpy as np

import bentoml

from . import loops


@bentoml.service(workers=1)
class Callee:
    @bentoml.api
    async def add(self, a: int, b: int = 1) -> int:
        return a + b

    @bentoml.api
    async def echo(self, text: str) -> str:
        return text

    @bentoml.api
    async def back(self, array: np.ndarray) -> np.ndarray:
        return array

    @bentoml.api
    async def count(self, items: int) -> AsyncGenerator[str, None]:
        for number in range(items):
            yield loops.ITEM.format(number)


@bentoml.service(workers=1)
class Caller:
    callee = bentoml.depends(Callee)

    @bentoml.api
    async def measure(self, case: str, size: int, times: int) -> loops.Measured:
        return await loops.measure(self.callee, case, size, times)

    @bentoml.api
    async def echo(self, text: str) -> str:
        return await self.callee.echo(text=text)
