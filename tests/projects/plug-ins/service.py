"""Requirements that no file imports: some are plug-ins of what a service holds, of others nobody knows."""

import bentoml
import diffusers
import torch
from PIL import Image


@bentoml.service(resources={"gpu": 1})
class Painter:
    def __init__(self) -> None:
        self.pipeline = diffusers.AutoPipelineForText2Image.from_pretrained("a/model", torch_dtype=torch.float16)

    @bentoml.api
    def paint(self, prompt: str) -> Image.Image:
        return self.pipeline(prompt).images[0]


@bentoml.service
class Entry:
    painter = bentoml.depends(Painter)

    @bentoml.api
    def small(self, prompt: str) -> Image.Image:
        return self.painter.paint(prompt).resize((64, 64))
