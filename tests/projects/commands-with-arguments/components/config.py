import os

import pydantic

MODEL = "a/model"
PORT = int(os.getenv("PORT", 3000))
TOKEN = [{"name": "HF_TOKEN"}]
HEALTH = {"livez": "/health", "readyz": "/health"}


class Sizes(pydantic.BaseModel):
    prefillers: int = 1
    decoders: int = 1
