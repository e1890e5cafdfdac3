"""Where a service answers: what a client asks before its first call."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import httpx

from bentoml._client.response import parse_json
from bentoml._client.schema import EndpointSchema, Unreadable, endpoints_in
from bentoml.exceptions import RemoteException, ServiceUnavailable, exception_for

# The variables of the hosted service whose clients exist: where it is, and the key for it.
CLOUD_ENDPOINT = "BENTO_CLOUD_API_ENDPOINT"
CLOUD_KEY = "BENTO_CLOUD_API_KEY"

_PAUSE_S = 0.1
_POLL_TIMEOUT_S = 5.0
_PORTS = {"http": 80, "https": 443}
T = TypeVar("T")


@dataclass(frozen=True)
class Get:
    """Ask for this URL; the answer is a `Received`."""

    url: httpx.URL
    timeout_s: float | None = None


@dataclass(frozen=True)
class Pause:
    """Wait before the next question."""

    seconds: float


@dataclass(frozen=True)
class Received:
    """The answer to a `Get`; status 0 where nothing answered, and why."""

    status: int
    body: bytes = b""
    reason: str = ""


# What is asked is decided here, once for both clients; how it is sent is theirs.
Inquiry: TypeAlias = Generator[Get | Pause, Received, T]


class Address:
    """The URL that a client was given: an origin, and the path under which the service answers there.

    Raises:
        ValueError: it is no URL of HTTP.
    """

    def __init__(self, url: str) -> None:
        self.url = httpx.URL(url).copy_with(query=None, fragment=None)
        if self.url.scheme not in _PORTS or not self.url.host:
            raise ValueError(f"{url!r}: expected an address such as `http://localhost:3000`")
        self._path = self.url.path.rstrip("/")

    def __str__(self) -> str:
        # Without the password that a URL may hold.
        return f"{self.url.scheme}://{self.url.netloc.decode()}{self._path}"

    def of(self, path: str) -> httpx.URL:
        """The URL of a path of the service; one that names the prefix itself is not given it twice."""
        is_whole = path == self._path or path.startswith(f"{self._path}/")
        return self.url.copy_with(path=path if is_whole else self._path + path)

    def is_origin_of(self, url: httpx.URL) -> bool:
        """Whether a request to `url` goes to where this address points."""
        return _origin(url) == _origin(self.url)

    def is_ready(self, timeout_s: float | None = None) -> Inquiry[bool]:
        """Whether the service takes requests now."""
        reply = yield from self._readiness(timeout_s)
        return reply.status == 200

    def wait_until_ready(self, timeout_s: float | None) -> Inquiry[None]:
        """Return once the service takes requests.

        Raises:
            ServiceUnavailable: not within `timeout_s`.
        """
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        last = ""
        while (left_s := deadline - time.monotonic()) > 0:
            reply = yield from self._readiness(min(_POLL_TIMEOUT_S, left_s))
            if reply.status == 200:
                return
            last = reply.reason or f"it answered with status {reply.status}"
            yield Pause(min(_PAUSE_S, left_s))
        raise ServiceUnavailable(f"{self} was not ready within {timeout_s:g} seconds: {last}")

    def fetch_endpoints(self) -> Inquiry[dict[str, EndpointSchema]]:
        """The endpoints that the service says it has, by name.

        Raises:
            BentoMLException: there is no schema, by its status.
            RemoteException: what answers is no schema of a service.
        """
        reply = yield from self._first_found("/schema.json", None)
        if reply.status == 0:
            raise ServiceUnavailable(f"{self} cannot be reached: {reply.reason}")
        if reply.status != 200:
            raise exception_for(reply.status, f"{self} has no schema: status {reply.status} for /schema.json")
        try:
            return endpoints_in(parse_json(reply.body))
        except Unreadable as error:
            raise RemoteException(f"{self}/schema.json: {error}") from error

    def _readiness(self, timeout_s: float | None) -> Inquiry[Received]:
        reply = yield from self._first_found("/readyz", timeout_s)
        if reply.status == 404:
            # A prefix of its own may hide the probe; the schema has none, and is there once it serves.
            reply = yield Get(self.of("/schema.json"), timeout_s)
        return reply

    def _first_found(self, path: str, timeout_s: float | None) -> Inquiry[Received]:
        """The reply below the URL's own path; where there is nothing, that at the origin's root."""
        reply = yield Get(self.url.copy_with(path=self._path + path), timeout_s)
        if reply.status == 404 and self._path:
            reply = yield Get(self.url.copy_with(path=path), timeout_s)
        return reply


class BearerToken(httpx.Auth):
    """Proves who calls, to the service that the token is for and to nobody else."""

    def __init__(self, token: str, address: Address) -> None:
        self._token = token
        self._address = address

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the token to a request, unless it goes elsewhere or brings a token of its own."""
        if self._address.is_origin_of(request.url):
            request.headers.setdefault("authorization", f"Bearer {self._token}")
        yield request


def token_for(address: Address, environ: Mapping[str, str] = os.environ) -> str | None:
    """The key of the hosted service, where `address` is one of its own.

    The key opens an account. It goes, encrypted, to the endpoint that its owner names next to it and to
    the domains of the hosted service, while any other address gets what `token=` says and no more.
    """
    endpoint = httpx.URL(environ.get(CLOUD_ENDPOINT, "")).host
    host = address.url.host
    is_hosted = host == endpoint or host.endswith((".bentoml.ai", ".bentoml.com"))
    return environ.get(CLOUD_KEY) if is_hosted and address.url.scheme == "https" else None


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or _PORTS.get(url.scheme)
