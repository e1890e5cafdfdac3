"""examples/chain: five services in a row, as processes and in containers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.scenarios.conftest import ROOT, Run
from tests.scenarios.test_local import serving

CHAIN = ROOT / "examples" / "chain"
TEXT = "Rain fell. At  night owls hunt mice.\nOwls hunt."
DIGEST = ["Owls hunt.", "At night owls hunt mice."]
BY_HAND = f"""
import asyncio
from service import Digest

async def lines():
    return [line async for line in Digest().digest({TEXT!r})]

assert asyncio.run(lines()) == {[line + chr(10) for line in DIGEST]!r}
"""
ONE_SECOND = json.dumps({"services": {"Digest": {"traffic": {"timeout": 1}}}})


def test_a_line_for_each_of_the_best_sentences_comes_through_five_processes(
    free_port: int, bento_home: Path
) -> None:
    with serving(CHAIN, free_port, bento_home):
        assert digest(free_port) == DIGEST


def test_when_the_deadline_is_over_the_last_of_the_five_works_no_more(
    free_port: int, bento_home: Path
) -> None:
    with serving(
        CHAIN, free_port, bento_home, CLEANER_PAUSE_S="60", BENTOML_CONFIG_OVERRIDES=ONE_SECOND
    ) as server:
        assert server.stdout is not None
        rows = [server.stdout.readline().split() for _ in range(5)]
        management = {service: f"http://127.0.0.1{port}" for service, _, port, *_ in rows}

        answer = httpx.post(f"http://127.0.0.1:{free_port}/digest", json={"text": TEXT}, timeout=30)

        assert answer.status_code == 504, answer.text
        assert is_idle(management["Cleaner"], within_s=20)


def test_the_chain_works_in_one_process_as_its_readme_says(run: Run) -> None:
    result = run(sys.executable, "-c", BY_HAND, cwd=CHAIN)

    assert result.returncode == 0, result.stderr


@pytest.mark.docker
def test_a_line_for_each_of_the_best_sentences_comes_through_five_containers(
    run: Run, free_port: int, compose_down: Callable[[str], None]
) -> None:
    compose_down("chain")
    assert run("bento", "build", CHAIN).returncode == 0
    built = run("bento", "containerize", "chain:latest")
    assert built.returncode == 0, built.stderr
    folder = Path(run("bento", "get", "chain:latest", "-o", "path").stdout.strip())

    started = run("docker", "compose", "up", "--wait", cwd=folder, BENTOML_PUBLISHED_PORT=str(free_port))

    assert started.returncode == 0, started.stderr
    assert digest(free_port) == DIGEST


def digest(port: int) -> list[str]:
    """The lines that the entry streams."""
    response = httpx.post(f"http://127.0.0.1:{port}/digest", json={"text": TEXT}, timeout=30)
    assert response.status_code == 200, response.text
    return response.text.splitlines()


def is_idle(url: str, *, within_s: float) -> bool:
    """Whether a service that was called comes to run nothing; its metrics say so."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        lines = httpx.get(f"{url}/metrics", timeout=30).text.splitlines()
        running = [line for line in lines if line.startswith("bentoml_service_request_in_progress{")]
        if running and all(line.endswith(" 0.0") for line in running):
            return True
        time.sleep(0.05)
    return False
