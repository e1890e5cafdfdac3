"""Running a service's methods: async ones on the loop, the others in its threads, both counted."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from bentoml._endpoint import Endpoint
from bentoml._serving.admission import Place
from bentoml._signature import Arguments

T = TypeVar("T")

_END: Final = object()


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

        def call() -> T:
            try:
                return then(method())
            except StopIteration as error:
                # No future can carry it: whoever waits would wait for ever.
                raise RuntimeError(f"`{endpoint.attribute}` raised StopIteration") from error

        return await self._in_thread(call, place)

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
