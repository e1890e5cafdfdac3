"""Applications mounted on a service: their routes beside its own, their life within its life."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import Depends
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.middleware import Middleware
from starlette.routing import Match
from starlette.routing import Mount as StarletteMount
from starlette.types import ASGIApp, Message, Scope

from bentoml._context import get_current_service
from bentoml._mount import Mount

log = logging.getLogger("bentoml")


class PassiveMount(StarletteMount):
    """A mount that leaves to others what its application has no route for, as far as it tells.

    What the application's lifespan puts into `lifespan_state` is in the state of its requests.
    """

    def __init__(self, path: str, app: ASGIApp, name: str, middleware: Sequence[Middleware] = ()) -> None:
        super().__init__(path, app=app, name=name, middleware=middleware)
        self.lifespan_state: dict[str, Any] = {}

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is not Match.NONE and self.lifespan_state:
            child["state"] = {**scope.get("state", {}), **self.lifespan_state}
        if match is Match.NONE or not self.routes:
            return match, child
        inner = {**scope, **child}
        if any(route.matches(inner)[0] is not Match.NONE for route in self.routes):
            return match, child
        return Match.NONE, {}


def mounted(mount: Mount, prefix: str, cls: type, middleware: Sequence[Middleware] = ()) -> PassiveMount:
    """The route of a mounted application; its own routes that are methods of the service get an instance.

    Args:
        middleware: stands around the application, for its requests alone.
    """
    for routes in (
        getattr(mount.app, "routes", []),
        getattr(getattr(mount.app, "router", None), "routes", []),
    ):
        _give_self(routes, cls)
    return PassiveMount(prefix + mount.path, mount.app, mount.name, middleware)


def _give_self(routes: list[Any], cls: type) -> None:
    methods = {member for member in vars(cls).values() if inspect.isfunction(member)}
    for index, route in enumerate(routes):
        if not isinstance(route, APIRoute | APIWebSocketRoute) or route.endpoint not in methods:
            continue
        signature = inspect.signature(route.endpoint)
        first, *others = signature.parameters.values()
        if getattr(first.default, "dependency", None) is get_current_service:
            continue
        itself = first.replace(default=Depends(get_current_service), kind=inspect.Parameter.KEYWORD_ONLY)
        others = [_by_name(parameter) for parameter in others]
        endpoint: Any = route.endpoint
        endpoint.__signature__ = signature.replace(parameters=[itself, *others])
        # A route reads its function's signature once, when it is made: make it again from what it was told.
        told = inspect.signature(type(route).__init__).parameters
        options = {name: getattr(route, name) for name in told if name != "self" and hasattr(route, name)}
        routes[index] = type(route)(**options)


def _by_name(parameter: inspect.Parameter) -> inspect.Parameter:
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        return parameter
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


@asynccontextmanager
async def lifespans(mounts: Iterable[PassiveMount]) -> AsyncIterator[None]:
    """The lives of mounted applications, begun in order and ended in reverse.

    Raises:
        RuntimeError: an application says that it cannot start.
    """
    async with AsyncExitStack() as ends:
        for mount in mounts:
            life = _MountLife(mount)
            ends.push_async_callback(life.end)
            await life.begin()
        yield


class _MountLife:
    """The lifespan protocol with one application, which need not know it."""

    def __init__(self, mount: PassiveMount) -> None:
        self._mount = mount
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self._running = asyncio.ensure_future(self._run())

    async def _run(self) -> BaseException | None:
        """What the application raised: a task that ends with `SystemExit` would end the loop with it."""
        scope: Scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0"},
            "state": self._mount.lifespan_state,
        }
        try:
            await self._mount.app(scope, self._to_app.get, self._from_app.put)
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # noqa: BLE001  # for `begin` and `end`
            return error
        return None

    async def begin(self) -> None:
        message = await self._ask("lifespan.startup")
        if message is None:
            # One that raises before it has said anything knows no lifespan, unless that was on purpose.
            error = self._running.result()
            if isinstance(error, SystemExit):
                raise error
        elif message["type"] == "lifespan.startup.failed":
            raise RuntimeError(f"{self._mount.name} cannot start: {message.get('message', '')}")

    async def end(self) -> None:
        if self._running.done():
            return
        message = await self._ask("lifespan.shutdown")
        if message is None:
            error = self._running.result()
            if error is not None:
                log.error("%s failed while it was stopped", self._mount.name, exc_info=error)
        elif message["type"] == "lifespan.shutdown.failed":
            log.error("%s failed while it was stopped: %s", self._mount.name, message.get("message", ""))
        self._running.cancel()

    async def _ask(self, what: str) -> Message | None:
        """The application's answer; None where it does not speak this protocol, and ends."""
        self._to_app.put_nowait({"type": what})
        answer = asyncio.ensure_future(self._from_app.get())
        await asyncio.wait({answer, self._running}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        return None
