"""How long a request may take, and whether anybody still waits for it."""

from __future__ import annotations

import asyncio
import sys
from typing import Final, Literal

from starlette.types import Receive

_PATIENCE_S: Final = 0.02
"""A request that is answered sooner never looks whether its client is still there: looking costs a task."""

_NEVER_S: Final = 10.0 * 365 * 86400


class Watch:
    """Cancels the task that answers a request: at its deadline, or once its client has gone.

    Made by that task, whose `CancelledError` it then is: `takes` tells it from anyone else's.

    Attributes:
        begun: when it was made, on the loop's clock.
        reason: why the task was cancelled; None while it was not.
        limit: the limit that holds now, as the configuration calls it, and its seconds.
    """

    __slots__ = (
        "_cancelled_before", "_deadline", "_is_read", "_loop", "_receive", "_task", "_timer", "_watcher",
        "begun", "limit", "reason",
    )  # fmt: skip

    def __init__(self, receive: Receive, timeout_s: float | None) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request is answered by a task")
        self._task = task
        self._cancelled_before = 0
        if sys.version_info >= (3, 11):
            self._cancelled_before = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._receive = receive
        # A request without a limit has one that it does not live to see.
        timeout_s = _NEVER_S if timeout_s is None else timeout_s
        self.limit = ("timeout", timeout_s)
        self.begun = self._loop.time()
        self._deadline = self.begun + timeout_s
        self._is_read = False
        self._watcher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle = self._loop.call_later(min(timeout_s, _PATIENCE_S), self._look)
        self.reason: Literal["late", "gone"] | None = None

    @property
    def waits_for_body(self) -> bool:
        """Whether the body has not come yet."""
        return not self._is_read

    def body_was_read(self) -> None:
        """From here on what the client still sends can only be its farewell."""
        self._is_read = True
        if self._loop.time() - self.begun > _PATIENCE_S:
            self._wake(self._loop.time() + _PATIENCE_S)

    def allow(self, timeout_s: float, limit: str) -> None:
        """Give the request this long from now on, which is the limit of that name."""
        self.limit = (limit, timeout_s)
        self._deadline = self._loop.time() + timeout_s
        if self._timer.when() > self._deadline:
            self._wake(self._deadline)

    def _wake(self, when: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        if self._loop.time() >= self._deadline:
            self._cancel("late")
            return
        if self._is_read and self._watcher is None:
            self._watcher = self._loop.create_task(self._wait_for_farewell())
        self._wake(self._deadline)

    async def _wait_for_farewell(self) -> None:
        # A second body is the first once more, from a middleware that gives it again to whoever asks.
        if (await self._receive())["type"] == "http.disconnect":
            self._cancel("gone")

    def _cancel(self, reason: Literal["late", "gone"]) -> None:
        if self.reason is None:
            self.reason = reason
            self._task.cancel()

    def takes(self) -> bool:
        """Whether the cancellation that the task has just seen was this watch's; it is over then."""
        if self.reason is None:
            return False
        if sys.version_info >= (3, 11):
            return self._task.uncancel() <= self._cancelled_before
        return True

    def is_nobodys(self) -> bool:
        """Whether the `CancelledError` that the task has just seen is one that it raised itself.

        A method may wait for a task of its own that was cancelled; only Python 3.11 and newer can tell.
        """
        if sys.version_info >= (3, 11):
            return self.reason is None and self._task.cancelling() <= self._cancelled_before
        return False

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
