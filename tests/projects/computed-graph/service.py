"""Which service the entry calls is looked up while the file loads."""

import os

import bentoml
import faiss
import numpy as np
import torch


@bentoml.service
class Exact:
    @bentoml.api
    def nearest(self, vector: list[float]) -> int:
        return int(torch.argmax(torch.tensor(vector)))


@bentoml.service
class Quick:
    @bentoml.api
    def nearest(self, vector: list[float]) -> int:
        return int(faiss.IndexFlatL2(2).search(np.array([vector]), 1)[1][0])


SEARCH = {"exact": Exact, "quick": Quick}


@bentoml.service
class Entry:
    search = bentoml.depends(SEARCH[os.environ.get("SEARCH", "quick")])

    @bentoml.api
    def nearest(self, vector: list[float]) -> int:
        return self.search.nearest(vector)
