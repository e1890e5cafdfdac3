"""Below `src/`, and in the `__init__.py` of a package: a service whose routes are an application's.

After https://github.com/DCC-BS/bentoml-ocr/blob/0a70c6d46d4922ce032068f4253d5f338f5bd629/src/bentoml_ocr/service/__init__.py
"""

import bentoml
from structlog import get_logger

from reader.proxy.api import app, use
from reader.proxy.backend import Backend

logger = get_logger(__name__)

image = bentoml.images.Image(python_version="3.12").python_packages("httpx>=0.28").system_packages("libgl1")


@bentoml.service(image=image, traffic={"timeout": 300})
@bentoml.asgi_app(app, path="/")
class Reader:
    def __init__(self) -> None:
        use(Backend())
        logger.info("ready")
