"""A digest of a text, made by five services in a row: each asks the next, and adds one step."""

from __future__ import annotations

import asyncio
import os
import re
import unicodedata
from collections import Counter
from collections.abc import AsyncGenerator

import bentoml


@bentoml.service
class Cleaner:
    def __init__(self) -> None:
        # A model would take its time here; see "The deadline" in the README.
        self.pause_s = float(os.environ.get("CLEANER_PAUSE_S", "0"))

    @bentoml.api
    async def clean(self, text: str) -> str:
        await asyncio.sleep(self.pause_s)
        return " ".join(unicodedata.normalize("NFKC", text).split())


@bentoml.service
class Splitter:
    cleaner = bentoml.depends(Cleaner)

    @bentoml.api
    async def sentences(self, text: str) -> list[str]:
        return re.findall(r"[^.!?]+[.!?]*", await self.cleaner.clean(text))


@bentoml.service
class Weigher:
    splitter = bentoml.depends(Splitter)

    @bentoml.api
    async def weights(self, text: str) -> list[tuple[str, float]]:
        """Each sentence with its weight: how often, on average, its words are in the text."""
        sentences = [sentence.strip() for sentence in await self.splitter.sentences(text)]
        words = [re.findall(r"\w{4,}", sentence.lower()) for sentence in sentences]
        count = Counter(word for each in words for word in each)
        return [
            (sentence, sum(count[word] for word in each) / max(len(each), 1))
            for sentence, each in zip(sentences, words, strict=True)
        ]


@bentoml.service
class Ranker:
    weigher = bentoml.depends(Weigher)

    @bentoml.api
    async def best(self, text: str, count: int) -> AsyncGenerator[str, None]:
        """So many of its sentences, the heaviest first."""
        weights = await self.weigher.weights(text)
        for sentence, _ in sorted(weights, key=lambda pair: -pair[1])[:count]:
            yield sentence


# What is left of these seconds goes along with every call, down to the cleaner.
@bentoml.service(traffic={"timeout": 10})
class Digest:
    ranker = bentoml.depends(Ranker)

    @bentoml.api
    async def digest(self, text: str, sentences: int = 2) -> AsyncGenerator[str, None]:
        """A line for each of the best sentences, as it comes."""
        async for sentence in self.ranker.best(text, count=sentences):
            yield sentence + "\n"
