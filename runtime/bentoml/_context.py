"""What an endpoint can know of its request, and of the process it runs in."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from http.cookies import Morsel, SimpleCookie
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from bentoml._environment import METRICS_DIRECTORY

if TYPE_CHECKING:
    from starlette.datastructures import Headers, MutableHeaders
    from starlette.requests import Request

    from bentoml._service import Service


@dataclass
class ServerContext:
    """The process: which Bento, service and worker it is."""

    bento_name: str = ""
    bento_version: str = ""
    service_name: str = ""
    service_type: Literal["entry_service", "service"] = "entry_service"
    worker_index: int = 0
    service_routes: list[str] = field(default_factory=list)


server_context = ServerContext()
"""Filled in before a service's class is instantiated."""


@dataclass(frozen=True, kw_only=True)
class Cookie:
    """A cookie that a response sets."""

    key: str
    value: str
    max_age: int | None = None
    expires: int | None = None
    path: str = "/"
    domain: str | None = None
    secure: bool = False
    httponly: bool = False
    samesite: str = "lax"

    def header(self) -> str:
        """The value of `Set-Cookie`.

        Raises:
            http.cookies.CookieError: the key holds a character that no cookie's name may.
        """
        cookie: SimpleCookie = SimpleCookie()
        cookie[self.key] = self.value
        morsel: Morsel[str] = cookie[self.key]
        attributes = {
            "max-age": self.max_age,
            "expires": self.expires,
            "path": self.path,
            "domain": self.domain,
            "secure": self.secure,
            "httponly": self.httponly,
            "samesite": self.samesite,
        }
        for name, attribute in attributes.items():
            if attribute is not None and attribute is not False:
                morsel[name] = attribute
        return morsel.OutputString()


class ResponseContext:
    """The response to be: its status, headers and cookies, and what runs after it was sent."""

    def __init__(self, headers: MutableHeaders) -> None:
        self.status_code = 200
        self.headers = headers
        self.cookies: list[Cookie] = []
        self.background: Callable[[], Any] | None = None

    @property
    def metadata(self) -> MutableHeaders:
        """The headers, by the name that this interface has for them."""
        return self.headers

    def set_cookie(
        self,
        key: str,
        value: str,
        max_age: int | None = None,
        expires: int | None = None,
        path: str = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: str = "lax",
    ) -> None:
        """Set a cookie; with `max_age=0`, delete it."""
        self.cookies.append(
            Cookie(
                key=key,
                value=value,
                max_age=max_age,
                expires=expires,
                path=path,
                domain=domain,
                secure=secure,
                httponly=httponly,
                samesite=samesite,
            )
        )


class RequestFolder:
    """A folder for the files of one request, made when it is first asked for."""

    __slots__ = ("_folder",)

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None

    def path(self) -> str:
        if self._folder is None:
            # A method that runs on without its caller may still write there.
            # Below the replica's own folder where there is one: what a killed worker leaves goes with that.
            replica = os.environ.get(METRICS_DIRECTORY, "")
            parent = replica if replica and Path(replica).is_dir() else None
            self._folder = TemporaryDirectory(
                prefix="bentoml-request-", dir=parent, ignore_cleanup_errors=True
            )
        return self._folder.name

    def close(self) -> None:
        """Remove it, with all that is in it."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


class Context:
    """One request: what a parameter named `ctx` or `context`, or annotated with this class, gets.

    Attributes:
        request: the request, a `starlette.requests.Request` whose body was read already.
        response: status, headers and cookies of the response, to be changed.
        state: the worker's own, shared by all its requests.
    """

    def __init__(
        self, request: Request, response: ResponseContext, state: dict[str, Any], folder: RequestFolder
    ) -> None:
        self.request = request
        self.response = response
        self.state = state
        self._folder = folder

    @property
    def metadata(self) -> Headers:
        """The request's headers."""
        return self.request.headers

    @property
    def temp_dir(self) -> str:
        """A folder of this request's own, gone when it has been answered."""
        return self._folder.path()

    def close(self) -> None:
        """Remove what the request left on the disk."""
        self._folder.close()


request_folder: ContextVar[RequestFolder | None] = ContextVar("bentoml_request_folder", default=None)
"""The folder of the request that this code runs for; None outside of requests."""


@functools.cache
def _process_folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="bentoml-files-", ignore_cleanup_errors=True)


def folder_for_files() -> str:
    """Where files go that arrive from a peer: gone with the request that asked for them, or the process."""
    folder = request_folder.get()
    return _process_folder().name if folder is None else folder.path()


_current_service: ContextVar[object] = ContextVar("bentoml_current_service")


def set_current_service(instance: object) -> None:
    """Make `instance` what `get_current_service` returns to all that this task runs from here on."""
    _current_service.set(instance)


def get_current_service() -> Any:
    """The instance of the service that answers, for `Depends(...)` in an application mounted on it.

    Raises:
        RuntimeError: called outside a service.
    """
    try:
        return _current_service.get()
    except LookupError:
        raise RuntimeError("no service answers here: called outside a request of one") from None


def describe_server(
    service: Service[Any], *, bento: str, is_entry: bool, worker_index: int, routes: Mapping[str, Any]
) -> None:
    """Fill in `server_context`."""
    name, _, version = bento.partition(":")
    server_context.bento_name, server_context.bento_version = name, version
    server_context.service_name = service.name
    server_context.service_type = "entry_service" if is_entry else "service"
    server_context.worker_index = worker_index
    server_context.service_routes = list(routes)
