"""Tasks over HTTP: submitted, asked for, tried again and cancelled."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import httpx
import pytest
from PIL import Image
from tests.runtime.conftest import InMemory, Marked, service_of

import bentoml
from bentoml._config import load_config
from bentoml._serving.application import Replica, create_app
from bentoml.exceptions import InvalidArgument


@bentoml.service(path_prefix="/v1")
class Works:
    @bentoml.task
    def square(self, x: int) -> dict[str, int]:
        if x < 0:
            raise InvalidArgument("less than nothing")
        return {"square": x * x}

    @bentoml.task
    async def sleep(self) -> None:
        await asyncio.Event().wait()

    @bentoml.task
    def draw(self, image: Image.Image) -> Image.Image:
        return image.rotate(90, expand=True)

    @bentoml.api
    def ping(self) -> str:
        return "pong"


@pytest.fixture
def works(in_memory: InMemory, tmp_path: Path) -> Marked:
    """Runs a scenario with a client of the service, whose tasks are kept in a file of the test's own."""

    def run(scenario: Marked) -> object:
        async def with_client() -> object:
            environ = {"BENTOML_RESULT_STORE": str(tmp_path / "tasks.db")}
            async with in_memory(Works, environ=environ) as client:
                return await asyncio.wait_for(scenario(client), 30)

        return asyncio.run(with_client())

    return run


async def submit(client: httpx.AsyncClient, path: str = "/v1/square", **request: object) -> dict[str, str]:
    response = await client.post(f"{path}/submit", **request)  # type: ignore[arg-type]
    assert response.status_code == 200, response.text
    params: dict[str, str] = {"task_id": response.json()["task_id"]}
    return params


async def ended(client: httpx.AsyncClient, params: dict[str, str], path: str = "/v1/square") -> str:
    while True:
        status: str = (await client.get(f"{path}/status", params=params)).json()["status"]
        if status not in ("pending", "in_progress"):
            return status
        await asyncio.sleep(0.01)


def test_a_task_is_submitted_and_its_result_asked_for(works: Marked) -> None:
    async def scenario(client: httpx.AsyncClient) -> object:
        params = await submit(client, json={"x": 3})
        status = await ended(client, params)
        return [status, (await client.get("/v1/square/get", params=params)).json()]

    assert works(scenario) == ["completed", {"square": 9}]


def test_a_task_is_an_endpoint_too(works: Marked) -> None:
    async def scenario(client: httpx.AsyncClient) -> object:
        return (await client.post("/v1/square", json={"x": 3})).json()

    assert works(scenario) == {"square": 9}


def test_the_result_of_a_task_is_the_response_to_the_letter(works: Marked) -> None:
    async def scenario(client: httpx.AsyncClient) -> object:
        files = {"image": bytes_of(Image.new("RGB", (3, 1)))}
        params = await submit(client, "/v1/draw", files=files)
        await ended(client, params, "/v1/draw")
        kept = await client.get("/v1/draw/get", params=params)
        direct = await client.post("/v1/draw", files=files)
        return [kept.content == direct.content, kept.headers["content-type"]]

    assert works(scenario) == [True, "image/png"]


def test_a_task_that_fails_keeps_the_refusal(works: Marked) -> None:
    async def scenario(client: httpx.AsyncClient) -> object:
        params = await submit(client, json={"x": -1})
        status = await ended(client, params)
        response = await client.get("/v1/square/get", params=params)
        return [status, response.status_code, response.json()["error"]]

    assert works(scenario) == ["failed", 400, "less than nothing"]


def test_what_does_not_fit_is_refused_when_it_is_submitted(works: Marked) -> None:
    async def scenario(client: httpx.AsyncClient) -> object:
        response = await client.post("/v1/square/submit", json={"x": "many"})
        return [response.status_code, response.json()["detail"][0]["loc"]]

    assert works(scenario) == [400, ["x"]]


def test_a_task_is_tried_again_as_a_new_one(works: Marked) -> None:
    async def scenario(client: httpx.AsyncClient) -> object:
        first = await submit(client, json={"x": 3})
        await ended(client, first)
        second = (await client.post("/v1/square/retry", params=first)).json()
        await ended(client, {"task_id": second["task_id"]})
        result = await client.get("/v1/square/get", params={"task_id": second["task_id"]})
        return [second["task_id"] != first["task_id"], second["status"], result.json()]

    assert works(scenario) == [True, "in_progress", {"square": 9}]


def test_a_task_that_runs_is_cancelled(works: Marked) -> None:
    async def scenario(client: httpx.AsyncClient) -> object:
        params = await submit(client, "/v1/sleep")
        early = await client.get("/v1/sleep/get", params=params)
        cancelled = (await client.put("/v1/sleep/cancel", params=params)).json()
        return [early.status_code, cancelled["status"], await ended(client, params, "/v1/sleep")]

    assert works(scenario) == [400, "canceled", "canceled"]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/square/status", (400, "task_id is required")),
        ("GET", "/v1/square/get?task_id=x", (404, "task_id not found")),
        ("POST", "/v1/square/retry?task_id=x", (404, "task_id not found")),
        ("PUT", "/v1/square/cancel?task_id=x", (404, "task_id not found")),
    ],
)
def test_an_id_that_names_no_task_is_told(
    works: Marked, method: str, path: str, expected: tuple[int, str]
) -> None:
    async def scenario(client: httpx.AsyncClient) -> object:
        response = await client.request(method, path)
        return response.status_code, response.json()["error"]

    assert works(scenario) == expected


@pytest.mark.parametrize("path", ["/v1/ping/submit", "/v1/ping/status"])
def test_an_endpoint_that_is_no_task_has_no_such_routes(works: Marked, path: str) -> None:
    async def scenario(client: httpx.AsyncClient) -> object:
        return (await client.post(path)).status_code

    assert works(scenario) == 404


def test_a_service_that_is_to_end_lets_its_task_go_on_and_begins_no_other(tmp_path: Path) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    @bentoml.service(traffic={"concurrency": 2})
    class Waits:
        @bentoml.task
        async def wait(self) -> str:
            begun.set()
            await go_on.wait()
            return "done"

    async def scenario() -> list[str]:
        environ = {"BENTOML_RESULT_STORE": str(tmp_path / "tasks.db")}
        service = service_of(Waits)
        config = load_config(service.name, service.config)
        app = create_app(service, Replica(config=config, environ=environ))
        transport = httpx.ASGITransport(app)
        async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            first = await submit(client, "/wait")
            await asyncio.wait_for(begun.wait(), 30)
            app.must_end_within(30)
            second = await submit(client, "/wait")
            go_on.set()
            status = await ended(client, first, "/wait")
            return [status, (await client.get("/wait/status", params=second)).json()["status"]]

    assert asyncio.run(scenario()) == ["completed", "pending"]


def bytes_of(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
