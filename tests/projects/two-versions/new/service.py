from __future__ import annotations

from collections.abc import AsyncIterator

import bentoml


@bentoml.service
class Leaf:
    def __init__(self) -> None:
        self.ran = 0

    @bentoml.api
    async def how_many_ran(self) -> int:
        return self.ran

    @bentoml.api
    async def same(self, x: int) -> int:
        self.ran += 1
        return x

    @bentoml.task
    async def submitted(self, x: list[int]) -> None:
        self.ran += 1

    @bentoml.api
    async def grown(self, x: int, scale: int = 1) -> int:
        self.ran += 1
        return x * scale

    @bentoml.api
    async def renamed(self, number: int) -> int:
        self.ran += 1
        return number

    @bentoml.api
    async def retyped(self, x: list[int]) -> int:
        self.ran += 1
        return sum(x)

    @bentoml.api
    async def stricter(self, x: int, seed: int) -> int:
        self.ran += 1
        return x + seed

    @bentoml.api
    async def answered(self, x: int) -> str:
        self.ran += 1
        return str(x)

    @bentoml.api
    async def streamed(self, x: int, scale: int = 1) -> AsyncIterator[int]:
        self.ran += 1
        yield x * scale


@bentoml.service
class Top:
    leaf = bentoml.depends(Leaf)
