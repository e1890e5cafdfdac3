"""An application that is called without a socket, one loop and one instance for very many requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.robustness.everything import Everything
from tests.runtime.conftest import service_of

from bentoml._config import load_config
from bentoml._serving.application import Application, Replica, create_app

Ask = Callable[..., tuple[int, bytes]]


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """`ask(path, headers, pieces)`: what the application answers; one loop and instance for all of them."""
    config = load_config(
        "Everything", {"logging": {"access": {"enabled": False}}, "traffic": {"timeout": 20}}
    )
    environ = {"BENTOML_DEPENDENTS": "Top"}  # frames are taken too
    app = create_app(service_of(Everything), Replica(config=config, environ=environ))
    loop = asyncio.new_event_loop()
    lifespan = app.lifespan()
    loop.run_until_complete(lifespan.__aenter__())

    def ask(path: str, headers: list[tuple[bytes, bytes]], pieces: list[bytes]) -> tuple[int, bytes]:
        return loop.run_until_complete(_exchange(app, path, headers, pieces))

    yield ask
    loop.run_until_complete(lifespan.__aexit__(None, None, None))
    loop.close()


async def _exchange(
    app: Application, path: str, headers: list[tuple[bytes, bytes]], pieces: list[bytes]
) -> tuple[int, bytes]:
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "scheme": "http",
        "headers": headers, "client": ("127.0.0.1", 1), "query_string": b"", "root_path": "",
        "http_version": "1.1", "asgi": {"version": "3.0"}, "server": None,
    }  # fmt: skip
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    waiting = iter(messages)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        message = next(waiting, None)
        if message is None:
            await asyncio.Event().wait()
        return message or {}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])
