from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any, Protocol

import pytest
import trustme
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bentoml._serving.fetch import Address, FetchedFile, fetch_file, is_public, resolve_name
from bentoml.exceptions import BadInput

Respond = Callable[[BaseHTTPRequestHandler], None]


class FileServer(Protocol):
    """Starts a server on an address of this machine and returns its port; it answers as the test says."""

    def __call__(self, respond: Respond, *, at: str = ..., tls: ssl.SSLContext | None = ...) -> int: ...


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    servers: list[ThreadingHTTPServer] = []

    def start(respond: Respond, *, at: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> int:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                respond(self)

            def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002  # its own name

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that hangs up is what some tests are about."""

        server = Server((at, 0), Handler)
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        servers.append(server)
        return server.server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def sending(body: bytes, status: int = 200, **headers: str) -> Respond:
    def respond(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return respond


class Names:
    """A resolver that knows what the test says, and asks the system for everything else."""

    def __init__(self, addresses: Mapping[str, Sequence[str]]) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append(host)
        if host in self.addresses:
            return [ip_address(address) for address in self.addresses[host]]
        return await resolve_name(host, port)


NAMES = {
    "files.example": ["127.0.0.1"],
    "bücher.example": ["127.0.0.1"],
    "xn--bcher-kva.example": ["127.0.0.1"],
}


def fetch(
    url: str,
    names: Names | None = None,
    *,
    max_bytes: int = 1000,
    timeout_s: float = 30.0,
    allowed: Sequence[str] = ("127.0.0.1",),
    tls: ssl.SSLContext | None = None,
) -> FetchedFile:
    """Fetch as a service does to which the allowed addresses are the internet."""
    return asyncio.run(
        fetch_file(
            url,
            max_bytes=max_bytes,
            timeout_s=timeout_s,
            resolve=names or Names(NAMES),
            is_allowed=lambda address: str(address) in allowed,
            tls=tls,
        )
    )


def test_a_file_comes_with_its_type_and_name(file_server: FileServer) -> None:
    port = file_server(sending(b"meow", Content_Type="Image/PNG; q=1"))

    fetched = fetch(f"http://files.example:{port}/a/my%20cat.png?size=1")

    assert fetched == FetchedFile(content=b"meow", content_type="image/png", name="my cat.png")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("", "file"),
        ("/", "file"),
        ("/..%2f..%2fetc%2fpasswd", "passwd"),
        ("/a/%2e%2e", "file"),
        ("/c:%5Cwindows%5Ccat.png", "cat.png"),
        ("/%00%0acat%0d.png", "cat.png"),
        ("/.bashrc", "bashrc"),
        ("/" + 200 * "x" + ".png", 96 * "x" + ".png"),
    ],
)
def test_a_name_is_fit_to_be_a_files_name(file_server: FileServer, path: str, name: str) -> None:
    port = file_server(sending(b""))

    assert fetch(f"http://files.example:{port}{path}").name == name


def test_a_file_without_a_type_is_of_bytes(file_server: FileServer) -> None:
    port = file_server(sending(b"?"))

    assert fetch(f"http://files.example:{port}/cat").content_type == "application/octet-stream"


@pytest.mark.parametrize("host", ["files.example", "bücher.example"])
def test_the_server_is_asked_for_the_host_by_its_name(file_server: FileServer, host: str) -> None:
    port = file_server(lambda request: sending(request.headers["host"].encode())(request))

    asked_for = f"{host.encode('idna').decode()}:{port}"
    assert fetch(f"http://{host}:{port}/cat").content.decode() == asked_for


def test_the_next_address_is_tried_where_nothing_listens_at_the_first(file_server: FileServer) -> None:
    port = file_server(sending(b"meow"))
    names = Names({"files.example": ["127.0.0.2", "127.0.0.1"]})

    assert (
        fetch(f"http://files.example:{port}/", names, allowed=["127.0.0.1", "127.0.0.2"]).content == b"meow"
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:{port}/",
        "http://127.0.0.1:{port}/",
        "http://127.1:{port}/",
        "http://0x7f000001:{port}/",
        "http://2130706433:{port}/",
        "http://0.0.0.0:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://[64:ff9b::7f00:1]:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://public-and-private.example:{port}/",
    ],
)
def test_an_address_that_is_not_public_is_not_connected_to(file_server: FileServer, url: str) -> None:
    """CVE-2025-54381: a URL of the form must not reach what only the service can."""
    requests: list[str] = []
    port = file_server(lambda request: requests.append(request.path))
    names = Names({"public-and-private.example": ["8.8.8.8", "127.0.0.1"]})
    with pytest.raises(BadInput, match=r"^'[^']+' is no public address$"):
        asyncio.run(fetch_file(url.format(port=port), max_bytes=9, timeout_s=30, resolve=names))

    assert requests == []


def test_a_name_is_resolved_once_and_the_connection_goes_to_the_address_that_was_checked(
    file_server: FileServer,
) -> None:
    """DNS rebinding: a name that is public when it is checked, and is this machine right afterwards."""
    port = file_server(sending(b"of the checked one"), at="127.0.0.2")
    names = Names({"rebinding.example": ["127.0.0.2"]})

    fetched = fetch(f"http://rebinding.example:{port}/", names, allowed=["127.0.0.2"])

    assert fetched.content == b"of the checked one"
    assert names.asked == ["rebinding.example"]


def test_nobody_learns_from_the_error_which_names_the_network_has() -> None:
    names = Names({"database.corp": ["10.0.0.7"], "nothing.corp": []})

    errors = []
    for host in ("database.corp", "nothing.corp"):
        with pytest.raises(BadInput) as caught:
            fetch(f"http://{host}/", names)
        errors.append(str(caught.value).replace(host, "HOST"))

    assert errors == ["'HOST' is no public address"] * 2


def test_redirects_are_followed(file_server: FileServer) -> None:
    def respond(request: BaseHTTPRequestHandler) -> None:
        step = int(request.path.rpartition("/")[2])
        sending(b"meow" if step == 3 else b"", 200 if step == 3 else 302, Location=str(step + 1))(request)

    port = file_server(respond)

    fetched = fetch(f"http://files.example:{port}/steps/0")

    assert (fetched.content, fetched.name) == (b"meow", "3")


def test_a_fourth_redirect_is_one_too_many(file_server: FileServer) -> None:
    port = file_server(sending(b"", 307, Location="/again"))

    with pytest.raises(BadInput, match=r"^the URL leads to more than 3 redirects$"):
        fetch(f"http://files.example:{port}/")


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("http://169.254.169.254/latest/meta-data/", "'169.254.169.254' is no public address"),
        ("//[::1]/", "'::1' is no public address"),
        (
            "file:///etc/passwd",
            "'file:///etc/passwd' is no URL of a file, expected `http://` or `https://` and a host",
        ),
        ("http://root:root@files.example/", "a URL with a user name or a password is not fetched"),
        ("http://files.example:x/", "files.example did not send the file"),
    ],
)
def test_a_redirect_is_checked_as_the_url_itself(
    file_server: FileServer, location: str, message: str
) -> None:
    port = file_server(sending(b"", 301, Location=location))

    with pytest.raises(BadInput) as caught:
        fetch(f"http://files.example:{port}/")

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://files.example/cat", r"expected `http://` or `https://` and a host$"),
        ("files.example/cat", r"expected `http://` or `https://` and a host$"),
        ("http:///cat", r"expected `http://` or `https://` and a host$"),
        ("gopher://127.0.0.1:6379/_FLUSHALL", r"expected `http://` or `https://` and a host$"),
        ("http://files.example\\@127.0.0.1/", r"^a URL with a user name or a password is not fetched$"),
        ("http://0177.0.0.1/", r"is no URL: Invalid IPv4 address"),
        ("http://files.example:0/", r"^0 is no port, expected a number from 1 to 65535$"),
        ("http://files.example:65536/", r"^65536 is no port, expected a number from 1 to 65535$"),
        ("http://files.example/\r\nX-Injected: yes", r"is no URL: Invalid non-printable ASCII character"),
    ],
)
def test_what_is_no_url_of_a_file_is_refused(url: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        fetch(url)


def test_a_file_may_have_as_many_bytes_as_allowed(file_server: FileServer) -> None:
    port = file_server(sending(1000 * b"x"))

    assert len(fetch(f"http://files.example:{port}/", max_bytes=1000).content) == 1000


def test_a_file_without_an_end_is_refused_once_it_is_too_large(file_server: FileServer) -> None:
    hung_up = threading.Event()

    def respond(request: BaseHTTPRequestHandler) -> None:
        try:
            while True:
                request.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n" if not hung_up.is_set() else b"x" * 1000)
        except OSError:
            hung_up.set()

    port = file_server(respond)
    with pytest.raises(BadInput, match=r"^the file at files\.example has more than 1000 bytes$"):
        fetch(f"http://files.example:{port}/", max_bytes=1000)

    assert hung_up.wait(30)


def test_a_file_that_comes_compressed_is_refused(file_server: FileServer) -> None:
    port = file_server(sending(b"...", Content_Encoding="gzip"))

    with pytest.raises(BadInput, match=r"^files\.example sent the file compressed, which was not asked for$"):
        fetch(f"http://files.example:{port}/")


def test_a_server_that_has_no_file_is_told(file_server: FileServer) -> None:
    port = file_server(sending(b"secret words", 403))

    with pytest.raises(BadInput, match=r"^files\.example answered 403 where a file was expected$"):
        fetch(f"http://files.example:{port}/")


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"])
def test_a_server_that_breaks_off_is_told(file_server: FileServer, answer: bytes) -> None:
    def respond(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(answer)

    port = file_server(respond)

    with pytest.raises(BadInput, match=r"^files\.example did not send the file$"):
        fetch(f"http://files.example:{port}/")


def test_a_port_where_nothing_listens_is_told(file_server: FileServer) -> None:
    port = file_server(sending(b""), at="127.0.0.2")

    with pytest.raises(BadInput, match=r"^files\.example did not send the file$"):
        fetch(f"http://files.example:{port}/")


def test_the_time_is_for_all_of_it(file_server: FileServer) -> None:
    is_over = threading.Event()

    def respond(request: BaseHTTPRequestHandler) -> None:
        is_over.wait(30)

    port = file_server(respond)

    with pytest.raises(BadInput, match=r"^the file was not fetched within 0\.2 seconds$"):
        fetch(f"http://files.example:{port}/", timeout_s=0.2)
    is_over.set()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def certified(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_a_certificate_is_that_of_the_name(file_server: FileServer, authority: trustme.CA) -> None:
    asked_for: list[str | None] = []
    context = certified(authority, "files.example")
    context.sni_callback = lambda sock, name, own: asked_for.append(name)
    port = file_server(sending(b"meow"), tls=context)

    fetched = fetch(f"https://files.example:{port}/", tls=trusting(authority))

    assert (fetched.content, asked_for) == (b"meow", ["files.example"])


@pytest.mark.parametrize("name", ["other.example", "127.0.0.1"])
def test_the_certificate_of_another_name_is_not_accepted(
    file_server: FileServer, authority: trustme.CA, name: str
) -> None:
    port = file_server(sending(b"meow"), tls=certified(authority, name))

    with pytest.raises(BadInput, match=r"^files\.example did not send the file$"):
        fetch(f"https://files.example:{port}/", tls=trusting(authority))


def test_the_certificate_of_an_unknown_authority_is_not_accepted(
    file_server: FileServer, authority: trustme.CA
) -> None:
    port = file_server(sending(b"meow"), tls=certified(authority, "files.example"))

    with pytest.raises(BadInput, match=r"^files\.example did not send the file$"):
        fetch(f"https://files.example:{port}/")


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8", "2002:808:808::1"]
)
def test_these_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.168.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:a9fe:a9fe::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ],
)
def test_these_addresses_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@given(st.text() | st.text().map("http://".__add__) | st.text().map("https://x/".__add__))
@example("http://" + "x" * 300 + ".example")
@example("http://a..b/")
@example("http://\ud800/")
@example("http://xn--/")
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_text_is_a_url_or_bad_input(text: str) -> None:
    async def nowhere(host: str, port: int) -> list[Address]:
        return []

    with pytest.raises(BadInput):
        asyncio.run(fetch_file(text, max_bytes=1, timeout_s=30, resolve=nowhere))


def test_a_host_that_the_system_cannot_even_look_up_has_no_address() -> None:
    assert asyncio.run(resolve_name("a" * 300, 80)) == []
