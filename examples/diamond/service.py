"""What a text is like: two services look at it, and both ask a third for its words."""

from __future__ import annotations

import asyncio
import re

from pydantic import BaseModel

import bentoml


@bentoml.service
class Tokenizer:
    """Takes texts apart, for whoever asks; it runs once, however many services depend on it."""

    @bentoml.api
    async def sentences(self, text: str) -> list[list[str]]:
        """The words of each sentence."""
        sentences = re.split(r"[.!?]+(?:\s+|$)", text)
        return [words for words in map(re.compile(r"[\w'’-]+").findall, sentences) if words]


class Vocabulary(BaseModel):
    words: int
    distinct: int
    longest: str


@bentoml.service
class Lexicographer:
    tokenizer = bentoml.depends(Tokenizer)

    @bentoml.api
    async def vocabulary(self, text: str) -> Vocabulary:
        words = [word.lower() for words in await self.tokenizer.sentences(text) for word in words]
        return Vocabulary(words=len(words), distinct=len(set(words)), longest=max(words, key=len, default=""))


class Style(BaseModel):
    sentences: int
    words_per_sentence: float
    longest_sentence: int


@bentoml.service
class Stylist:
    tokenizer = bentoml.depends(Tokenizer)

    @bentoml.api
    async def style(self, text: str) -> Style:
        lengths = [len(words) for words in await self.tokenizer.sentences(text)]
        return Style(
            sentences=len(lengths),
            words_per_sentence=round(sum(lengths) / max(len(lengths), 1), 1),
            longest_sentence=max(lengths, default=0),
        )


class Description(BaseModel):
    vocabulary: Vocabulary
    style: Style


@bentoml.service
class Critic:
    lexicographer = bentoml.depends(Lexicographer)
    stylist = bentoml.depends(Stylist)

    @bentoml.api
    async def describe(self, text: str) -> Description:
        # The two sides work at the same time. What comes back are the models that they returned.
        vocabulary, style = await asyncio.gather(
            self.lexicographer.vocabulary(text),
            self.stylist.style(text),
        )
        return Description(vocabulary=vocabulary, style=style)
