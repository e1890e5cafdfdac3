"""A loop for callers that block: endpoints declared `def`, and code outside of any request."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class BlockingLoop:
    """Runs coroutines on a loop in a thread of its own, which begins with the first.

    Not on the loop of the worker: a blocking call that is made there would wait for itself.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result, once it is there. A caller that is interrupted cancels it."""
        with self._lock:  # never on a loop that is just ended, where it would wait for ever
            future = asyncio.run_coroutine_threadsafe(coroutine, self._running())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close_soon(self, generator: AsyncGenerator[Any, None]) -> None:
        """Close a generator that began on the loop, and do not wait for that.

        Who asks may be the garbage collector, in any thread: in that of the loop, which would wait for
        itself, or in one that holds the lock.
        """
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it has ended meanwhile, and closed all that began on it
                loop.call_soon_threadsafe(_close, generator)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = _new_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="peers", daemon=True)
            self._thread.start()
        return self._loop

    def stop(self, before: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """End the loop and its thread, if they have begun; whoever still waits sees a cancellation.

        Args:
            before: closes what was opened on the loop.
        """
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result()
        asyncio.run_coroutine_threadsafe(before(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _close(generator: AsyncGenerator[Any, None]) -> None:
    asyncio.ensure_future(generator.aclose())  # noqa: RUF006  # it waits for nothing


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _new_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop  # not on every platform

    return uvloop.new_event_loop()
