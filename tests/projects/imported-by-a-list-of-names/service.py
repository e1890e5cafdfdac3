"""Plug-ins are imported by the names of a list: nobody can read from the source which packages they need.

After https://github.com/TIBHannover/tibava-inference-bentoml/blob/ec85bb08ddc8585d8e38cd5e91c176e8e9130af2/service.py
"""

import importlib

import bentoml
import numpy as np
import onnxruntime

FILES = ["clip.service", "faces.service"]

models = {}

for name in FILES:
    module = importlib.import_module(name)
    if "build" in dir(module):
        models[name] = module.build


@bentoml.service
class Scenes:
    @bentoml.api
    def cuts(self, frames: np.ndarray) -> list[int]:
        return onnxruntime.InferenceSession("cuts.onnx").run(None, {"frames": frames})


@bentoml.service
class Archive:
    scenes = bentoml.depends(Scenes)

    @bentoml.api
    def describe(self, name: str) -> str:
        return str(models[name]())
