from __future__ import annotations

import httpx
import structlog

logger = structlog.get_logger(__name__)


class Backend:
    def __init__(self) -> None:
        self.client = httpx.AsyncClient()
        self.parser = self._parser()

    @staticmethod
    def _parser():
        try:
            from glmocr import GlmOcr
        except Exception as error:
            raise RuntimeError("glmocr is not installed") from error
        return GlmOcr()

    async def read(self, text: str) -> str:
        logger.info("read")
        return self.parser.parse(text)
