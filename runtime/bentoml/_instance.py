"""All endpoints of a local instance in one kind: awaited, or returning."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

# asyncio is loaded by the first call that needs it: declaring a service takes a tenth of the time without.
if TYPE_CHECKING:
    import asyncio

_END = object()


class AsyncMethods:
    """The endpoints of an instance, each to be awaited; those declared `def` run in a thread."""

    def __init__(self, instance: object, endpoints: Iterable[str]) -> None:
        self._instance = instance
        self._endpoints = tuple(endpoints)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = _method(self._instance, self._endpoints, name)
        if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
            return method
        return functools.partial(_from_thread if inspect.isgeneratorfunction(method) else _in_thread, method)


class SyncMethods:
    """The endpoints of an instance, each returning; those declared `async def` run on a loop of their own."""

    def __init__(self, instance: object, endpoints: Iterable[str]) -> None:
        self._instance = instance
        self._endpoints = tuple(endpoints)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = _method(self._instance, self._endpoints, name)
        if inspect.isasyncgenfunction(method):
            return functools.partial(_waited_for, method)
        if not inspect.iscoroutinefunction(method):
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            return run_blocking(method(*args, **kwargs))

        return call


def with_both_kinds(stand_in: object, endpoints: Iterable[str] | None) -> object:
    """An object that stands in for a dependency, with the `to_async` and `to_sync` that a dependency has.

    Args:
        endpoints: those of the service that it stands in for; None where nobody knows them.
    """
    names = tuple(dir(stand_in) if endpoints is None else endpoints)
    for attribute, methods in (("to_async", AsyncMethods), ("to_sync", SyncMethods)):
        if not hasattr(stand_in, attribute):
            with suppress(AttributeError):  # an object that takes no attributes has its own reasons
                setattr(stand_in, attribute, methods(stand_in, names))
    return stand_in


def _method(instance: object, endpoints: tuple[str, ...], name: str) -> Callable[..., Any]:
    if name not in endpoints:
        known = ", ".join(endpoints) or "none"
        raise AttributeError(f"{type(instance).__name__} has no endpoint {name!r}; its endpoints: {known}")
    method: Callable[..., Any] = getattr(instance, name)
    return getattr(method, "local", method)


async def _in_thread(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    import asyncio

    return await asyncio.to_thread(method, *args, **kwargs)


async def _from_thread(
    method: Callable[..., Iterator[Any]], *args: Any, **kwargs: Any
) -> AsyncGenerator[Any, None]:
    """The items of a generator, each made in a thread."""
    import asyncio

    items = method(*args, **kwargs)
    while (item := await asyncio.to_thread(next, items, _END)) is not _END:
        yield item


def _waited_for(
    method: Callable[..., AsyncGenerator[Any, None]], *args: Any, **kwargs: Any
) -> Generator[Any, None, None]:
    """The items of an asynchronous generator, each waited for."""
    items = method(*args, **kwargs)
    try:
        while (item := run_blocking(_next(items))) is not _END:
            yield item
    finally:
        run_blocking(items.aclose())


async def _next(items: AsyncGenerator[Any, None]) -> Any:
    return await anext(items, _END)


def run_blocking(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Wait for a coroutine in a thread that has no loop, or whose loop must wait for it."""
    import asyncio

    return asyncio.run_coroutine_threadsafe(coroutine, _loop()).result()


@functools.lru_cache(maxsize=1)
def _loop() -> asyncio.AbstractEventLoop:
    import asyncio

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="bentoml-sync", daemon=True).start()
    return loop
