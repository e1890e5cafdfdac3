"""`@bentoml.api` and `@bentoml.task`: methods of a service that are reached by a route."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from types import MethodType
from typing import Any, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])


class Endpoint:
    """What `@bentoml.api` leaves in the class; an instance's attribute is the method, ready to call.

    Args:
        func: the method as it was written.
        route: the path of its HTTP endpoint, `/<name>` when not given.
        name: what schemas and clients call it; the method's name when not given.
        input_spec: a pydantic model whose fields are the parameters.
        output_spec: the type of the result, over the method's annotation.
        batchable: whether calls that wait are merged into one.
        batch_dim: the dimension along which arguments are merged, and that along which results are split.
        max_batch_size: items of a merged call at most.
        max_latency_ms: a call that would take longer is refused.
        idempotent: whether a call may be sent again when nobody knows whether it had its effect.
        is_task: whether calls may also be submitted, and their results asked for later.
    """

    def __init__(
        self,
        func: Callable[..., Any],
        *,
        route: str | None = None,
        name: str | None = None,
        input_spec: Any = None,
        output_spec: Any = None,
        batchable: bool = False,
        batch_dim: int | tuple[int, int] = 0,
        max_batch_size: int = 100,
        max_latency_ms: int = 60000,
        idempotent: bool = False,
        is_task: bool = False,
    ) -> None:
        method = func.__name__
        self.name = name or method
        if self.name.startswith("__"):
            raise ValueError(f"`{self.name}` cannot be an endpoint: its name starts with two underscores")
        if route is not None and not route.startswith("/"):
            raise ValueError(f"route {route!r} of `{method}`: expected a path that starts with `/`")
        if max_batch_size <= 1:
            raise ValueError(f"max_batch_size {max_batch_size} of `{method}`: expected more than 1")
        if max_latency_ms <= 0:
            raise ValueError(f"max_latency_ms {max_latency_ms} of `{method}`: expected more than 0")
        self.attribute = method
        self.is_async = inspect.iscoroutinefunction(func)
        self.is_stream = inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func)
        self.is_awaited = self.is_async or inspect.isasyncgenfunction(func)
        if is_task and self.is_stream:
            raise ValueError(f"`{method}` cannot be a task: it is a generator")
        if batchable and self.is_stream:
            raise ValueError(f"`{method}` cannot be batchable: it is a generator")
        self.func = _with_field_defaults(func)
        self.route = route or f"/{self.name}"
        self.input_spec = input_spec
        self.output_spec = output_spec
        self.batchable = batchable
        self.batch_dim = (batch_dim, batch_dim) if isinstance(batch_dim, int) else batch_dim
        self.max_batch_size = max_batch_size
        self.max_latency_ms = max_latency_ms
        self.idempotent = idempotent
        self.is_task = is_task
        self.__doc__ = func.__doc__

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else BoundEndpoint(self.func, instance)

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} at {self.route}>"


class BoundEndpoint:
    """An endpoint of an instance, called directly: no request, no encoding.

    Attributes:
        local: the same method, by the name under which this interface has the direct call.
    """

    def __init__(self, func: Callable[..., Any], instance: object) -> None:
        functools.update_wrapper(self, func)
        self.__self__ = instance
        self.__func__ = func
        self.local = MethodType(func, instance)
        if inspect.iscoroutinefunction(func) and sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__func__(self.__self__, *args, **kwargs)

    def map(self, items: Any, **options: Any) -> Any:
        """Call it for each of `items`, some at once: to be awaited where the method is.

        Its options and results are those of `bentoml._fan_out.call_for_each`.
        """
        from bentoml._fan_out import call_for_each, call_for_each_blocking  # asyncio, for this alone

        if inspect.iscoroutinefunction(self.__func__):
            return call_for_each(self, items, **options)
        return call_for_each_blocking(self, items, **options)

    def __repr__(self) -> str:
        return f"<endpoint {self.__func__.__qualname__} of {self.__self__!r}>"


def _with_field_defaults(func: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its `Field(...)` defaults as a direct caller expects them: as their values."""
    pydantic: Any = sys.modules.get("pydantic.fields")
    if pydantic is None:
        return func
    parameters = inspect.signature(func).parameters.values()
    fields = {p.name: p.default for p in parameters if isinstance(p.default, pydantic.FieldInfo)}
    if not fields:
        return func
    signature = inspect.signature(func)

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind_partial(*args, **kwargs).arguments
        for name, field in fields.items():
            if name not in given and not field.is_required():
                kwargs[name] = field.get_default(call_default_factory=True)
        return func(*args, **kwargs)

    return call


@overload
def api(func: F, /) -> F: ...


@overload
def api(
    func: None = None,
    /,
    *,
    route: str | None = None,
    name: str | None = None,
    input_spec: Any = None,
    output_spec: Any = None,
    batchable: bool = False,
    batch_dim: int | tuple[int, int] = 0,
    max_batch_size: int = 100,
    max_latency_ms: int = 60000,
    idempotent: bool = False,
) -> Callable[[F], F]: ...


def api(func: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Mark a method as an endpoint of its service.

    Its parameters become the fields of the request's JSON or form, its result the response. Type
    checkers keep seeing the method with its own signature.

    Args:
        route: the path, `/<name>` when not given.
        name: what schemas and clients call it; the method's name when not given.
        input_spec: a pydantic model whose fields are the parameters.
        output_spec: the type of the result, over the method's annotation.
        batchable: merge the calls that wait into one: the method takes and returns a batch.
        batch_dim: the dimension of the batch in the argument and in the result.
        max_batch_size: items of a merged call at most.
        max_latency_ms: a call that would take longer is refused with 503.
        idempotent: two calls are as good as one, so that a service which depends on this one may send a
            call again when its connection ends or it is refused for now.

    Raises:
        ValueError: the name, the route or an option cannot be served.
    """
    _check_options("api", options)
    return functools.partial(_endpoint, options) if func is None else Endpoint(func)


_OPTIONS = (
    "route", "name", "input_spec", "output_spec", "batchable", "batch_dim", "max_batch_size",
    "max_latency_ms", "idempotent",
)  # fmt: skip


def _check_options(decorator: str, options: dict[str, Any]) -> None:
    for name in options:
        if name not in _OPTIONS:
            import difflib  # for an error alone

            near = difflib.get_close_matches(name, _OPTIONS, n=1)
            hint = f", did you mean `{near[0]}`?" if near else f"; it has {', '.join(_OPTIONS)}"
            raise TypeError(f"`@bentoml.{decorator}` has no option {name!r}{hint}")


def _endpoint(options: dict[str, Any], func: Callable[..., Any]) -> Endpoint:
    return Endpoint(func, **options)


@overload
def task(func: F, /) -> F: ...


@overload
def task(
    func: None = None,
    /,
    *,
    route: str | None = None,
    name: str | None = None,
    input_spec: Any = None,
    output_spec: Any = None,
    batchable: bool = False,
    batch_dim: int | tuple[int, int] = 0,
    max_batch_size: int = 100,
    max_latency_ms: int = 60000,
    idempotent: bool = False,
) -> Callable[[F], F]: ...


def task(func: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Mark a method as an endpoint that may also run in the background.

    Beside its route it has `/submit`, `/status`, `/get`, `/retry` and `/cancel` below it.

    Raises:
        ValueError: as `api`; or the method is a generator.
    """
    _check_options("task", options)
    options["is_task"] = True
    return functools.partial(_endpoint, options) if func is None else Endpoint(func, is_task=True)
