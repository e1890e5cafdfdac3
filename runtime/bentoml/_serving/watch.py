"""How long a request may take, and whether anybody still waits for it."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import Final, Literal
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentoml._config import Traffic
from bentoml._deadline import Deadline
from bentoml._serving.reply import ends_response, reply_for, response_of
from bentoml.exceptions import DeadlineExceeded

log = logging.getLogger("bentoml")

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
        deadline: the same moment for those who call peers.
    """

    __slots__ = (
        "_cancelled_before", "_deadline", "_is_read", "_loop", "_receive", "_task", "_timer", "_watcher",
        "begun", "deadline", "limit", "reason",
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
        self.deadline = Deadline(time.monotonic() + timeout_s)
        self._is_read = False
        self._watcher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle = self._loop.call_later(min(timeout_s, _PATIENCE_S), self._look)
        self.reason: Literal["late", "gone"] | None = None

    @property
    def waits_for_body(self) -> bool:
        """Whether the body has not come yet."""
        return not self._is_read

    async def receive(self) -> Message:
        """The request's next message. What its client sends after the last of its body is its farewell."""
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._is_read = True
            if self._loop.time() - self.begun > _PATIENCE_S:
                self._wake(self._loop.time() + _PATIENCE_S)
        return message

    def allow(self, timeout_s: float, limit: str) -> None:
        """Give the request this long from now on, which is the limit of that name."""
        self.limit = (limit, timeout_s)
        self._deadline = self._loop.time() + timeout_s
        self.deadline.at = time.monotonic() + timeout_s
        if self._timer.when() > self._deadline:
            self._wake(self._deadline)

    def allow_another_piece(self, traffic: Traffic) -> None:
        """Give a response that comes in pieces the time for its next one."""
        item_s = traffic.item_timeout or traffic.timeout
        if traffic.total_timeout is not None:
            left_s = self.begun + traffic.total_timeout - self._loop.time()
            if left_s < item_s:
                self.allow(left_s, "total_timeout")
                return
        self.allow(item_s, "item_timeout" if traffic.item_timeout else "timeout")

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


class InTime:
    """An application whose responses keep to the times of `traffic`, as those of endpoints do.

    The time until a response begins is that for the request's body too. A WebSocket has no limit: it may be
    silent for hours, and still be what its client wants.
    """

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        watch = Watch(receive, self._traffic.timeout)
        has_begun = False

        async def send_in_time(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            watch.allow_another_piece(self._traffic)
            await send(message)
            if ends_response(message):
                watch.close()  # what it does after that is done in the background

        try:
            await self._app(scope, receive, send_in_time)
        except asyncio.CancelledError:
            if not watch.takes():
                raise
            limit, seconds = watch.limit
            where = f"{scope['method']} {quote(scope['path'])}"
            if has_begun:
                raise cut_off(where, limit) from None
            await response_of(reply_for(too_late(seconds), where))(scope, receive, send)
        finally:
            watch.close()


class CutOff(DeadlineExceeded):
    """The time of a response that had begun is over: it stays without its end, and that was logged."""


def cut_off(where: str, limit: str) -> CutOff:
    """Log that a response stays without its end.

    Args:
        where: the request, for the log.
    """
    log.warning("%s: its response was cut off: `traffic.%s` is over", where, limit)
    return CutOff(f"`traffic.{limit}` is over")


def too_late(seconds: float) -> DeadlineExceeded:
    """Why a request is answered without its response."""
    return DeadlineExceeded(f"Not able to process the request in {seconds} seconds")
