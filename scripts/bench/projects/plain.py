"""The endpoint of `add.py` as plain FastAPI, and the exchange alone."""

from __future__ import annotations

import fastapi
import pydantic
from starlette.types import Receive, Scope, Send


class Numbers(pydantic.BaseModel):
    a: int
    b: int = 1


app = fastapi.FastAPI()


@app.post("/add")
async def add(numbers: Numbers) -> int:
    return numbers.a + numbers.b


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """What uvicorn costs by itself: the body is read and a constant answered."""
    if scope["type"] != "http":
        return
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"1")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"3"})
