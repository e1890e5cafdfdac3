"""A deployment from its first day to its last, by `bento deployment` and by `bentoml.deployment`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bento_cli.deploy.deployment import Deployment
from bento_cli.engine.docker import DockerEngine
from tests.scenarios.conftest import PAIR, Run, unused_port

pytestmark = pytest.mark.docker

REGISTRY = os.environ.get("TB_REGISTRY", "127.0.0.1:5000")


@pytest.fixture
def name(run: Run) -> Iterator[str]:
    """A name that nothing else has; the deployment of it is gone afterwards."""
    name = f"tried-{uuid.uuid4().hex[:8]}"
    yield name
    run("bento", "deployment", "delete", name, "--yes")


@pytest.fixture
def deployed(run: Run, name: str, free_port: int) -> str:
    """The name of a deployment that runs."""
    result = run("bento", "deployment", "create", PAIR, "--name", name, "--port", str(free_port))
    assert result.returncode == 0, result.stderr
    return name


@pytest.fixture(scope="module")
def standing(run: Run) -> Iterator[tuple[str, int]]:
    """Name and port of a deployment that tests look at and leave as it is."""
    name, port = f"tried-{uuid.uuid4().hex[:8]}", unused_port()
    result = run("bento", "deployment", "create", PAIR, "--name", name, "--port", str(port))
    assert result.returncode == 0, result.stderr
    yield name, port
    run("bento", "deployment", "delete", name, "--yes")


def ask(port: int, **options: Any) -> httpx.Response:
    """A request to the entry, which doubles numbers and adds them up."""
    return httpx.post(f"http://127.0.0.1:{port}/total", json={"numbers": [1, 2, 3]}, timeout=30, **options)


def about(run: Run, name: str) -> dict[str, Any]:
    """What `get` says."""
    data: dict[str, Any] = json.loads(run("bento", "deployment", "get", name, "-o", "json").stdout)
    return data


def test_what_runs_is_listed_with_how_it_is(run: Run, standing: tuple[str, int]) -> None:
    deployed, port = standing
    listed = run("bento", "deployment", "list", "--search", deployed).stdout.splitlines()

    assert [line.split()[:3] for line in listed] == [
        ["name", "status", "revision"],
        [deployed, "running", "1"],
    ]
    assert about(run, deployed)["endpoint_urls"] == [f"http://127.0.0.1:{port}"]
    assert {s: (it["ready"], it["wanted"]) for s, it in about(run, deployed)["services"].items()} == {
        "Doubler": (1, 1),
        "Front": (1, 1),
    }


def test_a_name_that_is_taken_is_not_taken_again(run: Run, standing: tuple[str, int]) -> None:
    deployed, _ = standing
    result = run("bento", "deployment", "create", PAIR, "--name", deployed)

    assert (result.returncode, about(run, deployed)["revision"]) == (1, 1)
    assert f"there is a deployment '{deployed}' already" in result.stderr


def test_an_update_is_told_apart_and_taken_back(run: Run, deployed: str, free_port: int) -> None:
    tried = run("bento", "deployment", "update", deployed, "--env", "LEVEL=debug", "--dry-run")
    updated = run("bento", "deployment", "update", deployed, "--env", "LEVEL=debug")
    difference = run("bento", "deployment", "diff", deployed).stdout
    back = run("bento", "deployment", "rollback", deployed)

    assert (updated.returncode, back.returncode) == (0, 0), updated.stderr + back.stderr
    assert "replace Front" in tried.stderr
    assert '+      LEVEL: "debug"\n' in difference
    history = json.loads(run("bento", "deployment", "history", deployed, "-o", "json").stdout)
    assert [(revision["cause"].split()[0], revision["status"]) for revision in history] == [
        ("create", "replaced"),
        ("update", "replaced"),
        ("rollback", "active"),
    ]
    assert (ask(free_port).json(), about(run, deployed)["config"].get("envs")) == (12, None)


def test_an_update_says_only_what_changes(run: Run, name: str, free_port: int) -> None:
    created = ["--env", "A=1", "--env", "B=1", "--scaling-max", "3", "--port", str(free_port)]
    assert run("bento", "deployment", "create", PAIR, "-n", name, *created).returncode == 0

    result = run("bento", "deployment", "update", name, "--env", "B=2")

    assert result.returncode == 0, result.stderr
    config = about(run, name)["config"]
    assert {env["name"]: env["value"] for env in config["envs"]} == {"A": "1", "B": "2"}
    assert config["services"] == {"Front": {"scaling": {"max_replicas": 3}}}
    assert about(run, name)["endpoint_urls"] == [f"http://127.0.0.1:{free_port}"]


def test_replicas_come_and_go_within_bounds(run: Run, name: str, free_port: int) -> None:
    options = ["-n", name, "--scaling-max", "2", "--port", str(free_port)]
    assert run("bento", "deployment", "create", PAIR, *options).returncode == 0

    more = run("bento", "deployment", "scale", name, "Front=2")
    too_many = run("bento", "deployment", "scale", name, "Front=3")

    assert (more.returncode, too_many.returncode) == (0, 1), more.stderr
    assert "Front may have 1 to 2 replicas, asked for 3" in too_many.stderr
    assert about(run, name)["services"]["Front"]["ready"] == 2
    assert about(run, name)["config"]["services"] == {"Front": {"scaling": {"max_replicas": 2}}}


def test_replicas_that_are_not_ready_in_time_are_taken_back(run: Run, name: str, free_port: int) -> None:
    options = ["-n", name, "--scaling-max", "2", "--port", str(free_port)]
    assert run("bento", "deployment", "create", PAIR, *options).returncode == 0

    result = run("bento", "deployment", "scale", name, "Front=2", "--timeout", "0")

    assert (result.returncode, ask(free_port).json()) == (6, 12), result.stderr
    assert about(run, name)["services"]["Front"] | {"image": ""} == {"image": "", "ready": 1, "wanted": 1}


def test_numbers_that_were_cut_off_take_nothing_down(
    run: Run, bento_home: Path, name: str, free_port: int
) -> None:
    options = ["-n", name, "--scaling-max", "2", "--port", str(free_port)]
    assert run("bento", "deployment", "create", PAIR, *options).returncode == 0
    deployment = Deployment(name, DockerEngine(), bento_home)
    deployment.begin(deployment.plan_scale({"Front": 2}))

    failed = run("bento", "deployment", "start", name, "--timeout", "0")
    answer = ask(free_port).json()
    gone_on = run("bento", "deployment", "start", name)

    assert (failed.returncode, answer, gone_on.returncode) == (6, 12, 0), gone_on.stderr
    assert about(run, name)["services"]["Front"]["ready"] == 2


def test_what_is_terminated_is_started_again_and_deleted(run: Run, deployed: str, free_port: int) -> None:
    stopped = run("bento", "deployment", "terminate", deployed)
    status = about(run, deployed)["status"]["status"]
    waited = run("bento", "deployment", "wait", deployed)
    started = run("bento", "deployment", "start", deployed)
    answer = ask(free_port).json()
    deleted = run("bento", "deployment", "delete", deployed, "--yes")

    assert [r.returncode for r in (stopped, waited, started, deleted)] == [0, 6, 0, 0], started.stderr
    assert (status, answer) == ("terminated", 12)
    left = run("docker", "ps", "--all", "--quiet", "--filter", f"label=org.bentoml.deployment={deployed}")
    assert left.stdout == ""
    assert run("bento", "deployment", "get", deployed).returncode == 4


def test_nobody_need_wait(run: Run, name: str, free_port: int) -> None:
    begun = run("bento", "deploy", PAIR, "--name", name, "--port", str(free_port), "--no-wait")

    waited = run("bento", "deployment", "wait", name, "--timeout", "120")

    assert (begun.returncode, waited.returncode) == (0, 0), begun.stderr + waited.stderr
    assert ask(free_port).json() == 12


def test_who_asks_brings_the_token(run: Run, name: str, free_port: int) -> None:
    options = ["-n", name, "--access-authorization", "true", "--port", str(free_port)]
    assert run("bento", "deployment", "create", PAIR, *options).returncode == 0

    token = run("bento", "deployment", "token", name).stdout.strip()

    assert ask(free_port).status_code == 401
    assert ask(free_port, headers={"authorization": f"Bearer {token}"}).json() == 12


def test_the_log_of_one_service_is_shown(run: Run, standing: tuple[str, int]) -> None:
    deployed, _ = standing
    result = run("bento", "deployment", "logs", deployed, "Doubler", "--tail", "5")

    assert (result.returncode, "Doubler ready on" in result.stdout) == (0, True)
    assert "front" not in result.stdout


def test_a_log_that_is_followed_ends_with_ctrl_c(
    run: Run, bento_home: Path, standing: tuple[str, int]
) -> None:
    deployed, _ = standing
    command = [sys.executable, "-m", "bento_cli", "deployment", "logs", deployed, "Doubler", "--follow"]
    with subprocess.Popen(
        command,
        env={**os.environ, "BENTOML_HOME": str(bento_home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert any("ready on" in line for line in process.stdout)

        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        _, stderr = process.communicate(timeout=30)

    assert (process.returncode, "Traceback" in stderr) == (130, False)


@pytest.fixture
def forget_travelled(run: Run) -> Iterator[None]:
    """Images that the registry has are gone from the engine afterwards."""
    yield
    names = run("docker", "images", "--format", "{{.Repository}}:{{.Tag}}", f"{REGISTRY}/team/front/*").stdout
    run("docker", "image", "rm", *names.split())


@pytest.mark.usefixtures("forget_travelled")
def test_a_cluster_is_another_context_and_its_images_travel(
    run: Run, tmp_path: Path, name: str, free_port: int
) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "types.yaml").write_text("instance_types:\n  tiny: {cpus: 200m, memory: 512Mi}\n")
    there = {"DOCKER_CONFIG": str(tmp_path)}
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    assert run("docker", "context", "create", "there", "--docker", f"host={host}", **there).returncode == 0
    options = ["--docker-context", "there", "--registry", f"{REGISTRY}/team"]
    types = ["--instance-types", tmp_path / "types.yaml"]
    assert run("bento", "cluster", "add", "elsewhere", *options, *types, **there).returncode == 0

    result = run(
        *("bento", "deploy", PAIR, "--name", name, "--cluster", "elsewhere", "--port", str(free_port)),
        *("--instance-type", "tiny"),
        **there,
    )

    assert result.returncode == 0, result.stderr
    assert ask(free_port).json() == 12
    template = "{{.Config.Image}} {{.HostConfig.Memory}}"
    shown = run("docker", "inspect", f"bento-{name}-front-1", "--format", template).stdout
    assert shown.startswith(f"{REGISTRY}/team/front/front@sha256:")
    assert shown.endswith(f" {512 * 2**20}\n")
    assert run("bento", "deployment", "get", name).returncode == 4  # not of the cluster in use
    assert (
        f"the cluster 'elsewhere' has deployments: {name}"
        in run("bento", "cluster", "remove", "elsewhere", "--yes", **there).stderr
    )
    assert (
        run("bento", "deployment", "delete", name, "--yes", "--cluster", "elsewhere", **there).returncode == 0
    )
    assert run("bento", "cluster", "remove", "elsewhere", "--yes", **there).returncode == 0


def test_python_does_the_same(run: Run, tmp_path: Path, name: str, free_port: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import bentoml

created = bentoml.deployment.create(
    {name!r}, bento={str(PAIR)!r}, port={free_port}, envs=[{{"name": "A", "value": "1"}}],
    access_authorization=True,
)
print(created.wait_until_ready(timeout=120, check_interval=0.2), created.get_status().status)
with bentoml.deployment.get({name!r}).get_client() as client:
    print(client.total(numbers=[1, 2, 3]))
updated = bentoml.deployment.update({name!r}, envs=[{{"name": "B", "value": "2"}}])
print(updated.wait_until_ready(timeout=120, check_interval=0.2), updated.to_dict()["config"]["envs"])
print([it.name for it in bentoml.deployment.list(search={name!r})])
print(bentoml.deployment.terminate({name!r}).get_status().status)
print(bentoml.deployment.start({name!r}).wait_until_ready(timeout=120, check_interval=0.2))
bentoml.deployment.delete({name!r})
print(bentoml.deployment.list(search={name!r}))
"""
    )

    result = run(sys.executable, "-W", "error", script)

    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "0 running",
        "12",
        "0 [{'name': 'A', 'value': '1'}, {'name': 'B', 'value': '2'}]",
        f"['{name}']",
        "terminated",
        "0",
        "[]",
    ]
