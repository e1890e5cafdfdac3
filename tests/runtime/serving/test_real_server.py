"""What only shows where requests come over a real connection, to a process of their own."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest
from tests.runtime.conftest import ServiceProcess, Start, until
from websockets.sync.client import connect

SERVICE = """
import bentoml
import fastapi
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

async def echo(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{text} from {bentoml.get_current_service().name}")

fast = fastapi.FastAPI()

@bentoml.asgi_app(fast, path="/fast")
@bentoml.asgi_app(Starlette(routes=[WebSocketRoute("/echo", echo)]), path="/ws")
@bentoml.service(traffic={"timeout": 1})
class Odd:
    name = "Odd"

    @bentoml.api
    async def own_service(self) -> bool:
        return bentoml.get_current_service() is self

    @bentoml.api
    def nothing(self, ctx: bentoml.Context) -> None:
        ctx.response.status_code = 204

    is_tired = False

    def __is_ready__(self) -> bool:
        return not self.is_tired

    @bentoml.api
    def tire(self) -> None:
        self.is_tired = True

    @fast.websocket("/echo")
    async def echo(self, websocket: fastapi.WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(f"{await websocket.receive_text()} to {self.name}")

    @bentoml.task
    def toil(self) -> None:
        pass
"""


@pytest.fixture
def odd(tmp_path: Path, start: Start) -> ServiceProcess:
    (tmp_path / "service.py").write_text(SERVICE)
    return start("service:Odd", BENTOML_RESULT_STORE=str(tmp_path / "tasks.db")).wait_until_ready()


def test_an_endpoint_finds_its_own_service(odd: ServiceProcess) -> None:
    assert odd.post("/own_service").json() is True


def test_a_response_without_content_leaves_its_connection_as_it_was(odd: ServiceProcess) -> None:
    with httpx.Client(base_url=odd.address, trust_env=False) as client:
        statuses = [client.post(path).status_code for path in ("/nothing", "/own_service", "/nothing")]

    assert statuses == [204, 200, 204]


def test_a_task_whose_request_stalls_is_refused(odd: ServiceProcess) -> None:
    with socket.create_connection(("127.0.0.1", odd.port), timeout=30) as connection:
        connection.sendall(b"POST /toil/submit HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")

        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_leaves_a_submission_is_no_failure_of_the_service(odd: ServiceProcess) -> None:
    with socket.create_connection(("127.0.0.1", odd.port), timeout=30) as connection:
        connection.sendall(b"POST /toil/submit HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")

    assert odd.post("/own_service").status_code == 200
    assert "failed" not in odd.log


def test_a_websocket_goes_through_a_mount(odd: ServiceProcess) -> None:
    with connect(f"ws://127.0.0.1:{odd.port}/ws/echo", proxy=None) as websocket:
        websocket.send("hello")

        assert websocket.recv(timeout=30) == "hello from Odd"


def test_a_websocket_is_in_the_access_log_without_its_query(odd: ServiceProcess) -> None:
    with connect(f"ws://127.0.0.1:{odd.port}/ws/echo?token=secret", proxy=None):
        pass

    until(lambda: "(scheme=ws,method=GET,path=/ws/echo) (status=101)" in odd.log, "it is logged")
    assert "secret" not in odd.log


def test_a_websocket_may_be_a_method_of_the_service(odd: ServiceProcess) -> None:
    with connect(f"ws://127.0.0.1:{odd.port}/fast/echo", proxy=None) as websocket:
        websocket.send("hello")

        assert websocket.recv(timeout=30) == "hello to Odd"


def test_a_service_that_says_it_is_not_ready_is_not_on_the_management_port_either(
    odd: ServiceProcess,
) -> None:
    odd.post("/tire")

    until(lambda: odd.probe("/readyz") == 503, "the management port has heard of it")
    assert odd.probe("/livez") == 200
