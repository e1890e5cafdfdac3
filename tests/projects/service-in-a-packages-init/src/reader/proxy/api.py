from fastapi import FastAPI

from reader.proxy.backend import Backend

app = FastAPI()
backends: list[Backend] = []


def use(backend: Backend) -> None:
    backends.append(backend)


@app.post("/v1/chat/completions")
async def complete(text: str):
    return await backends[-1].read(text)
