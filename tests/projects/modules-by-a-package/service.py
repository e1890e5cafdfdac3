"""Modules are imported by computed names that begin with a package: any of its modules, and no others."""

import importlib

import bentoml
import pandas as pd
import torch


@bentoml.service
class Embedder:
    @bentoml.api
    def embed(self, text: str) -> list[float]:
        return torch.tensor([float(len(text))]).tolist()


@bentoml.service
class Entry:
    embedder = bentoml.depends(Embedder)

    @bentoml.api
    def read(self, path: str, kind: str) -> list[float]:
        reader = importlib.import_module(f"readers.{kind}")
        return self.embedder.embed(reader.text(path))


def report(rows: list) -> pd.DataFrame:
    return pd.DataFrame(rows)
