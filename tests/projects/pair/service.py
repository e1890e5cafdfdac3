"""Two services without a requirement: what whole runs are tried with when weights would be in the way."""

import os

import bentoml


@bentoml.service
class Doubler:
    def __init__(self) -> None:
        if os.environ.get("REFUSE_TO_START"):
            raise RuntimeError("told to refuse by REFUSE_TO_START")

    @bentoml.api
    async def double(self, numbers: list[int]) -> list[int]:
        return [2 * number for number in numbers]


@bentoml.service(workers=2)
class Front:
    doubler = bentoml.depends(Doubler)

    @bentoml.api
    async def total(self, numbers: list[int]) -> int:
        return sum(await self.doubler.double(numbers))

    @bentoml.api
    def variable(self, name: str) -> str:
        return os.environ.get(name, "")
