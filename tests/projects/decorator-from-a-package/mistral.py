from collections.abc import AsyncGenerator
from typing import Annotated

import bentoml
from annotated_types import Ge, Le
from bentovllm_openai.utils import openai_endpoints

MAX_TOKENS = 1024


@openai_endpoints(served_model="a/model")
@bentoml.service(
    traffic={"timeout": 300, "concurrency": 40},
    resources={"gpu": 1, "gpu_type": "nvidia-l4"},
)
class Mistral:
    def __init__(self) -> None:
        from vllm import AsyncEngineArgs, AsyncLLMEngine

        self.engine = AsyncLLMEngine.from_engine_args(AsyncEngineArgs(max_model_len=MAX_TOKENS))

    @bentoml.api
    async def generate(
        self, prompt: str, max_tokens: Annotated[int, Ge(128), Le(MAX_TOKENS)] = MAX_TOKENS
    ) -> AsyncGenerator[str, None]:
        from vllm import SamplingParams

        async for output in await self.engine.add_request("1", prompt, SamplingParams(max_tokens=max_tokens)):
            yield output.outputs[0].text
