"""Routes of an application are methods of the class; one of them imports another file of the project.

After https://github.com/bentoml/BentoVoiceAgent/blob/12b939440b17c24473a221a083e653a2289b10fe/service.py
"""

import bentoml
from fastapi import FastAPI, WebSocket
from starlette.responses import HTMLResponse

app = FastAPI()


@app.post("/start")
async def start():
    return HTMLResponse("<Response/>")


@bentoml.service(traffic={"timeout": 30}, resources={"gpu": 1, "gpu_type": "nvidia-tesla-t4"})
@bentoml.mount_asgi_app(app, path="/voice")
class Bot:
    def __init__(self):
        import torch
        from faster_whisper import WhisperModel

        self.whisper = WhisperModel("large", "cuda" if torch.cuda.is_available() else "cpu")

    @app.websocket("/ws")
    async def talk(self, socket: WebSocket):
        from bot import run

        await socket.accept()
        await run(socket, self.whisper)
