"""Endpoints and the types of dependencies come from base classes of another file.

After https://github.com/yxtay/transformer-recommenders/blob/47277c0929bab7765c292692b45355f1543abe42/xfmr_rec/service.py
and the xfmr_rec/seq/service.py beside it.
"""

from __future__ import annotations

import bentoml
import torch
from loguru import logger

from recommend.params import TOP_K
from recommend.seq import MODEL_NAME
from recommend.seq.models import Sequence
from recommend.service import ENVS, IMAGE, BaseItems, BaseQuery, BaseService, BaseUsers, Candidate


class Query(BaseQuery):
    item_ids: list[str] | None = None


@bentoml.service()
class Model:
    model_ref = bentoml.models.BentoModel(MODEL_NAME)

    @logger.catch(reraise=True)
    def __init__(self) -> None:
        self.model = Sequence.load(self.model_ref.path).eval()

    @bentoml.api(batchable=True)
    @logger.catch(reraise=True)
    @torch.inference_mode()
    def embed(self, queries: list[Query]) -> list[Query]:
        return queries


@bentoml.service()
class Items(BaseItems):
    model_ref = bentoml.models.BentoModel(MODEL_NAME)


@bentoml.service()
class Users(BaseUsers):
    model_ref = bentoml.models.BentoModel(MODEL_NAME)


@bentoml.service(image=IMAGE, envs=ENVS, workers="cpu_count")
class Service(BaseService):
    model = bentoml.depends(Model)
    items = bentoml.depends(Items)
    users = bentoml.depends(Users)

    @bentoml.api()
    @logger.catch(reraise=True)
    async def recommend(self, query: Query, top_k: int = TOP_K) -> list[Candidate]:
        return await self.search_items((await self.model.to_async.embed([query]))[0], top_k)
