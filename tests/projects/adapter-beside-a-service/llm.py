import bentoml

MAX_TOKENS = 4096
MODEL = "a/model"


@bentoml.service(traffic={"timeout": 600}, resources={"gpu": 1, "gpu_type": "nvidia-l4"})
class Llm:
    def __init__(self) -> None:
        from vllm import AsyncEngineArgs, AsyncLLMEngine

        self.engine = AsyncLLMEngine.from_engine_args(AsyncEngineArgs(model=MODEL, max_model_len=MAX_TOKENS))
