import torch
from sentence_transformers import SentenceTransformer


class Sequence(torch.nn.Module):
    @classmethod
    def load(cls, path: str) -> SentenceTransformer:
        return SentenceTransformer(path)
