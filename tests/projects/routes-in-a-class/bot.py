from openai import AsyncOpenAI
from pipecat.pipeline.pipeline import Pipeline


async def run(socket, whisper):
    return Pipeline([socket, whisper, AsyncOpenAI()])
