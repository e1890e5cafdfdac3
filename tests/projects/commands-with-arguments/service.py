"""External servers answer for services of a package; how many workers they have is an argument's matter.

After https://github.com/bentoml/BentoVLLM/blob/876e0cabe65eb95c70b9a97521a873c424bba7fc/llama3.1-8b-xpyd/service.py
"""

import bentoml
from components import Decoder, Prefiller, proxy

image = bentoml.images.Image().requirements_file("requirements.txt")


@bentoml.service(labels={"openai_endpoint": "/v1"}, image=image)
@bentoml.asgi_app(proxy)
class Router:
    decoder = bentoml.depends(Decoder)
    prefiller = bentoml.depends(Prefiller)
