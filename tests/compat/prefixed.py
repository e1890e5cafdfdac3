"""A project whose service lives under a path, which both implementations serve unmodified."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import bentoml


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


@bentoml.asgi_app(Starlette(routes=[Route("/hello", hello)]), path="/mounted")
@bentoml.service(path_prefix="/v1")
class Prefixed:
    @bentoml.api
    def whole(self, value: int) -> int:
        return value + 1
