"""Services are defined inside the class that they belong to, and inside one that is no service itself."""

import bentoml
import numpy as np
import pandas as pd
import torch


class Models:
    @bentoml.service(resources={"gpu": 1})
    class Ranker:
        @bentoml.api
        def rank(self, numbers: list[float]) -> list[int]:
            return torch.argsort(torch.tensor(numbers)).tolist()


@bentoml.service
class Shop:
    @bentoml.service(workers=2)
    class Stock:
        @bentoml.api
        def items(self) -> list[str]:
            return list(pd.read_csv("stock.csv").name)

    stock = bentoml.depends(Stock)
    ranker = bentoml.depends(Models.Ranker)

    @bentoml.api
    def best(self) -> str:
        items = self.stock.items()
        return items[int(np.array(self.ranker.rank([float(len(item)) for item in items]))[0])]
