"""What only the image has is imported in `with bentoml.importing():`, and named in the class's body.

After https://github.com/bentoml/BentoMoshi/blob/1b136f8526a92fab70838dba09c16aeef8223eed/service.py
"""

from __future__ import annotations

import pathlib

import bentoml
import fastapi
from huggingface_hub import hf_hub_download

with bentoml.importing():
    import numpy as np
    import sentencepiece
    import sphn
    import torch
    from moshi.models import LMGen, loaders

app = fastapi.FastAPI()


@bentoml.service(
    traffic=dict(timeout=10000, concurrency=16), resources=dict(gpu=1, gpu_type="nvidia-l4")
)
@bentoml.mount_asgi_app(app, path="/api")
class Speech:
    path = bentoml.models.HuggingFaceModel(loaders.DEFAULT_REPO)

    def __init__(self) -> None:
        self.model = LMGen(loaders.get_moshi_lm(self.path, device="cuda"))
        self.tokenizer = sentencepiece.SentencePieceProcessor(self.path)

    @bentoml.api
    def convert(self, wav: pathlib.Path, seconds: float = 10.0) -> pathlib.Path:
        with torch.no_grad():
            samples, rate = sphn.read(wav)
            sphn.write_wav("out.wav", np.concatenate([self.model.step(samples)]), rate)
        return pathlib.Path("out.wav")

    @app.websocket("/ws")
    async def listen(self, socket: fastapi.WebSocket):
        await socket.accept()


def main():
    Speech.serve_http(port=3000)


if __name__ == "__main__":
    main()
