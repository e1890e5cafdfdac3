"""The entry of a deployment: who may come in, who waits, and who finds it by its name."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import trustme

from tests.scenarios.conftest import Run

pytestmark = pytest.mark.docker

AT_ONCE = 20
CALLERS = 200

SERVICE = f"""
import asyncio

import bentoml


@bentoml.service(traffic={{"max_concurrency": {AT_ONCE}, "timeout": 60}})
class Slow:
    def __init__(self):
        self.inside = self.most = self.begun = 0

    @bentoml.api
    async def work(self) -> dict[str, int]:
        self.begun += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        place = self.begun
        try:
            await asyncio.sleep(0.2)
            return {{"place": place, "most": self.most}}
        finally:
            self.inside -= 1


@bentoml.service
class Gate:
    slow = bentoml.depends(Slow)

    @bentoml.api
    async def work(self) -> dict[str, int]:
        return await self.slow.work()
"""

CALLER = """
import bentoml


@bentoml.service
class Caller:
    gate = bentoml.depends(deployment="{name}")

    @bentoml.api
    async def work(self) -> int:
        return (await self.gate.work())["place"]
"""

Deploy = Callable[..., str]


@pytest.fixture
def deploy(
    run: Run, project: Callable[[dict[str, str]], Path], tmp_path: Path, compose_down: Callable[[str], None]
) -> Deploy:
    """`deploy("Gate", port, name="gate", **said)`: a deployment of a service; what was said of it."""

    def deploy_service(
        entry: str, port: int, *options: str, text: str = SERVICE, expected: int = 0, **said: object
    ) -> str:
        folder = project({"service.py": text, "bentofile.yaml": f"service: service:{entry}\n"})
        file = tmp_path / "config.json"
        file.write_text(json.dumps(said))
        compose_down(f"bento-{said['name']}")
        result = run("bento", "deploy", folder, "-f", file, "--port", str(port), *options)
        assert result.returncode == expected, result.stderr
        return result.stderr

    return deploy_service


def all_at_once(port: int, count: int) -> list[httpx.Response]:
    """As many requests at the same time, on connections of their own."""

    async def send() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=count)
        async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as client:
            url = f"http://127.0.0.1:{port}/work"
            return await asyncio.gather(*(client.post(url, json={}) for _ in range(count)))

    return asyncio.run(send())


def test_an_external_queue_lets_all_wait_and_no_more_in_than_may_be(deploy: Deploy, free_port: int) -> None:
    traffic = {"traffic": {"external_queue": True, "max_concurrency": AT_ONCE}}
    deploy("Slow", free_port, name="queued", services={"Slow": {"config_overrides": traffic}})

    answers = all_at_once(free_port, CALLERS)

    assert Counter(answer.status_code for answer in answers) == {200: CALLERS}
    assert max(answer.json()["most"] for answer in answers) == AT_ONCE


def test_a_service_behind_another_one_is_waited_for_as_well(deploy: Deploy, free_port: int) -> None:
    traffic = {"traffic": {"external_queue": True, "max_concurrency": AT_ONCE}}
    deploy("Gate", free_port, name="queued-behind", services={"Slow": {"config_overrides": traffic}})

    answers = all_at_once(free_port, CALLERS)

    assert Counter(answer.status_code for answer in answers) == {200: CALLERS}
    assert max(answer.json()["most"] for answer in answers) == AT_ONCE


def test_without_a_queue_those_beyond_the_limit_are_told_at_once(deploy: Deploy, free_port: int) -> None:
    deploy("Slow", free_port, name="unqueued")

    statuses = Counter(answer.status_code for answer in all_at_once(free_port, CALLERS))

    assert set(statuses) == {200, 429}
    assert statuses[200] >= AT_ONCE


def test_an_entry_asks_for_the_token_of_its_deployment(
    deploy: Deploy, free_port: int, run: Run, bento_home: Path
) -> None:
    deploy("Slow", free_port, name="guarded", access_authorization=True)
    url = f"http://127.0.0.1:{free_port}"
    token = run("bento", "deployment", "token", "guarded").stdout.strip()

    assert httpx.post(f"{url}/work", json={}).status_code == 401
    assert httpx.post(f"{url}/work", json={}, headers={"Authorization": "Bearer no"}).status_code == 401
    assert httpx.post(f"{url}/work", json={}, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert httpx.get(f"{url}/readyz").status_code == 200
    rendered = bento_home / "deployments" / "guarded" / "revisions" / "1" / "compose.yaml"
    assert token not in rendered.read_text()


def test_what_only_peers_and_operators_see_does_not_pass_the_entry(deploy: Deploy, free_port: int) -> None:
    deploy("Gate", free_port, name="closed")
    url = f"http://127.0.0.1:{free_port}"

    assert httpx.get(f"{url}/metrics").status_code == 404
    frame = {"content-type": "application/vnd.bento.frame"}
    assert httpx.post(f"{url}/work", content=b"frame", headers=frame).status_code == 415


def test_an_entry_with_a_certificate_speaks_tls(deploy: Deploy, free_port: int, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    pem = tmp_path / "entry.pem"
    pem.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    deploy("Slow", free_port, "--certificate", str(pem), name="encrypted")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    answer = httpx.post(f"https://127.0.0.1:{free_port}/work", json={}, verify=trusting)

    assert answer.status_code == 200


def test_another_project_finds_a_deployment_by_its_name(deploy: Deploy, free_port: int) -> None:
    deploy("Slow", free_port, name="found", access_authorization=True)
    own_port = free_port + 1
    deploy("Caller", own_port, text=CALLER.format(name="found"), name="finder")

    assert httpx.post(f"http://127.0.0.1:{own_port}/work", json={}, timeout=30).status_code == 200


def test_a_project_that_is_served_here_finds_a_deployment_by_its_name(
    deploy: Deploy, free_port: int, project: Callable[[dict[str, str]], Path], run: Run, bento_home: Path
) -> None:
    deploy("Slow", free_port, name="found-from-here", access_authorization=True)
    folder = project(
        {"service.py": CALLER.format(name="found-from-here"), "bentofile.yaml": "service: service:Caller\n"}
    )
    command = [sys.executable, "-m", "bento_cli", "serve", str(folder), "--port", str(free_port + 1)]
    environ = {**os.environ, "BENTOML_HOME": str(bento_home)}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline()  # the table comes when all services are ready
            answer = httpx.post(f"http://127.0.0.1:{free_port + 1}/work", json={}, timeout=30)
        finally:
            process.send_signal(signal.SIGINT)

    assert answer.status_code == 200, answer.text


def test_a_deployment_that_is_not_there_is_named_before_anything_starts(
    deploy: Deploy, free_port: int, run: Run
) -> None:
    said = deploy("Caller", free_port, text=CALLER.format(name="nowhere"), expected=1, name="lost")

    assert "Caller.gate depends on the deployment nowhere, which is not on this engine" in said
    assert "BENTOML_DEPLOYMENT_NOWHERE" in said
    assert run("docker", "ps", "-aq", "--filter", "label=org.bentoml.deployment=lost").stdout == ""
