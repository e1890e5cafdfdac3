"""`@bentoml.api`: a method of a service that is reached by a route."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import MethodType
from typing import Any, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])


class Endpoint:
    """What `@bentoml.api` leaves in the class; an instance's attribute is the plain method.

    Args:
        func: the method as it was written.
        route: the path of its HTTP endpoint, `/<name>` when not given.
    """

    def __init__(self, func: Callable[..., Any], *, route: str | None = None) -> None:
        name = func.__name__
        if name.startswith("__"):
            raise ValueError(f"`{name}` cannot be an endpoint: its name starts with two underscores")
        if route is not None and not route.startswith("/"):
            raise ValueError(f"route {route!r} of `{name}`: expected a path that starts with `/`")
        self.func = func
        self.name = name
        self.route = route or f"/{name}"
        self.is_async = inspect.iscoroutinefunction(func)
        self.is_stream = inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func)
        self.__doc__ = func.__doc__

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self.func, instance)

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} at {self.route}>"


@overload
def api(func: F, /) -> F: ...


@overload
def api(func: None = None, /, *, route: str | None = None) -> Callable[[F], F]: ...


def api(func: Callable[..., Any] | None = None, /, *, route: str | None = None) -> Any:
    """Mark a method as an endpoint of its service.

    Its parameters become the fields of the request's JSON or form, its result the response. Type
    checkers keep seeing the method with its own signature.

    Raises:
        ValueError: the name or the route cannot be served.
    """
    if func is None:
        return lambda function: Endpoint(function, route=route)
    return Endpoint(func, route=route)
