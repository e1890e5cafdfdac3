"""Running a service's methods: async ones on the loop, the others in its threads, both counted."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from bentoml._endpoint import Endpoint
from bentoml._serving.admission import Admission
from bentoml._signature import Arguments

T = TypeVar("T")

_END: Final = object()


class Place:
    """One call's place among those that may run at once, given back once.

    A method in a thread cannot be stopped: when its caller gives up, the thread keeps the place.
    """

    __slots__ = ("_admission", "_is_taken", "_thread")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._is_taken = True
        self._thread: Future[Any] | None = None

    def give_back(self) -> None:
        """Make it free, unless a thread keeps it."""
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


class Runner:
    """Runs the methods of one instance.

    Args:
        threads: how many methods declared `def` run at once.
    """

    def __init__(self, instance: object, threads: int) -> None:
        self.instance = instance
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="endpoint")

    async def run(
        self, endpoint: Endpoint, arguments: Arguments, place: Place, then: Callable[[Any], T]
    ) -> T:
        """What `then` makes of the method's result, where the method ran."""
        method = functools.partial(endpoint.func, self.instance, *arguments.positional, **arguments.keywords)
        if endpoint.is_async:
            return then(await method())
        return await self._in_thread(lambda: then(method()), place)

    def stream(self, endpoint: Endpoint, arguments: Arguments, place: Place) -> AsyncGenerator[Any, None]:
        """The items of a method that is a generator; closing it closes the method's own."""
        made = endpoint.func(self.instance, *arguments.positional, **arguments.keywords)
        return made if isinstance(made, AsyncGenerator) else self._items(made, place)

    async def _items(self, generator: Generator[Any, None, None], place: Place) -> AsyncGenerator[Any, None]:
        try:
            while (item := await self._in_thread(lambda: next(generator, _END), place)) is not _END:
                yield item
        finally:
            # In a thread as well, since what the method does at its end may take as long as anything else in
            # it; and not before the item is there that it may still be making.
            place.when_free(lambda: self._close(generator))

    def _close(self, generator: Generator[Any, None, None]) -> None:
        self._threads.submit(generator.close)

    async def _in_thread(self, method: Callable[[], T], place: Place) -> T:
        future = self._threads.submit(contextvars.copy_context().run, method)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.done():
                place.keep_for(future)
            raise

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback)
