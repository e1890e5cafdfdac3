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
    async def submitted(self, x: int) -> None:
        self.ran += 1

    @bentoml.api
    async def grown(self, x: int) -> int:
        self.ran += 1
        return x

    @bentoml.api
    async def renamed(self, x: int) -> int:
        self.ran += 1
        return x

    @bentoml.api
    async def retyped(self, x: int) -> int:
        self.ran += 1
        return x

    @bentoml.api
    async def stricter(self, x: int) -> int:
        self.ran += 1
        return x

    @bentoml.api
    async def answered(self, x: int) -> int:
        self.ran += 1
        return x

    @bentoml.api
    async def streamed(self, x: int) -> AsyncIterator[int]:
        self.ran += 1
        yield x


@bentoml.service
class Top:
    leaf = bentoml.depends(Leaf)
