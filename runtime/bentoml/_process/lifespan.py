"""The lifespan of an ASGI application, around the time in which it is served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp, Message, Scope


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[dict[str, Any]]:
    """Start the application, and stop it after the block; yields the state that its requests share.

    What the application raises is raised here as it is, so that whoever starts it can say why it does not.
    """
    life = _Life(app)
    await life.tell("startup")
    try:
        yield life.state
    finally:
        await life.tell("shutdown")


class _Life:
    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._received: asyncio.Queue[Message] = asyncio.Queue()
        self._sent: asyncio.Queue[Message] = asyncio.Queue()
        self._running = asyncio.ensure_future(self._run())

    async def _run(self) -> BaseException | None:
        """What the application raised: a task that ends with `SystemExit` would end the loop with it."""
        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self.state}
        try:
            await self._app(scope, self._received.get, self._sent.put)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # raised where somebody waits for it
            return error
        return None

    async def tell(self, event: str) -> None:
        """Send the event, and return when the application has done what it says."""
        self._received.put_nowait({"type": f"lifespan.{event}"})
        answering = asyncio.ensure_future(self._sent.get())
        both: set[asyncio.Future[Any]] = {self._running, answering}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        answer = answering.result() if answering.done() else {"type": ""}
        answering.cancel()
        if answer["type"] == f"lifespan.{event}.complete":
            return
        error = await self._running
        raise error or RuntimeError(answer.get("message") or f"the application ended at its {event}")
