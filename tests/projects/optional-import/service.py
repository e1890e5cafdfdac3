"""What may be missing is asked for with `try` and `except ImportError`, by two services of one file."""

import json

import bentoml
import numpy as np

try:
    import orjson
except ImportError:
    orjson = None

try:
    from numba import njit

    HAS_NUMBA = True
except ImportError:
    HAS_NUMBA = False


@bentoml.service
class Sums:
    def __init__(self) -> None:
        self.sum = njit(np.sum) if HAS_NUMBA else np.sum

    @bentoml.api
    def run(self, numbers: list[float]) -> float:
        return float(self.sum(np.array(numbers)))


@bentoml.service
class Entry:
    sums = bentoml.depends(Sums)

    @bentoml.api
    def run(self, text: str) -> float:
        return self.sums.run(orjson.loads(text) if orjson else json.loads(text))

    @bentoml.api
    def is_compiled(self) -> bool:
        return HAS_NUMBA
