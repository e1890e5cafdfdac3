"""The secret of a deployment: made by `bento deploy`, kept with it, known to its containers alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scenarios.conftest import PAIR, Run

pytestmark = pytest.mark.docker


def test_the_services_of_a_deployment_share_a_secret_which_stays(
    run: Run, bento_home: Path, tmp_path: Path, free_port: int, compose_down: Callable[[str], None]
) -> None:
    compose_down("bento-secretive")
    config = tmp_path / "config.yaml"
    config.write_text("name: secretive\n")
    deploy = ("bento", "deploy", PAIR, "-f", config, "--port", str(free_port))

    first = run(*deploy)
    assert first.returncode == 0, first.stderr
    secret = _secret_in(run, "Front")

    assert len(secret) == 64
    assert _secret_in(run, "Doubler") == secret
    config.write_text("name: secretive\nenvs: [{name: NEW, value: '1'}]\n")
    assert run(*deploy).returncode == 0
    assert _secret_in(run, "Front") == secret
    # In files that this user alone can read, and in nothing that others are shown.
    files = [path for path in (bento_home / "deployments" / "secretive").rglob("*") if _holds(path, secret)]
    assert {(file.name, file.stat().st_mode & 0o077) for file in files} == {(".env", 0)}
    assert secret not in first.stdout + first.stderr
    labels = run("docker", "inspect", "--format", "{{json .Config.Labels}}", _replica(run, "Front"))
    assert secret not in labels.stdout


def _secret_in(run: Run, service: str) -> str:
    command = ("docker", "exec", _replica(run, service), "printenv", "BENTOML_DEPLOYMENT_SECRET")
    return run(*command).stdout.strip()


def _replica(run: Run, service: str) -> str:
    """The one replica of a service, whatever its number."""
    labels = ("label=org.bentoml.deployment=secretive", f"label=org.bentoml.service={service}")
    [replica] = run(
        "docker", "ps", "-q", *(word for label in labels for word in ("--filter", label))
    ).stdout.split()
    return replica


def _holds(path: Path, secret: str) -> bool:
    return path.is_file() and secret in path.read_text()
