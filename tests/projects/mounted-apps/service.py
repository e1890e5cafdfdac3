"""Applications mounted above, below and behind a class; a hook; and a server that no class stands for."""

import bentoml
import more
import warmup
import web
from admin import admin

engine = bentoml.Service("Engine", cmd=["vllm", "serve", "a/model"], config={"http": {"proxy_port": 8000}})


@bentoml.asgi_app(web.app, path="/web")
@bentoml.service
@bentoml.asgi_app(admin, path="/admin")
class Front:
    engine = bentoml.depends(engine)

    @bentoml.on_startup
    def warm(self) -> None:
        warmup.load()

    @bentoml.task
    def report(self, rows: list[int]) -> int:
        return sum(rows)


Front.mount_asgi_app(more.app, path="/more")
