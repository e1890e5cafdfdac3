"""A hub of models for tests: what the client of the real one asks, answered from memory."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

TOKEN = "hf_wqzxKNOWNtoNOBODYelse"
"""What opens models that are gated."""


@dataclass(frozen=True)
class HubModel:
    """A model with its files; a large one is somewhere else, as files of LFS are.

    Args:
        large: names of files that the hub redirects for.
        older: what it was before, and still is by the commit.
    """

    files: Mapping[str, bytes]
    large: frozenset[str] = frozenset()
    is_gated: bool = False
    older: tuple[HubModel, ...] = ()

    @property
    def commit(self) -> str:
        """What stands for its files now."""
        digest = hashlib.sha1()
        for name, content in sorted(self.files.items()):
            digest.update(f"{name} {len(content)} ".encode() + content)
        return digest.hexdigest()


@dataclass
class FakeHub:
    """A hub that runs.

    Args:
        models: by id; a test may change them while it runs.
        storage: where it sends clients for large files.
        downloads: names of the files that were sent, in order.
        tokens: those that it was shown.
    """

    models: dict[str, HubModel]
    url: str = ""
    storage: str = ""
    downloads: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)


@contextmanager
def running_hub(models: Mapping[str, HubModel], host: str = "127.0.0.1") -> Iterator[FakeHub]:
    """A hub with these models, and its storage beside it, on ports of their own."""
    hub = FakeHub(dict(models))
    with ExitStack() as stack:
        hub.url = stack.enter_context(_serving(type("Hub", (_HubHandler,), {"hub": hub}), host))
        hub.storage = stack.enter_context(_serving(type("Storage", (_StorageHandler,), {"hub": hub}), host))
        yield hub


@contextmanager
def _serving(handler: type[_Handler], host: str) -> Iterator[str]:
    with http.server.ThreadingHTTPServer((host, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    @property
    def parts(self) -> list[str]:
        return [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def send(self, file: str, content: bytes, headers: Mapping[str, str]) -> None:
        if self.command == "GET":
            self.hub.downloads.append(file)
        self.answer(200, content, headers)

    def answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as its base class calls it
        pass


class _HubHandler(_Handler):
    def do_GET(self) -> None:
        is_api = self.parts[:2] == ["api", "models"]
        organization, name, *rest = self.parts[2:] if is_api else self.parts
        model = self.hub.models.get(f"{organization}/{name}")
        self.hub.tokens.update({self.token} - {""})
        if model is None or (model.is_gated and self.token != TOKEN):
            return self.answer(401, b"", {"X-Error-Code": "RepoNotFound" if model is None else "GatedRepo"})
        if rest[1:] and rest[1] != "main":
            found = {version.commit: version for version in (*model.older, model)}
            if rest[1] not in found:
                return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            model = found[rest[1]]
        match rest:
            case [] | ["revision", _]:
                files = [{"rfilename": file} for file in model.files]
                said = {"id": f"{organization}/{name}", "sha": model.commit, "siblings": files}
                return self.answer(200, json.dumps(said).encode(), {})
            case ["tree", _, *_]:
                entries = [_entry(model, file) for file in model.files]
                return self.answer(200, json.dumps(entries).encode(), {})
            case ["resolve", _, *path] if "/".join(path) in model.files:
                return self._resolve(f"{organization}/{name}", model, "/".join(path))
        return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_GET  # noqa: N815  # the name that its base class looks for

    def _resolve(self, name: str, model: HubModel, file: str) -> None:
        content, headers = model.files[file], {"X-Repo-Commit": model.commit}
        if file not in model.large:
            return self.send(file, content, {**headers, "ETag": f'"{_sha1(content)}"'})
        headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{_sha256(content)}"'}
        return self.answer(302, b"", {**headers, "Location": f"{self.hub.storage}/{name}/{file}"})


class _StorageHandler(_Handler):
    def do_GET(self) -> None:
        organization, name, *path = self.parts
        if self.token:
            # Who may see it has been found out by now: the token is nobody's business here.
            return self.answer(400, b"", {})
        file = "/".join(path)
        return self.send(file, self.hub.models[f"{organization}/{name}"].files[file], {})

    do_HEAD = do_GET  # noqa: N815  # the name that its base class looks for


def _entry(model: HubModel, name: str) -> dict[str, object]:
    content = model.files[name]
    entry: dict[str, object] = {"type": "file", "path": name, "size": len(content), "oid": _sha1(content)}
    if name in model.large:
        entry["lfs"] = {"oid": _sha256(content), "size": len(content), "pointerSize": 134}
    return entry


def _sha1(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
