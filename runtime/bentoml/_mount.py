"""`bentoml.asgi_app`: other applications served beside a service's endpoints, under a path of theirs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

T = TypeVar("T")

_MOUNTS: Final = "__bentoml_mounts__"


@dataclass(frozen=True)
class Mount:
    """An ASGI application and the path below which it answers."""

    app: Any
    path: str
    name: str

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise ValueError(f"path {self.path!r} of {self.name}: expected a path that starts with `/`")


def asgi_app(app: Any, *, path: str = "/", name: str | None = None) -> Callable[[T], T]:
    """Serve an ASGI application together with a service: `@bentoml.asgi_app(app, path="/v1")`.

    It stands above or below `@bentoml.service`. What it has no route for goes to the service.

    Raises:
        ValueError: the path does not start with `/`.
    """
    mount = Mount(app, path, name or f"{type(app).__name__} at {path}")

    def decorate(marked: T) -> T:
        # A service has a list of its own; a class that is not marked yet keeps one until it is.
        mount_on = getattr(marked, "mount_asgi_app", None)
        if mount_on is not None:
            mount_on(mount.app, path=mount.path, name=mount.name)
        else:
            setattr(marked, _MOUNTS, [*vars(marked).get(_MOUNTS, ()), mount])
        return marked

    return decorate


def mount_asgi_app(app: Any, *, path: str = "/", name: str | None = None) -> Callable[[T], T]:
    """The older name of `asgi_app`."""
    warnings.warn("`bentoml.mount_asgi_app` is `bentoml.asgi_app` now", DeprecationWarning, stacklevel=2)
    return asgi_app(app, path=path, name=name)


def mounts_of(cls: type) -> list[Mount]:
    """What was mounted on a class before it was marked as a service."""
    mounts: list[Mount] = list(vars(cls).get(_MOUNTS, ()))
    return mounts
