"""A method takes names out of `globals()`: each of them may be what it wants."""

import bentoml
import numpy as np
import pandas as pd
import torch


def mean_of_arrays(numbers):
    return np.mean(numbers)


def mean_of_tables(numbers):
    return pd.Series(numbers).mean()


@bentoml.service
class Model:
    @bentoml.api
    def run(self, numbers: list[float]) -> float:
        return float(torch.tensor(numbers).sum())


@bentoml.service
class Entry:
    model = bentoml.depends(Model)

    @bentoml.api
    def mean(self, kind: str, numbers: list[float]) -> float:
        return float(globals()[f"mean_of_{kind}"](numbers))
