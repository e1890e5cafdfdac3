"""Whoever imports this leaves a trace and gets an error: a build must do neither."""

from pathlib import Path

import bentoml
import leaf
import numpy as np

Path("written-by-the-module").write_text("it was run")


@bentoml.service
class Entry:
    leaf = bentoml.depends(leaf.Leaf)

    @bentoml.api
    def predict(self, numbers: list[float]) -> float:
        return float(np.mean(numbers)) + self.leaf.one()


raise RuntimeError("service.py was run")
