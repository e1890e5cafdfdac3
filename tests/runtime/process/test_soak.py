"""What takes long: mixed load on a service whose workers are killed again and again, and a blocked loop.

Bounded here; `make soak` lets it run for ten minutes, and blocks a loop for one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from tests.runtime.conftest import ServiceProcess, Start

SECONDS = float(os.environ.get("BENTO_SOAK_S", "15"))
KILL_EVERY_S = min(10.0, SECONDS / 4)
BLOCKED_S = min(60.0, SECONDS / 5)
CALLERS = 16
# A few seconds are noise of their own; over minutes the bound is that of the goal.
GROWTH = 0.05 if SECONDS >= 300 else 0.25

SERVICE = """
import asyncio
import os
import time
from typing import AsyncIterator

import numpy as np
from PIL.Image import Image

import bentoml


@bentoml.service(workers=3, threads=4)
class Mixed:
    @bentoml.api
    async def add(self, a: int, b: int) -> int:
        return a + b

    @bentoml.api
    def scale(self, values: np.ndarray, by: float) -> np.ndarray:
        return values * by

    @bentoml.api
    def turn(self, image: Image) -> Image:
        return image.rotate(180)

    @bentoml.api
    async def count(self, to: int) -> AsyncIterator[dict]:
        for number in range(to):
            await asyncio.sleep(0.001)
            yield {"n": number}

    @bentoml.api
    def block(self, seconds: float) -> str:
        time.sleep(seconds)
        return "awake"

    @bentoml.api
    async def pid(self) -> int:
        return os.getpid()
"""

PICTURE = b"P6 2 1 255\n" + bytes([255, 0, 0, 0, 0, 255])  # two pixels, red and blue


@dataclass
class Tally:
    """What became of the requests."""

    answered: int = 0
    cut_off: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


async def add(client: httpx.AsyncClient) -> bool:
    a, b = random.randrange(1000), random.randrange(1000)
    return bool((await client.post("/add", json={"a": a, "b": b})).json() == a + b)


async def scale(client: httpx.AsyncClient) -> bool:
    values = np.arange(random.randrange(1, 2000))
    response = await client.post("/scale", json={"values": values.tolist(), "by": 2})
    return bool((np.array(response.json()) == 2 * values).all())


async def turn(client: httpx.AsyncClient) -> bool:
    response = await client.post("/turn", files={"image": ("dots.ppm", PICTURE)})
    return response.status_code == 200 and response.content[:4] == b"\x89PNG"


async def count(client: httpx.AsyncClient) -> bool:
    to = random.randrange(40)
    response = await client.post("/count", json={"to": to})
    return response.text == "".join(f'{{"n": {n}}}\n' for n in range(to))


async def block(client: httpx.AsyncClient) -> bool:
    return (await client.post("/block", json={"seconds": random.random() / 20})).text == "awake"


async def refused(client: httpx.AsyncClient) -> bool:
    return (await client.post("/add", content=b"{")).status_code == 400


KINDS: list[Callable[[httpx.AsyncClient], Awaitable[bool]]] = [add, scale, turn, count, block, refused]


async def call_on_and_on(client: httpx.AsyncClient, until: float, tally: Tally) -> None:
    while time.monotonic() < until:
        kind = random.choice(KINDS)
        try:
            if await kind(client):
                tally.answered += 1
            else:
                tally.wrong.append(kind.__name__)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
            tally.cut_off.append(f"{kind.__name__}: {error!r}")
        except Exception as error:  # noqa: BLE001  # a timeout, say: the request hung
            tally.wrong.append(f"{kind.__name__}: {error!r}")


async def kill_again_and_again(service: ServiceProcess, until: float) -> int:
    kills = 0
    while time.monotonic() + KILL_EVERY_S < until:
        await asyncio.sleep(KILL_EVERY_S)
        async with httpx.AsyncClient(base_url=service.address, trust_env=False) as client:
            pid: int = (await client.post("/pid")).json()
        os.kill(pid, signal.SIGKILL)
        kills += 1
    return kills


def memory_mb(pid: int) -> float:
    """Proportional memory of a process and all below it."""
    found, total_kb = [pid], 0
    for process in found:
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        total_kb += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total_kb / 1024


def test_workers_that_are_killed_cost_their_own_callers_alone(start: Start, tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(SERVICE)
    service = start("service:Mixed").wait_until_ready()
    tally = Tally()

    async def load(seconds: float, *, with_kills: bool) -> int:
        until = time.monotonic() + seconds
        limits = httpx.Limits(max_connections=CALLERS, max_keepalive_connections=CALLERS)
        async with httpx.AsyncClient(
            base_url=service.address, timeout=20, limits=limits, trust_env=False
        ) as client:
            callers = [call_on_and_on(client, until, tally) for _ in range(CALLERS)]
            calls = asyncio.gather(*callers)
            kills = await kill_again_and_again(service, until) if with_kills else 0
            await calls
            return kills

    asyncio.run(load(SECONDS / 5, with_kills=False))
    before_mb = memory_mb(service.process.pid)
    kills = asyncio.run(load(SECONDS, with_kills=True))
    service.wait_until_ready()
    after_mb = memory_mb(service.process.pid)

    print(
        f"{tally.answered} answered, {len(tally.cut_off)} cut off by {kills} kills, "
        f"{before_mb:.0f} MB before, {after_mb:.0f} MB after"
    )
    assert tally.wrong[:5] == []
    # A worker that dies takes with it what runs on it, at most all that are under way.
    assert len(tally.cut_off) <= kills * CALLERS
    assert after_mb <= before_mb * (1 + GROWTH)


BLOCKING = """
import os
import time

import bentoml


@bentoml.service(traffic={"timeout": 75})
class Blocking:
    @bentoml.api
    async def pid(self) -> int:
        return os.getpid()

    @bentoml.api
    async def block(self, seconds: float) -> int:
        time.sleep(seconds)
        return os.getpid()
"""


def test_a_loop_that_a_synchronous_pipeline_blocks_is_live_and_ready_all_the_while(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "service.py").write_text(BLOCKING)
    service = start("service:Blocking").wait_until_ready()
    pid = service.post("/pid").json()
    probed = set()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        call = threads.submit(
            httpx.post, f"{service.address}/block", json={"seconds": BLOCKED_S}, timeout=300, trust_env=False
        )
        while not call.done():
            probed.add((service.probe("/livez"), service.probe("/readyz")))
            concurrent.futures.wait([call], timeout=0.2)

    assert probed == {(200, 200)}
    assert call.result().json() == pid  # nobody has taken its place
