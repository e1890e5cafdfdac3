"""`bento serve` and the store, without a container engine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

import httpx
import pytest

from bentoml._gpus import available_gpus
from tests.scenarios.conftest import EXAMPLE, PAIR, ROOT, Run, post_drawing

NEVER_DONE = """
import asyncio
import bentoml

@bentoml.service
class Entry:
    @bentoml.api
    async def wait(self) -> None:
        print("the call runs", flush=True)
        await asyncio.sleep(3600)
"""


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where the processes of a test keep what is temporary."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@contextmanager
def serving(
    what: str | Path, port: int, home: Path, *, stderr: int = subprocess.DEVNULL, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """`bento serve` in a process of its own, ready; interrupted as Ctrl-C does it at the end."""
    server = subprocess.Popen(
        [sys.executable, "-m", "bento_cli", "serve", str(what), "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, "BENTOML_HOME": str(home), **variables},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )
    with server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline().startswith("service"), "the services did not become ready"
            yield server
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGINT)
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
                raise


def test_the_seeds_example_answers_with_a_picture(weights: Path, free_port: int, bento_home: Path) -> None:
    with serving(EXAMPLE, free_port, bento_home, HF_HOME=str(weights), HF_HUB_OFFLINE="1"):
        assert post_drawing(free_port).size == (128, 96)


def test_a_bento_is_served_by_its_tag(run: Run, free_port: int, bento_home: Path) -> None:
    assert run("bento", "build", PAIR, "--name", "served").returncode == 0

    with serving("served:latest", free_port, bento_home):
        answer = httpx.post(f"http://127.0.0.1:{free_port}/total", json={"numbers": [1, 2]}, timeout=30)
        tag = httpx.post(f"http://127.0.0.1:{free_port}/variable", json={"name": "BENTOML_BENTO"}, timeout=30)

    assert answer.json() == 6
    assert tag.text.startswith("served:")


def test_ctrl_c_leaves_nothing_running(free_port: int, bento_home: Path) -> None:
    with serving(PAIR, free_port, bento_home, MARK_OF_THIS_TEST="ctrl-c") as server:
        # The command, two supervisors, three workers, and what the two of one service were forked from.
        assert len(_marked("ctrl-c")) == 1 + 2 + 3 + 1

    assert server.returncode == 0
    assert _marked("ctrl-c") == []


def test_a_second_ctrl_c_ends_what_still_runs(
    project: Callable[[dict[str, str]], Path], free_port: int, bento_home: Path, temporary: Path
) -> None:
    folder = project({"service.py": NEVER_DONE})
    variables = {"MARK_OF_THIS_TEST": "twice", "TMPDIR": str(temporary)}
    serve = serving(folder, free_port, bento_home, stderr=subprocess.PIPE, **variables)
    with serve as server, ThreadPoolExecutor(1) as threads:
        assert server.stderr is not None
        url = f"http://127.0.0.1:{free_port}/wait"
        call = threads.submit(httpx.post, url, json={}, timeout=120)
        said = list(iter(server.stderr.readline, "Entry the call runs\n"))
        server.send_signal(signal.SIGINT)
        said += takewhile(lambda line: not line.startswith("stopping"), server.stderr)
        server.send_signal(signal.SIGINT)
        said += server.stderr
        server.wait(60)

        assert _marked("twice") == []
        assert isinstance(call.exception(60), httpx.TransportError)

    assert server.returncode == 130
    assert "Traceback" not in "".join(said)
    assert list(temporary.glob("bentoml-*")) == []


def test_a_killed_command_takes_its_services_with_it(free_port: int, bento_home: Path) -> None:
    with serving(PAIR, free_port, bento_home, MARK_OF_THIS_TEST="killed") as server:
        server.kill()
        deadline = time.monotonic() + 60
        while _marked("killed") and time.monotonic() < deadline:
            time.sleep(0.05)

    assert _marked("killed") == []


def test_the_table_shows_where_each_service_is_managed(free_port: int, bento_home: Path) -> None:
    with serving(PAIR, free_port, bento_home) as server:
        assert server.stdout is not None
        rows = [server.stdout.readline().split() for _ in range(2)]
        answers = [httpx.get(f"http://127.0.0.1{row[2]}/readyz", timeout=30) for row in rows]

    assert [row[0] for row in rows] == ["Front", "Doubler"]
    assert [answer.status_code for answer in answers] == [200, 200]


def test_log_lines_that_are_json_stay_so(run: Run, free_port: int) -> None:
    result = run(
        "bento", "serve", PAIR, "--port", str(free_port), REFUSE_TO_START="yes", BENTOML_LOG_FORMAT="json"
    )

    lines = [json.loads(line) for line in result.stderr.splitlines() if '"process":' in line]
    assert "Doubler" in {line["process"].partition(":")[0] for line in lines}


def test_a_port_in_use_is_said_before_anything_starts(run: Run, free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        result = run("bento", "serve", PAIR, "--port", str(free_port))

    assert result.returncode == 1
    assert f"port {free_port} of 127.0.0.1 is in use" in result.stderr
    assert "--port" in result.stderr


ASKING = """
import bentoml

@bentoml.service(envs=[{"name": "HF_TOKEN"}], resources={"gpu": 1})
class Leaf: ...

@bentoml.service(envs=[{"name": "HF_TOKEN"}, {"name": "API_KEY"}], resources={"gpu": 0.5})
class Front:
    leaf = bentoml.depends(Leaf)
"""


def test_variables_that_are_not_set_are_all_told_before_anything_starts(
    run: Run, project: Callable[[dict[str, str]], Path], free_port: int
) -> None:
    folder = project({"service.py": ASKING})

    result = run("bento", "serve", ".", "--port", str(free_port), cwd=folder)

    assert result.returncode == 1
    assert "HF_TOKEN is not set, needed by Leaf, Front\nAPI_KEY is not set, needed by Front" in result.stderr
    assert "hint: `HF_TOKEN=... API_KEY=... bento serve .`" in result.stderr


def test_each_service_that_asks_for_a_gpu_says_once_that_there_is_none(
    project: Callable[[dict[str, str]], Path], free_port: int, bento_home: Path
) -> None:
    folder = project({"service.py": ASKING})
    serve = serving(folder, free_port, bento_home, stderr=subprocess.PIPE, HF_TOKEN="1", API_KEY="2")
    with serve as server:
        server.send_signal(signal.SIGINT)
        assert server.stderr is not None
        said = server.stderr.read()

    expected = 0 if available_gpus() else 1
    assert said.count("Leaf asks for 1 GPU, this machine has none: it runs on the CPU") == expected
    assert said.count("Front asks for 0.5 GPU, this machine has none: it runs on the CPU") == expected


def test_a_project_declares_variables_and_the_shell_wins(
    project: Callable[[dict[str, str]], Path], free_port: int, bento_home: Path
) -> None:
    bentofile = (
        "service: service:Front\nenvs: [{name: FIRST, value: declared}, {name: SECOND, value: declared}]\n"
    )
    folder = project({"service.py": (PAIR / "service.py").read_text(), "bentofile.yaml": bentofile})

    with serving(folder, free_port, bento_home, SECOND="of the shell"):
        values = [
            httpx.post(f"http://127.0.0.1:{free_port}/variable", json={"name": name}, timeout=30).text
            for name in ("FIRST", "SECOND")
        ]

    assert values == ["declared", "of the shell"]


def test_a_service_that_cannot_start_is_shown_by_its_log(run: Run, free_port: int) -> None:
    result = run("bento", "serve", PAIR, "--port", str(free_port), REFUSE_TO_START="yes")

    assert result.returncode == 6
    reasons = [line for line in result.stderr.splitlines() if "told to refuse by REFUSE_TO_START" in line]
    assert reasons
    assert all(line.startswith("Doubler") for line in reasons)  # none of them a second time below
    assert "Doubler ended with exit code 1" in result.stderr


def test_without_an_engine_a_person_is_told_so(run: Run, tmp_path: Path) -> None:
    assert run("bento", "build", PAIR, "--name", "unbuilt").returncode == 0

    result = run("bento", "containerize", "unbuilt:latest", DOCKER_HOST=f"unix://{tmp_path}/no.sock")

    assert result.returncode == 5
    assert "no container engine answers" in result.stderr
    assert "docker info" in result.stderr


def test_the_store_lists_shows_and_deletes(run: Run, tmp_path: Path) -> None:
    variables = {"BENTOML_HOME": str(tmp_path / "store")}
    built = run("bento", "build", PAIR, "--quiet", **variables).stdout.strip()

    assert [row["tag"] for row in json.loads(run("bento", "list", "-o", "json", **variables).stdout)] == [
        built
    ]
    assert (
        json.loads(run("bento", "get", "front", "-o", "json", **variables).stdout)["entry_service"] == "Front"
    )
    assert run("bento", "delete", built, "--yes", **variables).returncode == 0
    assert run("bento", "get", built, **variables).returncode == 4


def test_nothing_is_left_in_the_store_when_a_project_has_a_mistake(
    run: Run, project: Callable[[dict[str, str]], Path], tmp_path: Path
) -> None:
    folder = project({"bentofile.yaml": "sevice: service:Front\n"})
    home = tmp_path / "store"

    result = run("bento", "build", folder, BENTOML_HOME=str(home))

    assert result.returncode == 3
    assert "bentofile.yaml:1: unknown field `sevice`, did you mean `service`?" in result.stderr
    assert not home.exists()


def test_the_tag_alone_is_printed_for_scripts(run: Run) -> None:
    result = run("bento", "build", PAIR, "--output", "tag")

    assert result.stdout.startswith("__tag__:front:")
    assert result.stderr == ""


def _marked(mark: str) -> list[int]:
    """Processes that inherited the mark of a test."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environ = (folder / "environ").read_bytes()
        except OSError:
            continue
        if f"MARK_OF_THIS_TEST={mark}".encode() in environ:
            found.append(int(folder.name))
    return found
