"""What goes wrong between the toolchain and an engine, and what a person is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.scenarios.conftest import PAIR, Run

pytestmark = pytest.mark.docker

BROKEN = """
service: service:Alone
name: broken
python:
  packages: [no-such-package-as-this-one]
  lock_packages: false
"""

SERVICE = """
import bentoml

@bentoml.service
class Alone:
    @bentoml.api
    def echo(self, text: str) -> str:
        return text
"""


def test_plain_compose_builds_what_is_not_built_and_serves_it(
    run: Run, free_port: int, compose_down: Callable[[str], None]
) -> None:
    compose_down("plain")
    assert run("bento", "build", PAIR, "--name", "plain").returncode == 0
    folder = Path(run("bento", "get", "plain:latest", "-o", "path").stdout.strip())

    started = run("docker", "compose", "up", "--wait", cwd=folder, BENTOML_PUBLISHED_PORT=str(free_port))

    assert started.returncode == 0, started.stderr
    answer = httpx.post(f"http://127.0.0.1:{free_port}/total", json={"numbers": [1, 2, 3]}, timeout=30)
    assert answer.json() == 12


def test_one_services_file_brings_the_services_that_it_calls(run: Run) -> None:
    assert run("bento", "build", PAIR, "--name", "alone").returncode == 0
    folder = Path(run("bento", "get", "alone:latest", "-o", "path").stdout.strip())

    listed = run("docker", "compose", "-f", "services/Front/compose.yaml", "config", "--services", cwd=folder)

    assert sorted(listed.stdout.split()) == ["doubler", "front"]


def test_replicas_of_the_file_run_and_are_balanced_by_name(
    run: Run, tmp_path: Path, free_port: int, compose_down: Callable[[str], None]
) -> None:
    compose_down("bento-two-doublers")
    config = tmp_path / "config.yaml"
    config.write_text(
        "name: two-doublers\nservices:\n  Doubler:\n    scaling: {min_replicas: 2, max_replicas: 2}\n"
    )

    result = run("bento", "deploy", PAIR, "-f", config, "--port", str(free_port))

    assert result.returncode == 0, result.stderr
    running = run("docker", "ps", "-q", "--filter", "label=org.bentoml.deployment=two-doublers")
    assert len(running.stdout.split()) == 4  # two, the service that calls them, and the entry
    answer = httpx.post(f"http://127.0.0.1:{free_port}/total", json={"numbers": [4]}, timeout=30)
    assert answer.json() == 8


def test_a_failing_step_is_shown_with_its_output(run: Run, project: Callable[[dict[str, str]], Path]) -> None:
    folder = project(
        {
            "service.py": SERVICE,
            "bentofile.yaml": BROKEN,
        }
    )
    assert run("bento", "build", folder).returncode == 0

    result = run("bento", "containerize", "broken:latest")

    assert result.returncode == 5
    assert "the engine could not build the images" in result.stderr
    assert "no-such-package-as-this-one" in result.stderr


def test_a_service_that_never_becomes_healthy_is_shown_by_the_tail_of_its_log(
    run: Run, tmp_path: Path, free_port: int, compose_down: Callable[[str], None]
) -> None:
    compose_down("bento-refusing")
    config = tmp_path / "config.yaml"
    config.write_text(
        "name: refusing\nservices:\n  Doubler:\n    envs: [{name: REFUSE_TO_START, value: 'yes'}]\n"
    )

    result = run("bento", "deploy", PAIR, "-f", config, "--port", str(free_port))

    assert result.returncode == 6
    assert "told to refuse by REFUSE_TO_START" in result.stderr
    assert "Doubler (bento-refusing-doubler-1) " in result.stderr


def test_a_port_in_use_is_named(
    run: Run, tmp_path: Path, free_port: int, compose_down: Callable[[str], None]
) -> None:
    for name in ("first-there", "second-there"):
        compose_down(f"bento-{name}")
    assert run("bento", "deploy", PAIR, "--name", "first-there", "--port", str(free_port)).returncode == 0

    result = run("bento", "deploy", PAIR, "--name", "second-there", "--port", str(free_port))

    assert result.returncode == 5
    assert f"port 127.0.0.1:{free_port} is in use" in result.stderr
    assert "--port" in result.stderr
