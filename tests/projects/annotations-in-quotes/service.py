"""Types as text: those of endpoints are needed to serve them, those for checkers and of others are not."""

from __future__ import annotations

import typing as t

import bentoml
import numpy as np
import torch
from PIL import Image

if t.TYPE_CHECKING:
    import pandas as pd


def as_frame(numbers: np.ndarray) -> "pd.DataFrame": ...


@bentoml.service
class Model:
    def _forward(self, x: "torch.Tensor") -> torch.Tensor:
        return torch.relu(x)

    @bentoml.api
    def run(self, x: "np.ndarray") -> "list[np.ndarray]":
        return [self._forward(torch.from_numpy(x)).numpy()]


@bentoml.service
class Entry:
    model: "Model" = bentoml.depends(Model)

    @bentoml.api
    def run(self, image: "t.Annotated[Image.Image, 'a picture']") -> float:
        return float(self.model.run(x=image)[0].mean())
