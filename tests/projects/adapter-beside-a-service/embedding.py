from __future__ import annotations

import bentoml
import numpy as np
from llama_index.core.embeddings import BaseEmbedding


@bentoml.service(traffic={"timeout": 600}, resources={"memory": "2Gi"})
class Embedder:
    def __init__(self) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer("model", device="cuda" if torch.cuda.is_available() else "cpu")

    @bentoml.api(batchable=True)
    def encode(self, sentences: list[str]) -> np.ndarray:
        return self.model.encode(sentences)


class RemoteEmbedding(BaseEmbedding):
    """Makes of the service's client what the index wants."""

    def __init__(self, embedder) -> None:
        super().__init__()
        self.embedder = embedder

    def _get_text_embedding(self, text: str) -> list[float]:
        return self.embedder.encode(sentences=[text])[0].tolist()
