import bentoml
import faiss
import numpy as np


@bentoml.service
class Ranker:
    def __init__(self) -> None:
        self.index = faiss.read_index("index.faiss")

    @bentoml.api
    def rank(self, vector: list[float]) -> list[str]:
        return [str(i) for i in self.index.search(np.array([vector]), 10)[1][0]]
