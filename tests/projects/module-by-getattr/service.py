"""`getattr` of a module with a computed name: any of the module's names, and of no other module's."""

import bentoml
import filters
import torch


@bentoml.service
class Model:
    @bentoml.api
    def run(self, numbers: list[float]) -> float:
        return float(torch.tensor(numbers).sum())


@bentoml.service
class Entry:
    model = bentoml.depends(Model)

    @bentoml.api
    def apply(self, name: str, image: list[float]) -> list[float]:
        return list(getattr(filters, name)(image))
