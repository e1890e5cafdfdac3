"""A service whose answers come from an external server."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from pathlib import Path

import pytest
from tests.runtime.conftest import InMemory, Marked, free_port

import bentoml
from bentoml.exceptions import UnservableException

SERVER = textwrap.dedent(
    """
    import json, sys
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.reply({"path": self.path})

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            self.reply({"path": self.path, "body": body})

        def reply(self, document):
            if self.path == "/end":
                sys.stdout.flush()
                import os
                os._exit(3)
            content = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
    """
)


def external(program: str, port: int) -> Marked:
    @bentoml.service(http={"proxy_port": port}, path_prefix="/v1")
    class External:
        def __command__(self) -> list[str]:
            return [sys.executable, "-c", program, str(port)]

        def __metrics__(self, text: str) -> str:
            return text.replace("bentoml_service", "renamed")

    return External


def test_everything_but_probes_and_metrics_is_passed_on(in_memory: InMemory) -> None:
    async def scenario() -> list[object]:
        async with in_memory(external(SERVER, free_port())) as client:
            got = (await client.get("/v1/some/path?x=1")).json()
            posted = (await client.post("/v1/predict", content=b"text")).json()
            return [got, posted, (await client.get("/v1/readyz")).text, (await client.get("/metrics")).text]

    got, posted, ready, metrics = asyncio.run(scenario())

    assert got == {"path": "/some/path?x=1"}
    assert posted == {"path": "/predict", "body": "text"}
    assert ready == "\n"
    assert "renamed_request_total" in str(metrics)


def test_a_command_that_does_not_start_is_an_error_with_its_last_words(in_memory: InMemory) -> None:
    async def scenario() -> None:
        async with in_memory(external("import sys; sys.exit('no model here')", free_port())):
            raise AssertionError("it has started")

    with pytest.raises(UnservableException, match=r"(?s)ended with exit code 1.*no model here"):
        asyncio.run(scenario())


def test_a_service_needs_no_class_for_its_command(in_memory: InMemory, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "index.html").write_text("static")
    command = [sys.executable, "-m", "http.server", "--directory", str(tmp_path), str(port)]
    service: bentoml.Service[object] = bentoml.Service(
        "Static", cmd=command, config={"http": {"proxy_port": port}, "endpoints": {"livez": "/index.html"}}
    )

    async def scenario() -> str:
        async with in_memory(service) as client:
            return (await client.get("/")).text

    assert asyncio.run(scenario()) == "static"
