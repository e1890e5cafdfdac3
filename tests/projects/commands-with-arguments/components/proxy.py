import httpx
from fastapi import FastAPI, Request

proxy = FastAPI()


@proxy.post("/v1/completions")
async def complete(request: Request):
    async with httpx.AsyncClient() as client:
        return (await client.post("http://127.0.0.1:3000", content=await request.body())).json()
