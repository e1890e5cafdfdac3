"""The model's packages are imported in the methods that use them; one `image=` with all requirements for both.

After https://github.com/bentoml/BentoShield/blob/2c0c52ef0ee342ab9bba72bacd87153fefd302c1/service.py
"""

from __future__ import annotations

import bentoml
import pydantic
from openai import AsyncOpenAI

IMAGE = bentoml.images.Image(python_version="3.11").requirements_file("requirements.txt")
OWNER = {"owner": "guards"}


class Verdict(pydantic.BaseModel):
    score: float
    prompt: str


@bentoml.service(
    resources={"memory": "4Gi", "gpu": 1, "gpu_type": "nvidia-tesla-t4"},
    traffic={"concurrency": 5, "timeout": 300},
    envs=[{"name": "HF_TOKEN"}],
    image=IMAGE,
)
class Guard:
    model = bentoml.models.HuggingFaceModel("a/guard")

    def __init__(self):
        import torch
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(self.model, torch_dtype=torch.float16)

    @bentoml.api
    async def check(self, prompt: str) -> Verdict:
        import torch

        return Verdict(score=torch.softmax(self.model(prompt), dim=0)[0].item(), prompt=prompt)


class Refused(bentoml.exceptions.InvalidArgument): ...


@bentoml.service(
    name="guarded-assistant",
    resources={"cpu": "1"},
    envs=[{"name": "OPENAI_API_KEY"}, {"name": "OPENAI_BASE_URL", "value": "https://models.example.com"}],
    labels={**OWNER, "type": "demo"},
    image=IMAGE,
)
class Assistant:
    guard = bentoml.depends(Guard)

    def __init__(self):
        self.client = AsyncOpenAI()

    @bentoml.api
    async def answer(self, prompt: str) -> str:
        if (await self.guard.check(prompt)).score > 0.5:
            raise Refused(prompt)
        return str(await self.client.chat.completions.create(messages=[prompt]))
