"""One small JSON endpoint, as a service of this interface."""

import bentoml


@bentoml.service
class Adder:
    @bentoml.api
    async def add(self, a: int, b: int = 1) -> int:
        return a + b
