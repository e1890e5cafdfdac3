"""A file that a request names by its URL, fetched without opening the network that the service stands in."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from socket import SOCK_STREAM
from typing import TypeAlias
from urllib.parse import unquote

import httpx

from bentoml.exceptions import BadInput

Address: TypeAlias = IPv4Address | IPv6Address
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[Address]]]

_MOST_REDIRECTS = 3
_CONNECT_TIMEOUT_S = 5.0
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class FetchedFile:
    """What a URL leads to.

    Args:
        content_type: as the server says it, without parameters.
        name: the last part of the URL's path, fit to be a file's name.
    """

    content: bytes
    content_type: str
    name: str


async def resolve_name(host: str, port: int) -> Sequence[Address]:
    """The addresses of a host as the system knows them, none when it does not know it."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [ip_address(sockaddr[0]) for *_, sockaddr in found]


# Global by their numbers, and answered by the machine's own cloud: Oracle's metadata, and Azure's.
_CLOUD_NETWORKS = (ip_network("192.0.0.0/24"), ip_network("168.63.129.16/32"))
_NAT64 = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = IPv6Network("2000::/3")


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, as does the IPv4 address inside of it, if any."""
    if isinstance(address, IPv4Address):
        is_cloud = any(address in network for network in _CLOUD_NETWORKS)
        return address.is_global and not address.is_multicast and not is_cloud
    inner = address.ipv4_mapped or address.sixtofour
    if address in _NAT64:
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(inner)
    return address in _GLOBAL_UNICAST and address.is_global


async def fetch_file(
    url: str,
    *,
    max_bytes: int,
    timeout_s: float,
    resolve: Resolve = resolve_name,
    is_allowed: Callable[[Address], bool] = is_public,
    tls: ssl.SSLContext | None = None,
) -> FetchedFile:
    """The file at a URL that a stranger chose.

    Every address of its host must be allowed. The connection then goes to one of those addresses, and not to
    the name, which might lead elsewhere when it is resolved again; so does that of each redirect.

    Args:
        timeout_s: for all of it, redirects and the last byte included.
        is_allowed: which addresses may be connected to.
        tls: whose certificates are trusted; those that the system trusts when None.

    Raises:
        BadInput: there is no such file, or it may not be fetched. Says nothing of what is at an address that
            is not allowed.
    """
    try:
        return await asyncio.wait_for(_fetch(url, max_bytes, resolve, is_allowed, tls), timeout_s)
    except asyncio.TimeoutError:
        raise BadInput(f"the file was not fetched within {timeout_s:g} seconds") from None


async def _fetch(
    url: str,
    max_bytes: int,
    resolve: Resolve,
    is_allowed: Callable[[Address], bool],
    tls: ssl.SSLContext | None,
) -> FetchedFile:
    # Neither proxies nor certificates from the environment: a proxy would resolve the name a second time.
    client = httpx.AsyncClient(
        verify=tls or _system_tls(), trust_env=False, timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S)
    )
    async with client:
        target = _checked(url)
        for _ in range(_MOST_REDIRECTS + 1):
            addresses = await resolve(_host(target), _port(target))
            if not addresses or not all(is_allowed(address) for address in addresses):
                # The same for both, so that nobody learns which names the service's own network has.
                raise BadInput(f"{_host(target)!r} is no public address")
            response = await _respond(client, target, addresses)
            async with aclosing(response):
                if not response.has_redirect_location:
                    return FetchedFile(
                        content=await _content(response, target, max_bytes),
                        content_type=_media_type(response),
                        name=_file_name(target),
                    )
                target = _checked(response.headers["location"], base=target)
    raise BadInput(f"the URL leads to more than {_MOST_REDIRECTS} redirects")


@functools.cache
def _system_tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _checked(url: str, base: httpx.URL | None = None) -> httpx.URL:
    try:
        target = httpx.URL(url) if base is None else base.join(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise BadInput(f"{_short(url)} is no URL: {error}") from None
    if target.scheme not in _DEFAULT_PORTS or not target.raw_host:
        raise BadInput(f"{_short(url)} is no URL of a file, expected `http://` or `https://` and a host")
    if not 0 < _port(target) < 65536:
        raise BadInput(f"{_port(target)} is no port, expected a number from 1 to 65535")
    if target.userinfo:
        raise BadInput("a URL with a user name or a password is not fetched")
    return target


def _short(url: str) -> str:
    return repr(url if len(url) <= 100 else url[:100] + "…")


def _host(target: httpx.URL) -> str:
    """The name as it is asked for, ASCII whatever the alphabet; one that cannot be read is nobody's name."""
    return target.raw_host.decode("ascii")


def _port(target: httpx.URL) -> int:
    return _DEFAULT_PORTS[target.scheme] if target.port is None else target.port


async def _respond(
    client: httpx.AsyncClient, target: httpx.URL, addresses: Sequence[Address]
) -> httpx.Response:
    """The response of the first address that can be connected to, its body still to be read."""
    for address in addresses:
        request = client.build_request(
            "GET",
            target.copy_with(host=str(address)),
            # Compressed, a small file may become a large one at once.
            headers={"host": target.netloc.decode("ascii"), "accept": "*/*", "accept-encoding": "identity"},
            extensions={"sni_hostname": _host(target)},
        )
        try:
            return await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            continue
        except httpx.HTTPError:
            break
    raise _not_sent(target)


async def _content(response: httpx.Response, target: httpx.URL, max_bytes: int) -> bytes:
    if response.status_code != 200:
        raise BadInput(f"{_host(target)} answered {response.status_code} where a file was expected")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise BadInput(f"{_host(target)} sent the file compressed, which was not asked for")
    content = bytearray()
    try:
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > max_bytes:
                raise BadInput(f"the file at {_host(target)} has more than {max_bytes} bytes")
    except httpx.HTTPError:
        raise _not_sent(target) from None
    return bytes(content)


def _not_sent(target: httpx.URL) -> BadInput:
    return BadInput(f"{_host(target)} did not send the file")


def _media_type(response: httpx.Response) -> str:
    said: str = response.headers.get("content-type", "")
    return said.partition(";")[0].strip().lower() or "application/octet-stream"


def _file_name(target: httpx.URL) -> str:
    last = unquote(target.path).replace("\\", "/").rpartition("/")[2]
    name = "".join(character for character in last if character.isprintable()).lstrip(".")
    return name[-100:] or "file"
