"""examples/diamond: two services and the one that both depend on, as processes and in containers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.scenarios.conftest import ROOT, Run
from tests.scenarios.test_local import serving

DIAMOND = ROOT / "examples" / "diamond"
TEXT = "It rains. It rains a lot!"
DESCRIPTION = {
    "vocabulary": {"words": 6, "distinct": 4, "longest": "rains"},
    "style": {"sentences": 2, "words_per_sentence": 3.0, "longest_sentence": 4},
}
BY_HAND = f"""
import asyncio
from service import Critic

critic = Critic()
description = asyncio.run(critic.describe({TEXT!r}))
assert description.model_dump() == {DESCRIPTION!r}, description
assert critic.lexicographer.tokenizer is critic.stylist.tokenizer
"""


def test_processes_of_the_diamond_answer_and_its_leaf_runs_once(free_port: int, bento_home: Path) -> None:
    with serving(DIAMOND, free_port, bento_home) as server:
        assert server.stdout is not None
        services = [server.stdout.readline().split()[0] for _ in range(4)]
        answer = describe(free_port)

    assert sorted(services) == ["Critic", "Lexicographer", "Stylist", "Tokenizer"]
    assert answer.json() == DESCRIPTION


def test_the_diamond_works_in_one_process_as_its_readme_says(run: Run) -> None:
    result = run(sys.executable, "-c", BY_HAND, cwd=DIAMOND)

    assert result.returncode == 0, result.stderr


@pytest.mark.docker
def test_containers_of_the_diamond_answer_and_its_leaf_is_one_of_four(
    run: Run, free_port: int, compose_down: Callable[[str], None]
) -> None:
    compose_down("diamond")
    assert run("bento", "build", DIAMOND).returncode == 0
    built = run("bento", "containerize", "diamond:latest")
    assert built.returncode == 0, built.stderr
    folder = Path(run("bento", "get", "diamond:latest", "-o", "path").stdout.strip())

    started = run("docker", "compose", "up", "--wait", cwd=folder, BENTOML_PUBLISHED_PORT=str(free_port))

    assert started.returncode == 0, started.stderr
    assert describe(free_port).json() == DESCRIPTION
    running = run("docker", "compose", "ps", "--services", cwd=folder).stdout.split()
    assert sorted(running) == ["critic", "lexicographer", "stylist", "tokenizer"]


def describe(port: int) -> httpx.Response:
    return httpx.post(f"http://127.0.0.1:{port}/describe", json={"text": TEXT}, timeout=30)
