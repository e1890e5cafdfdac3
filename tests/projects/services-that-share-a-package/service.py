"""Three models of one package, and an entry that only passes texts around.

After https://github.com/bentoml/BentoML/blob/6e33e9d72e5a54cea6337f00e92d545f5cbcc4db/examples/inference-graph/service.py
"""

import asyncio

import bentoml
import transformers


@bentoml.service()
class Small:
    def __init__(self):
        self.pipeline = transformers.pipeline("text-generation", model="small")

    @bentoml.api()
    def write(self, text: str) -> list[str]:
        return [item["generated_text"] for item in self.pipeline(text)]


@bentoml.service()
class Large:
    def __init__(self):
        self.pipeline = transformers.pipeline("text-generation", model="large")

    @bentoml.api()
    def write(self, text: str) -> list[str]:
        return [item["generated_text"] for item in self.pipeline(text)]


@bentoml.service()
class Judge:
    def __init__(self):
        self.pipeline = transformers.pipeline("text-classification", model="judge")

    @bentoml.api()
    def score(self, text: str) -> float:
        return self.pipeline(text)[0]["score"]


@bentoml.service()
class Scored:
    small = bentoml.depends(Small)
    large = bentoml.depends(Large)
    judge = bentoml.depends(Judge)

    @bentoml.api()
    async def best(self, text: str = "Once") -> str:
        written = await asyncio.gather(self.small.to_async.write(text), self.large.to_async.write(text))
        scores = {one: await self.judge.to_async.score(one) for many in written for one in many}
        return max(scores, key=lambda one: scores[one])
