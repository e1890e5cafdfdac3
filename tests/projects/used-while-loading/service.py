"""`torch` runs while the file loads, so every service of the file holds it; `transformers` is only named."""

import bentoml
import numpy as np
import torch
import transformers

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MODEL = transformers.AutoModel


@bentoml.service(resources={"gpu": 1})
class Model:
    def __init__(self) -> None:
        self.model = MODEL.from_pretrained("a/model").to(DEVICE)

    @bentoml.api
    def embed(self, text: str) -> list[float]:
        return self.model(text).tolist()


@bentoml.service
class Entry:
    model = bentoml.depends(Model)

    @bentoml.api
    def length(self, text: str) -> float:
        return float(np.linalg.norm(self.model.embed(text)))
