import bentoml

from .config import HEALTH, MODEL, PORT, TOKEN, Sizes

sizes = bentoml.use_arguments(Sizes)


@bentoml.service(
    envs=TOKEN,
    endpoints=HEALTH,
    resources={"gpu": 1, "gpu_type": "nvidia-h100-80gb"},
    workers=sizes.prefillers,
)
class Prefiller:
    model = bentoml.models.HuggingFaceModel(MODEL, exclude=["*.pth", "original/**/*"])

    def __command__(self) -> list[str]:
        return ["vllm", "serve", self.model, "--port", str(PORT)]
