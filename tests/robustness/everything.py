"""A service with an endpoint for each kind of request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic
from PIL import Image

import bentoml
from bentoml.validators import DType, Shape


class Order(pydantic.BaseModel):
    customer: str
    amount: int = pydantic.Field(ge=1, le=100)
    notes: list[str] = []


@dataclass
class Span:
    start: int
    stop: int = 10


@bentoml.service
class Everything:
    @bentoml.api
    async def add(self, a: Annotated[int, pydantic.Field(ge=-(10**9), le=10**9)], b: float = 1.5) -> float:
        return a + b

    @bentoml.api
    async def order(self, order: Order, spans: list[Span]) -> dict[str, Any]:
        return {"customer": order.customer, "length": sum(span.stop - span.start for span in spans)}

    @bentoml.api
    async def array(self, value: Annotated[np.ndarray, Shape((2,)), DType("float64")]) -> float:
        return float(value.clip(-1e9, 1e9).sum())  # two of the largest would make none that JSON has

    @bentoml.api
    async def image(self, image: Image.Image, scale: int = 1) -> list[int]:
        return [image.width * scale, image.height * scale]

    @bentoml.api
    async def file(self, file: Path) -> int:
        return len(file.read_bytes())  # noqa: ASYNC240  # a few bytes

    @bentoml.api
    async def blob(self, blob: bytes = b"") -> int:
        return len(blob)

    @bentoml.api
    async def options(self, *args: int, **kwargs: Any) -> list[Any]:
        return [sum(args), sorted(kwargs)]

    @bentoml.api
    async def whole(self, values: list[int], /) -> int:
        return sum(values) % 1000

    @bentoml.api
    async def text(self, text: str, /) -> str:
        return text[::-1]

    @bentoml.api
    async def numbers(self, count: Annotated[int, pydantic.Field(ge=0, le=20)]) -> AsyncIterator[int]:
        for number in range(count):
            yield number
