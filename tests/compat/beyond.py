"""A project that the existing implementation cannot even load: what it refuses to see declared."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated, Any, Optional

import numpy as np
from PIL.Image import Image

import bentoml
from bentoml.validators import ContentType


@bentoml.service
class Beyond:
    @bentoml.api
    def optional_file(self, value: Optional[Path] = None) -> int:  # noqa: UP045  # what existing projects say  # as existing projects say it
        return -1 if value is None else value.stat().st_size

    @bentoml.api
    def image_or_none(self, value: Image | None = None) -> int:
        return -1 if value is None else value.width

    @bentoml.api
    async def stream_plain(
        self, count: int
    ) -> Annotated[AsyncGenerator[str, None], ContentType("text/plain")]:
        for number in range(count):
            yield f"{number} "

    @bentoml.api
    def array_of_bytes(self, value: np.ndarray[Any, np.uint8]) -> str:  # type: ignore[type-var]
        return str(value.dtype)
