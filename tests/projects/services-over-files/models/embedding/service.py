import bentoml
import torch

from ..settings import RESOURCES
from ..vectors import normalised


@bentoml.service(resources=RESOURCES)
class Embedder:
    def __init__(self) -> None:
        self.model = torch.load("model.pt")
        self.model.eval()

    @bentoml.api
    def embed(self, text: str) -> list[float]:
        return normalised(self.model(text).tolist())
