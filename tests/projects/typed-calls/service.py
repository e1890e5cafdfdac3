from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from typing_extensions import reveal_type

import bentoml


@bentoml.service
class Leaf:
    @bentoml.api
    def double(self, x: int) -> int:
        return 2 * x

    @bentoml.api
    async def double_later(self, x: int) -> int:
        return 2 * x

    @bentoml.api
    def count(self, to: int) -> Iterator[int]:
        yield from range(to)

    @bentoml.api
    async def count_later(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number


@bentoml.service(workers=2)
class Top:
    leaf = bentoml.depends(Leaf)
    anywhere = bentoml.depends(Leaf, url="http://leaf:3000")
    untyped = bentoml.depends(url="http://leaf:3000")

    @bentoml.api
    async def call(self) -> None:
        reveal_type(self.leaf.double(1))  # int
        reveal_type(await self.leaf.double_later(1))  # int
        reveal_type(self.leaf.count(1))  # Iterator[int]
        reveal_type(self.leaf.count_later(1))  # AsyncIterator[int]
        reveal_type(self.anywhere.double(1))  # int
        reveal_type(self.untyped.double(1))  # Any

    @bentoml.api
    async def make_mistakes(self) -> None:
        self.leaf.double("a")  # error
        self.leaf.double(y=1)  # error
        await self.leaf.double(1)  # error
        self.leaf.nothing()  # error
