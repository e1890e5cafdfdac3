from __future__ import annotations

from typing import Annotated

import bentoml
import numpy as np
import pydantic
from bentoml.validators import DType
from loguru import logger

from recommend.index import Index
from recommend.params import TOP_K

Vector = Annotated[np.typing.NDArray[np.float32], DType("float32")]
IMAGE = bentoml.images.Image().python_packages("lancedb", "loguru")
ENVS = [{"name": "UV_NO_CACHE", "value": "1"}]


class Candidate(pydantic.BaseModel):
    item_id: str
    score: float


class BaseQuery(bentoml.IODescriptor):
    embedding: Vector | None = None


class BaseItems:
    @logger.catch(reraise=True)
    def __init__(self) -> None:
        self.index = Index(self.model_ref.path, "items")

    @bentoml.api()
    @logger.catch(reraise=True)
    def search(self, query: BaseQuery, top_k: int = TOP_K) -> list[Candidate]:
        return self.index.search(query.embedding, top_k)


class BaseUsers:
    @logger.catch(reraise=True)
    def __init__(self) -> None:
        self.index = Index(self.model_ref.path, "users")

    @bentoml.api()
    def get(self, user_id: str) -> str:
        return user_id


class BaseService:
    items: bentoml.Dependency
    users: bentoml.Dependency

    @bentoml.api()
    @logger.catch(reraise=True)
    async def search_items(self, query: BaseQuery, top_k: int = TOP_K) -> list[Candidate]:
        return await self.items.to_async.search(query, top_k=top_k)
