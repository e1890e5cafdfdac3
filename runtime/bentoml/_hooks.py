"""Methods of a service that are called as it starts and stops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

Moment = Literal["on_deployment", "on_startup", "on_shutdown"]

_MARK: Final = "__bentoml_moments__"


def on_deployment(func: F) -> F:
    """Call this function once before any worker starts: a static method, since no instance is there yet."""
    _mark(func, "on_deployment")
    return func


def on_startup(func: F) -> F:
    """Call this method in every worker once its instance is made and can call others, before requests."""
    _mark(func, "on_startup")
    return func


def on_shutdown(func: F) -> F:
    """Call this method in every worker after its last request, while it can still call others."""
    _mark(func, "on_shutdown")
    return func


def hooks_of(cls: type, moment: Moment) -> list[str]:
    """The attributes of a class that are called at that moment, those of base classes first."""
    names = dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base))
    return [name for name in names if moment in _moments(getattr(cls, name, None))]


def _mark(func: Any, moment: Moment) -> None:
    function = getattr(func, "__func__", func)  # a static method is marked below its wrapper
    setattr(function, _MARK, (*_moments(function), moment))


def _moments(member: Any) -> tuple[str, ...]:
    moments = getattr(member, "__dict__", {}).get(_MARK, ())
    return moments if isinstance(moments, tuple) else ()
