"""A decorator of an installed package stands above `@bentoml.service`, in a file that the entry imports.

After https://github.com/bentoml/llm-router/blob/3eb664cbfa7f96a79cbfcb260916c57e76e871db/service.py
"""

from collections.abc import AsyncGenerator

import bentoml
from bentoml.exceptions import BadInput
from mistral import Mistral
from openai import AsyncOpenAI


@bentoml.service
class Router:
    mistral = bentoml.depends(Mistral)

    def __init__(self):
        self.openai = AsyncOpenAI()

    @bentoml.api
    async def ask(self, prompt: str, where: str = "here") -> AsyncGenerator[str, None]:
        if where == "here":
            return self.mistral.generate(prompt, 512)
        raise BadInput(f"not {where}")
