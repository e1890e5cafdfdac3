"""The graph as deployments of Ray Serve, served by `python -m calls.ray_graph PORT`."""

# No annotations as strings here: Ray sends classes to its processes, without what only a string names.

import sys
from collections.abc import AsyncIterator
from typing import Any

import fastapi
import numpy as np
import ray  # type: ignore[import-not-found]  # in .venv-ray
from ray import serve

from . import loops
from .plain import Case, Text

app = fastapi.FastAPI()

# By default a deployment takes five calls at once, which would measure the queue before it.
deployment: Any = serve.deployment(max_ongoing_requests=128, ray_actor_options={"num_cpus": 0})


@deployment
class Callee:
    async def add(self, a: int, b: int = 1) -> int:
        return a + b

    async def echo(self, text: str) -> str:
        return text

    async def back(self, array: np.ndarray) -> np.ndarray:
        return array

    async def count(self, items: int) -> AsyncIterator[str]:
        for number in range(items):
            yield loops.ITEM.format(number)


class Handle:
    """The callee, as its caller sees it."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._streams = handle.options(stream=True)

    async def add(self, *, a: int) -> int:
        return int(await self._handle.add.remote(a=a))

    async def echo(self, *, text: str) -> str:
        return str(await self._handle.echo.remote(text=text))

    async def back(self, *, array: loops.Array) -> loops.Array:
        answer: loops.Array = await self._handle.back.remote(array=array)
        return answer

    async def count(self, *, items: int) -> AsyncIterator[str]:
        async for text in self._streams.count.remote(items=items):
            yield text


@deployment
@serve.ingress(app)
class Caller:
    def __init__(self, callee: Any) -> None:
        self._callee = Handle(callee)

    @app.post("/measure")
    async def measure(self, case: Case) -> loops.Measured:
        return await loops.measure(self._callee, case.case, case.size, case.times)

    @app.post("/echo")
    async def echo(self, text: Text) -> str:
        return await self._callee.echo(text=text.text)


def main() -> None:
    ray.init(include_dashboard=False, num_cpus=2)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    graph = Caller.bind(Callee.bind())  # type: ignore[attr-defined]  # mypy follows no decorators of classes
    serve.run(graph, blocking=True)


if __name__ == "__main__":
    main()
