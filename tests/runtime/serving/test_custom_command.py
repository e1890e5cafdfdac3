from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Scope
from tests.runtime.conftest import free_port, is_alive, until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from bentoml._serving.custom_command import CustomCommand, RunningCommand, wait_until_ready
from bentoml._serving.proxy import ProxyApp
from bentoml.exceptions import BentoMLConfigException, UnservableException

# Says what it was asked, and streams: each path waits for what another one does, and never for time.
SERVER = """
    import json, os, signal, subprocess, sys, threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    go_on, hung_up = threading.Event(), threading.Event()
    waits = [sys.executable, "-c", "import signal; signal.signal(15, signal.SIG_IGN); signal.pause()"]
    pids = [os.getpid(), *(subprocess.Popen(waits).pid for word in sys.argv if word == "parent")]
    if "polite" in sys.argv:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("goodbye"))
    if "deaf" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if self.path == "/takes-nothing":
                self.close_connection = True
                hung_up.wait(300)
                return
            body = self.read_chunks() if "transfer-encoding" in self.headers else self.read_all()
            path = self.path.partition("?")[0]
            if path == "/stream":
                self.begin(200, [("transfer-encoding", "chunked")])
                self.chunk(b"first")
                go_on.wait(30)
                self.chunk(b"last")
                self.chunk(b"")
            elif path == "/endless":
                self.begin(200, [("transfer-encoding", "chunked")])
                try:
                    while True:
                        self.chunk(b"x" * 1000)
                except OSError:
                    hung_up.set()
            elif path == "/cut":
                self.begin(200, [("content-length", "100")])
                self.wfile.write(b"too little")
                self.close_connection = True
            elif path == "/silent":
                self.close_connection = True
            elif path in ("/slow", "/wait"):
                go_on.wait(30)
                self.answer(200, b"")
            elif path == "/go-on":
                go_on.set()
                self.answer(200, b"")
            elif path == "/hung-up":
                self.answer(200, str(hung_up.wait(30)).encode())
            elif path == "/teapot":
                self.answer(418, b"short and stout", [
                    ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("content-encoding", "snow"),
                    ("connection", "x-of-this-hop"), ("x-of-this-hop", "1"), ("location", "http://localhost/"),
                ])
            else:
                said = {"pids": pids, "method": self.command, "target": self.path, "body": body.decode(),
                        "headers": [[name.lower(), value] for name, value in self.headers.items()]}
                self.answer(200, json.dumps(said).encode())

        do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_BREW = do_GET

        def do_HEAD(self):
            self.begin(200, [("content-length", "1234")])

        def read_all(self):
            return self.rfile.read(int(self.headers.get("content-length", 0)))

        def read_chunks(self):
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
                go_on.set()
            self.rfile.readline()
            return body

        def begin(self, status, headers):
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()

        def chunk(self, data):
            self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(data), data))

        def answer(self, status, body, headers=()):
            self.begin(status, [*headers, ("content-length", str(len(body)))])
            self.wfile.write(body)

        def log_message(self, *args): ...

    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

WEBSOCKETS = """
    import asyncio, http, sys
    from contextlib import suppress
    from websockets.asyncio.server import serve
    from websockets.exceptions import ConnectionClosed

    def respond(connection, request):
        if request.path == "/health":
            return connection.respond(http.HTTPStatus.OK, "")
        if request.path == "/secret":
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "")

    closed_with = asyncio.Queue()

    async def talk(connection):
        if connection.request.path == "/closed":
            await connection.send(str(await closed_with.get()))
            return
        request = connection.request
        await connection.send(request.path + " " + request.headers.get("x-of-client", ""))
        with suppress(ConnectionClosed):
            async for message in connection:
                if message == "close":
                    await connection.close(4001, "as you said")
                else:
                    await connection.send(message)
        closed_with.put_nowait(connection.close_code)

    async def main():
        port = int(sys.argv[1])
        choose = lambda connection, offered: "b"
        choices = dict(process_request=respond, select_subprotocol=choose)
        async with serve(talk, "127.0.0.1", port, **choices) as server:
            await server.serve_forever()

    asyncio.run(main())
"""


def run(test: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(test, 60))


def script(folder: Path, text: str) -> list[str]:
    path = folder / "server.py"
    path.write_text(textwrap.dedent(text))
    return [sys.executable, str(path)]


def file_server(port: int, folder: Path) -> list[str]:
    return [sys.executable, "-m", "http.server", str(port), "--directory", str(folder)]


@asynccontextmanager
async def started(
    command: Sequence[str], port: int, *, grace_s: float = 30, **more: Any
) -> AsyncIterator[RunningCommand]:
    running = await CustomCommand(command=command, port=port, grace_s=grace_s, **more).start()
    try:
        yield running
    finally:
        await running.stop()


async def start_and_stop(command: Sequence[str], port: int | None = None, **more: Any) -> None:
    async with started(command, port or free_port(), **more):
        pass


def test_a_server_of_any_kind_is_started_with_variables_and_without_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a b; $(touch c) $UNKNOWN"
    folder.mkdir()
    (folder / "health").touch()
    port = free_port()
    monkeypatch.setenv("TEST_PORT", str(port))
    monkeypatch.setenv("TEST_FOLDER", str(folder))
    command = [sys.executable, "-m", "http.server", "${TEST_PORT}", "--directory", "$TEST_FOLDER"]

    run(start_and_stop(command, port))


@pytest.mark.parametrize(
    ("program", "code", "output"),
    [
        ("print('no weights'); print('in here', file=sys.stderr); sys.exit(3)", 3, "no weights\nin here"),
        ("print(10000 * '.', 'the end'); sys.exit()", 0, 3991 * "." + " the end"),
        ("sys.stderr.buffer.write(bytes([0xff])); sys.exit(1)", 1, "\ufffd"),
    ],
)
def test_a_server_that_does_not_start_is_an_error_with_its_code_and_last_output(
    program: str, code: int, output: str
) -> None:
    command = [sys.executable, "-u", "-c", f"import sys; {program}"]

    with pytest.raises(UnservableException) as caught:
        run(start_and_stop(command))

    expected = f"`{' '.join(command)}` ended with exit code {code}; its last output:\n{output}"
    assert str(caught.value) == expected


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(UnservableException) as caught:
        run(start_and_stop(["no-such-program", "serve"]))

    assert str(caught.value) == (
        "`no-such-program serve` ended with exit code 127; its last output:\n"
        "no-such-program: No such file or directory"
    )


def test_what_the_server_writes_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnservableException):
        run(start_and_stop([sys.executable, "-c", "print('words of the server')"]))

    assert capfd.readouterr().err == "words of the server\n"


def test_secrets_of_the_environment_are_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "hunter2")

    with pytest.raises(UnservableException) as caught:
        run(start_and_stop([sys.executable, "-c", "raise SystemExit(1)", "$API_KEY"]))

    assert str(caught.value) == (
        f"`{sys.executable} -c raise SystemExit(1) $API_KEY` ended with exit code 1, without a word"
    )


def test_a_server_without_the_health_path_is_configured_wrongly_and_ended(tmp_path: Path) -> None:
    port = free_port()

    with pytest.raises(BentoMLConfigException) as caught:
        run(start_and_stop(file_server(port, tmp_path), port))

    assert str(caught.value) == (
        f"the command's server answers 404 at http://localhost:{port}/health; set `endpoints.livez` to a "
        "path at which it answers when it is ready"
    )
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_the_health_path_may_be_another(tmp_path: Path) -> None:
    port = free_port()

    run(start_and_stop(file_server(port, tmp_path), port, health_path="/"))


def test_a_server_that_is_not_ready_yet_is_waited_for(tmp_path: Path) -> None:
    loading = """
        import sys
        from http.server import BaseHTTPRequestHandler, HTTPServer

        class Handler(BaseHTTPRequestHandler):
            asked = 0

            def do_GET(self):
                Handler.asked += 1
                self.send_response(503 if Handler.asked < 3 else 200)
                self.send_header("x-asked", str(Handler.asked))
                self.end_headers()

        HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
    """
    port = free_port()

    async def test() -> Any:
        async with started([*script(tmp_path, loading), str(port)], port), proxy(port) as client:
            return (await client.get("/")).headers["x-asked"]

    assert run(test()) == "4"


def test_other_workers_wait_for_the_server_that_one_of_them_starts(server: Server) -> None:
    async def test() -> None:
        waiting = asyncio.ensure_future(wait_until_ready(server.port))
        async with started(server.command, server.port):
            await waiting

    run(test())


def test_a_port_that_something_else_uses_is_told_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BentoMLConfigException) as caught:
            run(start_and_stop(["no-such-program"], port))

    assert str(caught.value) == (
        f"port {port} is in use, and `no-such-program` is to listen there; free it, or set `http.proxy_port` "
        "to the port that the command uses"
    )


def test_servers_of_several_workers_may_share_a_port(server: Server) -> None:
    other = [sys.executable, "-c", "import signal; signal.pause()"]

    async def test() -> None:
        async with started(server.command, server.port):
            await start_and_stop(other, server.port, shares_port=True)

    run(test())


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """The command of a server that says what it was asked, and its port."""
    port = free_port()
    return Server([*script(tmp_path, SERVER), str(port)], port)


class Server(NamedTuple):
    command: list[str]
    port: int

    def that_is(self, word: str) -> Server:
        return Server([*self.command, word], self.port)


@asynccontextmanager
async def proxy_app(port: int, *, timeout_s: float = 30) -> AsyncIterator[ProxyApp]:
    app = ProxyApp(port, timeout_s=timeout_s)
    yield app
    await app.close()


@asynccontextmanager
async def client_of(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://iris.example") as client:
        yield client


@asynccontextmanager
async def proxy(port: int, *, timeout_s: float = 30) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application in memory that passes everything on."""
    async with proxy_app(port, timeout_s=timeout_s) as app, client_of(app) as client:
        yield client


async def pids_of(server: Server) -> list[int]:
    """The processes of a server that runs: its own, and that of its child if it has one."""
    async with proxy(server.port) as client:
        return list((await client.get("/")).json()["pids"])


def test_a_server_that_ends_by_itself_is_told(server: Server) -> None:
    async def test() -> str:
        async with started(server.command, server.port) as running:
            for pid in await pids_of(server):
                os.kill(pid, signal.SIGKILL)
            return str(await running.ended())

    # As shells count it: 128, and the signal's number.
    assert run(test()) == f"`{' '.join(server.command)}` ended with exit code 137, without a word"


def test_a_server_may_end_in_its_own_way_when_it_is_told_to_stop(server: Server) -> None:
    async def test() -> str:
        polite = server.that_is("polite")
        async with started(polite.command, polite.port) as running:
            await running.stop()
            return str(await running.ended())

    assert run(test()).endswith(" ended with exit code 1; its last output:\ngoodbye")


def test_a_server_that_does_not_hear_is_killed_after_the_time_of_grace(server: Server) -> None:
    async def test() -> list[int]:
        deaf = server.that_is("deaf")
        async with started(deaf.command, deaf.port, grace_s=0.1):
            return await pids_of(deaf)

    assert [is_alive(pid) for pid in run(test())] == [False]


def test_what_a_server_has_started_ends_with_it(server: Server) -> None:
    async def test() -> list[int]:
        parent = server.that_is("parent")
        async with started(parent.command, parent.port):
            return await pids_of(parent)

    _, child = run(test())
    until(lambda: not is_alive(child), "the server's child is gone")


def test_a_server_ends_with_its_worker_however_that_ends(server: Server, tmp_path: Path) -> None:
    worker = """
        import asyncio, sys
        from bentoml._serving.custom_command import CustomCommand

        async def main():
            await CustomCommand(command=sys.argv[2:], port=int(sys.argv[1]), grace_s=30).start()
            print("ready", flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
    """
    parent = server.that_is("parent")
    (tmp_path / "worker.py").write_text(textwrap.dedent(worker))
    command = [sys.executable, str(tmp_path / "worker.py"), str(parent.port), *parent.command]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        pids = asyncio.run(pids_of(parent))

        process.kill()

    until(lambda: not any(is_alive(pid) for pid in pids), "the server and its child are gone")


def ask(server: Server, method: str, path: str, *, timeout_s: float = 30, **request: Any) -> httpx.Response:
    """The response to one request through the proxy."""

    async def test() -> httpx.Response:
        async with (
            started(server.command, server.port),
            proxy(server.port, timeout_s=timeout_s) as client,
        ):
            return await client.request(method, path, **request)

    response: httpx.Response = run(test())
    return response


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
def test_every_method_is_passed_on_with_its_body(server: Server, method: str) -> None:
    said = ask(server, method, "/any/path", content=b"of the client").json()

    assert (said["method"], said["target"], said["body"]) == (method, "/any/path", "of the client")


def test_the_head_of_a_file_is_passed_on_with_its_length(server: Server) -> None:
    response = ask(server, "HEAD", "/")

    assert (response.status_code, response.headers["content-length"], response.content) == (200, "1234", b"")


def test_the_path_and_query_are_passed_on_as_they_were_written(server: Server) -> None:
    target = "/a%2Fb/%c3%bc//..%2e/?q=a+b&q=%26&empty="

    assert ask(server, "GET", target).json()["target"] == target


def test_headers_are_passed_on_except_for_those_of_one_connection(server: Server) -> None:
    headers = {
        "accept": "text/plain", "x-twice": "1, 2", "te": "trailers", "proxy-authorization": "Basic x",
        "connection": "keep-alive, X-Of-This-Hop", "x-of-this-hop": "1", "x-forwarded-for": "10.0.0.1",
        "user-agent": "test", "accept-encoding": "identity",
    }  # fmt: skip

    found = ask(server, "GET", "/", headers=headers).json()["headers"]

    assert sorted(map(tuple, found)) == [
        ("accept", "text/plain"),
        ("accept-encoding", "identity"),
        ("host", "iris.example"),
        ("user-agent", "test"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-twice", "1, 2"),
    ]


def test_a_response_is_passed_on_as_it_is(server: Server) -> None:
    response = ask(server, "GET", "/teapot")

    assert (response.status_code, response.content) == (418, b"short and stout")
    assert [pair for pair in response.headers.multi_items() if pair[0] != "server"] == [
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("content-encoding", "snow"),
        ("location", "http://localhost/"),
        ("content-length", "15"),
    ]


def test_the_prefix_under_which_the_application_stands_is_not_passed_on(server: Server) -> None:
    async def test() -> list[str]:
        async with (
            started(server.command, server.port),
            proxy_app(server.port) as app,
            client_of(Starlette(routes=[Mount("/v1", app)])) as client,
        ):
            return [(await client.get(path)).json()["target"] for path in ("/v1/a?b=c", "/v1/")]

    assert run(test()) == ["/a?b=c", "/"]


class Client:
    """A client that takes part in one exchange with an application, message by message."""

    def __init__(
        self, app: ASGIApp, method: str, path: str, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        scope: Scope = {
            "type": "http", "method": method, "path": path, "headers": headers, "query_string": b"",
        }  # fmt: skip
        self._received: asyncio.Queue[Message] = asyncio.Queue()
        self._sent: asyncio.Queue[Message] = asyncio.Queue()
        self.exchange = asyncio.ensure_future(app(scope, self._received.get, self._sent.put))

    def send(self, body: bytes, *, more: bool) -> None:
        self._received.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        self._received.put_nowait({"type": "http.disconnect"})

    async def next(self) -> Message:
        return await self._sent.get()

    @property
    def is_answered(self) -> bool:
        return not self._sent.empty()


@asynccontextmanager
async def exchanged(
    server: Server, method: str, path: str, headers: Sequence[tuple[bytes, bytes]] = ()
) -> AsyncIterator[Client]:
    async with started(server.command, server.port), proxy_app(server.port) as app:
        yield Client(app, method, path, headers)


def test_a_response_streams_while_the_server_still_makes_it(server: Server) -> None:
    async def test() -> list[bytes]:
        async with exchanged(server, "GET", "/stream") as client, proxy(server.port) as other:
            assert (await client.next())["type"] == "http.response.start"
            bodies = [(await client.next())["body"]]
            await other.get("/go-on")
            bodies.append((await client.next())["body"])
            await client.exchange
            return bodies

    assert run(test()) == [b"first", b"last"]


def test_a_request_streams_while_the_client_still_makes_it(server: Server) -> None:
    async def test() -> str:
        chunked = [(b"transfer-encoding", b"chunked")]
        async with exchanged(server, "POST", "/", chunked) as client, proxy(server.port) as other:
            client.send(b"first ", more=True)
            await other.get("/wait")
            client.send(b"last", more=False)
            await client.next()
            return str(json.loads((await client.next())["body"])["body"])

    assert run(test()) == "first last"


def test_a_client_that_leaves_in_the_middle_of_a_response_ends_the_request(server: Server) -> None:
    async def test() -> str:
        async with exchanged(server, "GET", "/endless") as client, proxy(server.port) as other:
            await client.next()
            client.leave()
            await client.exchange
            return (await other.get("/hung-up")).text

    assert run(test()) == "True"


def test_a_client_that_leaves_in_the_middle_of_its_request_ends_it(server: Server) -> None:
    async def test() -> None:
        chunked = [(b"transfer-encoding", b"chunked")]
        async with exchanged(server, "POST", "/", chunked) as client:
            client.send(b"first ", more=True)
            client.leave()
            await client.exchange

    run(test())


def test_a_client_that_leaves_before_there_is_a_response_ends_the_request(server: Server) -> None:
    async def test() -> None:
        async with exchanged(server, "GET", "/slow") as client:
            client.leave()
            await client.exchange

    run(test())


LARGE = bytes(64 * 2**20)  # more than the buffers of a connection take


def test_a_client_that_leaves_while_the_server_takes_nothing_ends_the_request(server: Server) -> None:
    async def test() -> None:
        chunked = [(b"transfer-encoding", b"chunked")]
        async with exchanged(server, "POST", "/takes-nothing", chunked) as client:
            client.send(LARGE, more=True)
            for _ in range(5):
                client.send(b"more", more=True)
            client.leave()
            await client.exchange
            assert not client.is_answered

    run(test())


@pytest.mark.parametrize(("headers", "body"), [([(b"content-length", b"4")], "body"), ([], "")])
def test_a_receive_that_gives_the_body_again_and_again_is_asked_no_more(
    server: Server, headers: list[tuple[bytes, bytes]], body: str
) -> None:
    """As of a middleware that has read the body, and gives it to the application it wraps."""
    asked = 0

    async def receive() -> Message:
        nonlocal asked
        asked += 1
        assert asked < 100
        return {"type": "http.request", "body": b"body", "more_body": False}

    async def test() -> Message:
        sent: asyncio.Queue[Message] = asyncio.Queue()
        async with started(server.command, server.port), proxy_app(server.port) as app:
            scope = {"type": "http", "method": "POST", "path": "/", "query_string": b""}
            await app({**scope, "headers": headers}, receive, sent.put)
        await sent.get()
        return await sent.get()

    assert json.loads(run(test())["body"])["body"] == body
    assert asked == 2


def test_what_reading_a_request_raises_is_raised(server: Server) -> None:
    async def receive() -> Message:
        raise ValueError("too large")

    async def send(message: Message) -> None: ...

    async def test() -> None:
        async with started(server.command, server.port), proxy_app(server.port) as app:
            scope = {"type": "http", "method": "POST", "path": "/", "query_string": b""}
            await app({**scope, "headers": [(b"content-length", b"4")]}, receive, send)

    with pytest.raises(ValueError, match="too large"):
        run(test())


def test_a_response_that_breaks_off_is_an_error_and_no_shorter_response(server: Server) -> None:
    async def test() -> None:
        async with exchanged(server, "GET", "/cut") as client:
            await client.exchange

    with pytest.raises(httpx.RemoteProtocolError):
        run(test())


@pytest.mark.parametrize(
    ("path", "timeout_s", "status", "error"),
    [
        ("/silent", 30, 502, "the command's server did not answer"),
        ("/slow", 0.1, 504, "Not able to process the request in 0.1 seconds"),
    ],
)
def test_a_server_that_does_not_answer_is_told(
    server: Server, path: str, timeout_s: float, status: int, error: str
) -> None:
    response = ask(server, "GET", path, timeout_s=timeout_s)

    assert (response.status_code, response.json()) == (status, {"error": error})


def test_a_server_that_takes_nothing_is_told(server: Server) -> None:
    response = ask(server, "POST", "/takes-nothing", timeout_s=0.1, content=LARGE)

    status, error = 504, "Not able to process the request in 0.1 seconds"

    assert (response.status_code, response.json()) == (status, {"error": error})


def test_a_server_that_is_not_there_is_told() -> None:
    async def test() -> httpx.Response:
        async with proxy(free_port()) as client:
            return await client.get("/")

    response = run(test())
    expected = {"error": "the command's server cannot be reached"}
    assert (response.status_code, response.json()) == (503, expected)


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[str]:
    """The application on a port of this machine; yields `host:port`."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
        serving = asyncio.ensure_future(server.serve(sockets=[bound]))
        yield f"127.0.0.1:{bound.getsockname()[1]}"
        server.should_exit = True
        await serving


@asynccontextmanager
async def websockets_through_proxy(folder: Path) -> AsyncIterator[str]:
    port = free_port()
    command = [*script(folder, WEBSOCKETS), str(port)]
    async with started(command, port), proxy_app(port) as app, listening(app) as address:
        yield f"ws://{address}"


def test_messages_of_a_websocket_are_passed_on_in_both_directions(tmp_path: Path) -> None:
    async def test() -> tuple[Any, ...]:
        async with (
            websockets_through_proxy(tmp_path) as address,
            connect(
                f"{address}/talk?a=b",
                additional_headers={"x-of-client": "ü"},
                subprotocols=PROTOCOLS,
            ) as connection,
        ):
            greeting = await connection.recv()
            for message in ("text", b"bytes"):
                await connection.send(message)
            return connection.subprotocol, greeting, await connection.recv(), await connection.recv()

    assert run(test()) == ("b", "/talk?a=b ü", "text", b"bytes")


PROTOCOLS = [Subprotocol("a"), Subprotocol("b")]


def test_a_server_may_close_a_websocket(tmp_path: Path) -> None:
    async def test() -> tuple[int | None, str | None]:
        async with (
            websockets_through_proxy(tmp_path) as address,
            connect(address, subprotocols=PROTOCOLS) as connection,
        ):
            await connection.recv()
            await connection.send("close")
            with suppress(ConnectionClosed):
                await connection.recv()
            return connection.close_code, connection.close_reason

    assert run(test()) == (4001, "as you said")


def test_a_client_may_close_a_websocket(tmp_path: Path) -> None:
    async def test() -> str | bytes:
        async with websockets_through_proxy(tmp_path) as address:
            async with connect(address, subprotocols=PROTOCOLS) as connection:
                await connection.recv()
                await connection.close(4002, "enough")
            async with connect(f"{address}/closed", subprotocols=PROTOCOLS) as connection:
                return await connection.recv()

    assert run(test()) == "4002"


def test_a_websocket_that_the_server_refuses_is_refused_with_its_status(tmp_path: Path) -> None:
    async def test() -> int:
        async with websockets_through_proxy(tmp_path) as address:
            try:
                async with connect(f"{address}/secret"):
                    return 101
            except InvalidStatus as error:
                return error.response.status_code

    assert run(test()) == 401


def test_a_websocket_to_a_server_that_takes_none_is_refused(server: Server) -> None:
    async def test() -> int:
        async with (
            started(server.command, server.port),
            proxy_app(server.port) as app,
            listening(app) as address,
        ):
            try:
                async with connect(f"ws://{address}/"):
                    return 101
            except InvalidStatus as error:
                return error.response.status_code

    assert run(test()) == 502
