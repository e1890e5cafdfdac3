"""Constant load on a deployment of the project `pair`: every answer is checked, and nothing is sent twice."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 30.0
NUMBERS = json.dumps({"numbers": [1, 2, 3]}).encode()
REQUEST = (
    b"POST /total HTTP/1.1\r\nhost: pair\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
)
ANSWER = b"12"


class Load:
    """What became of the requests.

    Attributes:
        answered: how many got the right answer.
        failures: what happened to the others, by how often it did.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._is_over = False
        self._begun = time.monotonic()
        self.answered = 0
        self.failures: Counter[str] = Counter()

    @property
    def rate(self) -> float:
        """Right answers in a second."""
        return self.answered / (time.monotonic() - self._begun)

    def end(self) -> None:
        """Send no more."""
        self._is_over = True

    async def send(self, connections: int) -> None:
        """Send one request after the other on each of the connections, until the end."""
        await asyncio.gather(*(self._send_on_one() for _ in range(connections)))

    async def _send_on_one(self) -> None:
        writer: asyncio.StreamWriter | None = None
        while not self._is_over:
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(REQUEST % (len(NUMBERS), NUMBERS))
                head, body = await asyncio.wait_for(_answer(reader), PATIENCE_S)
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
                self.failures[repr(error)] += 1
                _close(writer)
                writer = None
                continue
            if body == ANSWER and head.startswith(b"http/1.1 200 "):
                self.answered += 1
            else:
                self.failures[f"{head[:12].decode()}: {body[:200]!r}"] += 1
            if b"\r\nconnection: close\r\n" in head:
                _close(writer)
                writer = None
        _close(writer)


async def _answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(length)


def _close(writer: asyncio.StreamWriter | None) -> None:
    if writer is not None:
        writer.close()


@contextmanager
def load(port: int, connections: int = 32) -> Iterator[Load]:
    """Load for as long as the block takes; in the end, how much it was."""
    under_load = Load(port)
    thread = threading.Thread(target=lambda: asyncio.run(under_load.send(connections)))
    thread.start()
    try:
        yield under_load
    finally:
        under_load.end()
        thread.join()
        print(
            f"\n{under_load.answered} answered, {under_load.rate:.0f} a second; {dict(under_load.failures)}"
        )
