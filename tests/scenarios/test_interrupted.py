"""Deploys that are killed at one of their steps: the next one takes what there is to the end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scenarios.conftest import PAIR, Run
from tests.scenarios.load import load

pytestmark = pytest.mark.docker

# An update of `pair`: one service begins, is found, drains; then the other; each may be cut in the middle.
STEPS = [1, 2, 3, 4, 5, 6]
CUTS = [(step, delay_s) for step in STEPS for delay_s in (0.0, 0.4)]
SOME = CUTS if os.environ.get("BENTO_UPDATES") else [(1, 0.4), (5, 0.0)]


@pytest.mark.parametrize(("step", "delay_s"), SOME)
def test_a_deploy_that_is_killed_at_a_step_is_finished_by_the_next(
    run: Run, tmp_path: Path, free_port: int, compose_down: Callable[[str], None], step: int, delay_s: float
) -> None:
    name = f"interrupted-{step}-{int(delay_s * 10)}"
    compose_down(f"bento-{name}")
    file = tmp_path / "config.json"
    scaling = {"scaling": {"min_replicas": 2, "max_replicas": 2}}

    def deploy(generation: str) -> str:
        said = {"name": name, "envs": [{"name": "GENERATION", "value": generation}]}
        file.write_text(json.dumps({**said, "services": {"Front": scaling, "Doubler": scaling}}))
        result = run("bento", "deploy", PAIR, "-f", file, "--port", str(free_port))
        assert result.returncode == 0, result.stderr
        return result.stderr

    deploy("0")
    with load(free_port, 8) as under_load:
        killed = run(
            sys.executable, "-m", "tests.scenarios.killed_deploy", name, "1", str(step), str(delay_s)
        )
        assert killed.returncode == -9, killed.stdout + killed.stderr
        deploy("1")

    assert under_load.failures == {}
    found = containers(run, name)
    assert len(found) == 5
    generations = {
        run("docker", "exec", container, "printenv", "GENERATION").stdout.strip()
        for container in found
        if "entry" not in container
    }
    assert generations == {"1"}
    assert "nothing to do" in deploy("1")


def containers(run: Run, name: str) -> list[str]:
    """Names of all containers of a deployment, those that do not run as well."""
    label = f"label=com.docker.compose.project=bento-{name}"
    return run("docker", "ps", "-a", "--format", "{{.Names}}", "--filter", label).stdout.split()
