"""Requests that claim or hold too much: each is refused, and the memory they took is given back."""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.runtime.conftest import ServiceProcess

SERVICE = (Path(__file__).parent / "everything.py").read_text()
LIMIT = 4 * 2**20
OVERRIDES = f'{{"services": {{"Everything": {{"traffic": {{"max_request_size": "{LIMIT}"}}}}}}}}'
ROUNDS = 40
GROWTH_MB = 16.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    project = tmp_path_factory.mktemp("project")
    (project / "service.py").write_text(SERVICE)
    process = ServiceProcess("service:Everything", project, (), {"BENTOML_CONFIG_OVERRIDES": OVERRIDES})
    try:
        yield process.wait_until_ready()
    finally:
        process.kill_all()


def picture(width: int, height: int) -> bytes:
    """A PNG that claims to be that large, of which next to nothing is there."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))


def refusals(client: httpx.Client) -> list[int]:
    """One round of requests that have to be refused; their statuses."""
    half = {"content-type": "multipart/form-data; boundary=x"}
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + bytes(LIMIT // 2)
    requests = [
        client.post("/image", files={"image": picture(40_000, 25_000)}),
        client.post("/image", files={"image": bytes(LIMIT // 2)}),
        client.post("/whole", content=b"[" + b"1," * (LIMIT // 4)),
        client.post("/whole", content=b"[" * (LIMIT // 2)),
        client.post("/array", json={"value": [[0] * 1000] * 100}),
        client.post("/file", headers=half, content=part),
        client.post("/blob", content=(bytes(2**16) for _ in range(LIMIT // 2**16 + 1))),
    ]
    return [response.status_code for response in requests]


def leave_in_the_middle(service: ServiceProcess) -> None:
    """Announce a large body, send half of it, and be gone."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        head = f"POST /file HTTP/1.1\r\nHost: x\r\nContent-Length: {LIMIT}\r\n\r\n"
        connection.sendall(head.encode() + bytes(LIMIT // 2))


def memory_mb(service: ServiceProcess) -> float:
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in service.processes()]
    lines = [line for rollup in rollups for line in rollup.splitlines() if line.startswith("Pss:")]
    return sum(int(line.split()[1]) for line in lines) / 1024


def test_what_is_too_much_is_refused_and_leaves_nothing_behind(served: ServiceProcess) -> None:
    with httpx.Client(base_url=served.address, trust_env=False, timeout=60) as client:
        for _ in range(ROUNDS // 4):
            refusals(client)
            leave_in_the_middle(served)
        before_mb = memory_mb(served)
        statuses = set()
        for _ in range(ROUNDS):
            statuses.update(refusals(client))
            leave_in_the_middle(served)
        after_mb = memory_mb(served)
        answer = client.post("/add", json={"a": 1})

    assert statuses <= {400, 413}
    assert answer.json() == 2.5
    assert after_mb - before_mb < GROWTH_MB
