"""How many calls a replica runs at once, and whether one more may begin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentoml._serving.reply import ends_response, refuse
from bentoml.exceptions import TooManyRequests


class Admission(Protocol):
    """Counts the calls of a replica, over all its workers, and keeps to `traffic.max_concurrency`."""

    def enter(self) -> bool:
        """Count one more call, unless as many run as may."""
        ...

    def leave(self) -> None:
        """Count one call less."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether as many run as may: one that is still to be read need not be, then."""
        ...

    @property
    def running(self) -> int:
        """How many calls run now."""
        ...


class LocalAdmission:
    """For an application that is the only one of its replica.

    Args:
        limit: how many calls may run at once; None for any number.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self.running = 0

    @property
    def is_full(self) -> bool:
        return self._limit is not None and self.running >= self._limit

    def enter(self) -> bool:
        if self.is_full:
            return False
        self.running += 1
        return True

    def leave(self) -> None:
        self.running -= 1


class _Uncounted:
    """For calls that take no place: those in the background, and those that are made for others."""

    is_full = False
    running = 0

    def enter(self) -> bool:
        return True

    def leave(self) -> None:
        return


UNCOUNTED: Final[Admission] = _Uncounted()


class Place:
    """One call's place among those that may run at once: taken before it runs, given back once.

    A method in a thread cannot be stopped: when its caller gives up, the thread keeps the place.
    """

    __slots__ = ("_admission", "_is_taken", "_thread")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._is_taken = False
        self._thread: Future[Any] | None = None

    def take(self) -> bool:
        """Whether there was one to take."""
        self._is_taken = self._admission.enter()
        return self._is_taken

    def give_back(self) -> None:
        """Make it free if it was taken, unless a thread keeps it."""
        if self._is_taken and self._thread is None:
            self._is_taken = False
            self._admission.leave()

    def keep_for(self, thread: Future[Any]) -> None:
        """Leave it to a call in a thread that goes on without its caller."""
        self._thread = thread
        self.when_free(self._leave)

    def when_free(self, callback: Callable[[], None]) -> None:
        """Call back on the loop once nothing runs for this call any more: now, or when its thread ends."""
        if self._thread is None or self._thread.done():
            callback()
            return
        loop = asyncio.get_running_loop()
        self._thread.add_done_callback(lambda _: _call_soon(loop, callback))

    def _leave(self) -> None:
        self._thread = None
        self.give_back()


class Admitted:
    """An application whose requests and connections take a place each.

    They take it as they come, since the application runs before it has read a body, and a WebSocket keeps its
    own while it is open: what a model holds for a conversation it holds between two messages too. A thread in
    which the application goes on after its request was cancelled is the application's, and not counted.
    """

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        place = Place(self._admission)
        if not place.take():
            await refuse(too_many_requests(), scope, receive, send)
            return

        async def giving_back(message: Message) -> None:
            if ends_response(message):
                # Before the response is out: who waits for this place must find it free by then.
                place.give_back()
            await send(message)

        try:
            await self._app(scope, receive, giving_back)
        finally:
            place.give_back()


def too_many_requests() -> TooManyRequests:
    """Why a request is refused when as many calls run as may."""
    return TooManyRequests("Too many requests")


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # a loop that is closed waits for nobody
        loop.call_soon_threadsafe(callback)
