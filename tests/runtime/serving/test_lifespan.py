"""A service's life: hooks, dependencies, mounted applications."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import fastapi
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from tests.runtime.conftest import Call, InMemory, service_of

import bentoml


@bentoml.service
class Leaf:
    @bentoml.api
    def double(self, x: int) -> int:
        return 2 * x


def test_hooks_run_in_the_order_of_a_life(in_memory: InMemory) -> None:
    events: list[str] = []

    @asynccontextmanager
    async def inner(_: Starlette) -> AsyncIterator[None]:
        events.append("mount begins")
        yield
        events.append("mount ends")

    @bentoml.asgi_app(Starlette(lifespan=inner), path="/inner")
    @bentoml.service
    class Life:
        def __init__(self) -> None:
            events.append("init")

        @bentoml.on_startup
        def first(self) -> None:
            events.append("startup")

        @bentoml.on_startup
        async def second(self) -> None:
            events.append("async startup")

        @bentoml.on_shutdown
        def last(self) -> None:
            events.append("shutdown")

    async def scenario() -> None:
        async with in_memory(Life) as client:
            events.append(str((await client.get("/readyz")).status_code))

    asyncio.run(scenario())
    assert events == [
        "init", "startup", "async startup", "mount begins", "200", "mount ends", "shutdown"
    ]  # fmt: skip


def test_dependencies_can_be_called_while_a_service_starts(in_memory: InMemory) -> None:
    @bentoml.service
    class Top:
        leaf = bentoml.depends(Leaf)

        def __init__(self) -> None:
            self.early = self.leaf.double(1)

        @bentoml.on_startup
        def prepare(self) -> None:
            self.later = self.leaf.double(2)

        @bentoml.api
        def ask(self) -> list[int]:
            return [self.early, self.later]

    async def scenario() -> object:
        async with in_memory(Top, dependencies={"leaf": Leaf()}) as client:
            return (await client.post("/ask")).json()

    assert asyncio.run(scenario()) == [2, 4]


def test_a_service_says_itself_whether_it_is_live_and_ready(in_memory: InMemory) -> None:
    @bentoml.service(endpoints={"livez": "/alive"})
    class Moody:
        is_ready = False

        def __is_alive__(self) -> bool:
            return True

        async def __is_ready__(self) -> bool:
            return self.is_ready

        @bentoml.api
        def cheer(self) -> None:
            self.is_ready = True

    async def scenario() -> list[int]:
        async with in_memory(Moody) as client:
            before = [(await client.get(path)).status_code for path in ("/livez", "/alive", "/readyz")]
            await client.post("/cheer")
            return [*before, (await client.get("/readyz")).status_code]

    assert asyncio.run(scenario()) == [200, 200, 503, 200]


def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"hello {request.query_params['name']}")


fast = fastapi.FastAPI()


@bentoml.asgi_app(fast, path="/fast")
@bentoml.asgi_app(Starlette(routes=[Route("/hello", hello), Route("/", hello)]))
@bentoml.service(path_prefix="/v1")
class Mounted:
    secret = "of the instance"

    @fast.get("/secret")
    def tell(self, times: int = 1) -> list[str]:
        return [self.secret] * times

    @bentoml.api
    def double(self, x: int) -> int:
        return 2 * x


@fast.get("/same")
def same(service: object = fastapi.Depends(bentoml.get_current_service)) -> bool:
    return isinstance(service, service_of(Mounted).inner)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/hello?name=ann", "hello ann"),
        ("/v1/?name=ann", "hello ann"),
        ("/v1/fast/secret?times=2", '["of the instance","of the instance"]'),
        ("/v1/fast/same", "true"),
        ("/v1/livez", "\n"),
        ("/livez", "\n"),
    ],
)
def test_mounted_applications_answer_beside_the_service(call: Call, path: str, expected: str) -> None:
    assert call(Mounted, path, method="GET").text == expected


def test_what_a_mount_has_no_route_for_goes_to_the_service(call: Call) -> None:
    assert call(Mounted, "/v1/double", json={"x": 2}).json() == 4
    assert call(Mounted, "/v1/docs.json", method="GET").json()["info"]["title"] == "Mounted"


def test_a_mount_is_shown_in_the_schema(call: Call) -> None:
    paths = call(Mounted, "/schema.json", method="GET").json()["paths"]

    assert paths["/v1/double"] == {"mounted": False}
    assert paths["/v1/hello"] == paths["/v1/fast/secret"] == {"mounted": True}


def test_middleware_stands_around_everything(call: Call) -> None:
    @bentoml.service
    class Guarded:
        @bentoml.api
        def ping(self) -> str:
            return "pong"

    class Refuse:
        def __init__(self, app: object, *, status: int) -> None:
            self.status = status

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await PlainTextResponse("no", self.status)(scope, receive, send)

    service_of(Guarded).add_asgi_middleware(Refuse, status=418)

    assert call(Guarded, "/ping").status_code == 418


def test_other_origins_are_let_in_where_asked_for(call: Call) -> None:
    cors = {"enabled": True, "access_control_allow_origins": "https://example.com"}
    headers = {"origin": "https://example.com"}

    response = call(Leaf, "/double", json={"x": 1}, headers=headers, config={"http": {"cors": cors}})

    assert response.headers["access-control-allow-origin"] == "https://example.com"


def test_a_browser_that_asks_before_it_calls_an_endpoint_is_let_in(call: Call) -> None:
    cors = {"enabled": True, "access_control_allow_origins": "https://example.com"}
    headers = {
        "origin": "https://example.com",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }

    response = call(Leaf, "/double", method="OPTIONS", headers=headers, config={"http": {"cors": cors}})

    assert response.status_code == 200
