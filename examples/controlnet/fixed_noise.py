"""The example's GPU service with noise that the caller gives, so that two runs can be compared.

Not part of the Bento: `make check-gpu` serves it.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL.Image import Image
from service import SDXLControlNetService

import bentoml


@bentoml.service(workers=1, resources={"gpu": "1"}, traffic={"timeout": 600})
class FixedNoise(SDXLControlNetService):  # type: ignore[misc]  # a service stands for its class
    @bentoml.api
    def generate_from(self, prompt: str, image: Image, latents: np.ndarray) -> Image:
        noise = torch.from_numpy(latents).to(self.device, self.dtype)
        return self.pipe(prompt, image=image, latents=noise, num_inference_steps=8).images[0]

    @bentoml.api
    def device_name(self) -> str:
        return str(self.pipe.device)
