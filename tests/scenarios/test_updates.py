"""Deployments that change while they serve, under constant load: nothing that is sent is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.scenarios.conftest import PAIR, Run, unused_port
from tests.scenarios.load import load

pytestmark = pytest.mark.docker

UPDATES = int(os.environ.get("BENTO_UPDATES", "2"))
KILLS = int(os.environ.get("BENTO_KILLS", "3"))
CALLERS = 32
# All of them where there is time: their steps are played through in tests/cli/deploy/test_rollout.py.
STRATEGIES = ("Recreate", "RampedSlowRollout", "BestEffortControlledRollout")[: 3 if UPDATES > 2 else 1]
SERVICES = ("Doubler", "Front")

Said: TypeAlias = dict[str, dict[str, object]]


class Deployed:
    """A deployment of `pair` with two to five replicas of each service, whose file a test changes."""

    def __init__(self, run: Run, port: int, file: Path) -> None:
        self._run, self.port, self._file = run, port, file
        self.name = "updated"

    def deploy(self, *, expected: int = 0, services: Said | None = None, **said: object) -> str:
        """Deploy it with more in its file; what was said of it."""
        scaling = {"min_replicas": 2, "max_replicas": 5}
        named = {name: {"scaling": scaling, **(services or {}).get(name, {})} for name in SERVICES}
        self._file.write_text(json.dumps({"name": self.name, "services": named, **said}))
        result = self._run("bento", "deploy", PAIR, "-f", self._file, "--port", str(self.port))
        assert result.returncode == expected, result.stderr
        return result.stderr

    def containers(self, service: str) -> list[str]:
        """Identifiers of the running replicas of a service."""
        labels = (f"label=org.bentoml.deployment={self.name}", f"label=org.bentoml.service={service}")
        filters = [word for label in labels for word in ("--filter", label)]
        return self._run("docker", "ps", "-q", *filters).stdout.split()

    def revisions(self) -> list[dict[str, object]]:
        """All of them, as `bento deployment history` has them."""
        return list(json.loads(self._run("bento", "deployment", "history", self.name, "-o", "json").stdout))

    def all_containers(self) -> set[str]:
        return {*self.containers("Doubler"), *self.containers("Front")}


@pytest.fixture(scope="module")
def deployed(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """One deployment for all of these tests, each of which finds it serving and leaves it so."""
    deployed = Deployed(run, unused_port(), tmp_path_factory.mktemp("deployment") / "config.json")
    deployed.deploy()
    yield deployed
    assert run("bento", "deployment", "delete", deployed.name, "--yes").returncode == 0


def generation(number: int) -> list[dict[str, str]]:
    """Variables with which every replica is another one."""
    return [{"name": "GENERATION", "value": str(number)}]


def test_rolling_updates_lose_no_request(deployed: Deployed) -> None:
    seen = [deployed.all_containers()]

    with load(deployed.port, CALLERS) as under_load:
        for number in range(UPDATES):
            deployed.deploy(envs=generation(number))
            seen.append(deployed.all_containers())

    assert under_load.failures == {}
    assert under_load.answered > 0
    assert all(len(found) == 4 for found in seen)
    assert len(set.union(*seen)) == 4 * (UPDATES + 1)  # every replica of every service was another one


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_other_strategies_lose_no_request_either(deployed: Deployed, strategy: str) -> None:
    with load(deployed.port, CALLERS) as under_load:
        deployed.deploy(services={"Front": {"deployment_strategy": strategy}}, envs=generation(1))

    assert under_load.failures == {}


def test_a_revision_that_does_not_become_ready_gets_no_traffic_and_is_gone_by_itself(
    deployed: Deployed, run: Run
) -> None:
    before = deployed.all_containers()
    broken: Said = {"Doubler": {"envs": [{"name": "REFUSE_TO_START", "value": "yes"}]}}

    with load(deployed.port, CALLERS) as under_load:
        said = deployed.deploy(expected=6, services=broken)

    assert under_load.failures == {}
    assert "told to refuse by REFUSE_TO_START" in said
    assert "was taken back, revision" in said
    assert deployed.all_containers() == before


def test_killed_replicas_cost_no_more_than_what_ran_on_them(deployed: Deployed) -> None:
    dice = random.Random(5)
    with load(deployed.port, CALLERS) as under_load:
        for _ in range(KILLS):
            time.sleep(5)  # as often as the promise says
            victim = dice.choice(sorted(deployed.all_containers()))
            kill(victim)

    # What ran on a killed `Doubler` fails at the peer that called it; what ran on a killed `Front` gets no
    # answer, or HAProxy's. No more than that, and nothing else.
    assert sum(under_load.failures.values()) <= CALLERS * KILLS
    assert under_load.answered > 100 * CALLERS
    for what in under_load.failures:
        assert "RemoteException" in what or "502" in what or "IncompleteRead" in what


def kill(container: str) -> None:
    """End the service's processes as a crash would, which the engine restarts."""
    command = ["docker", "inspect", "--format", "{{.State.Pid}}", container]
    pid = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    os.kill(pid, signal.SIGKILL)


def test_replicas_come_and_go_without_a_failed_request(deployed: Deployed, run: Run) -> None:
    with load(deployed.port, CALLERS) as under_load:
        for count in (5, 2):
            scaled = run("bento", "deployment", "scale", deployed.name, f"Front={count}", f"Doubler={count}")
            assert scaled.returncode == 0, scaled.stderr
            assert len(deployed.containers("Front")) == count

    assert under_load.failures == {}


def test_nothing_is_done_where_nothing_changed(deployed: Deployed) -> None:
    deployed.deploy()
    before = deployed.all_containers()

    said = deployed.deploy()

    assert "nothing to do: it runs as it should" in said
    assert deployed.all_containers() == before


def test_a_revisions_folder_runs_with_compose_alone(deployed: Deployed, run: Run, bento_home: Path) -> None:
    [active] = [revision for revision in deployed.revisions() if revision["status"] == "active"]
    folder = bento_home / "deployments" / deployed.name / "revisions" / str(active["revision"])
    before = deployed.all_containers()

    started = run("docker", "compose", "up", "--detach", "--wait", cwd=folder)

    assert started.returncode == 0, started.stderr
    assert deployed.all_containers() == before
    listed = json.loads(run("docker", "compose", "config", "--format", "json", cwd=folder).stdout)
    assert sorted(listed["services"]) == ["doubler", "entry", "front"]
