"""One module of helpers for all services: each takes its own functions, and what those need."""

import bentoml
import helpers
from helpers import as_tensor


@bentoml.service(resources={"gpu": 1})
class Model:
    @bentoml.api
    def brightness(self, pixels: list[float]) -> float:
        return float(as_tensor(pixels).mean())


@bentoml.service
class Entry:
    model = bentoml.depends(Model)

    @bentoml.api
    def run(self, pixels: list[float]) -> float:
        return self.model.brightness(helpers.resized(pixels).tolist())
