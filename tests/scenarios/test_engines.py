"""Images that other programs than Docker build of the same Dockerfiles."""

from __future__ import annotations

import base64
import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.conftest import PAIR, Run

pytestmark = [pytest.mark.docker, pytest.mark.podman]

REGISTRY = os.environ.get("TB_REGISTRY", "127.0.0.1:5000")
INSTALLER = "ghcr.io/astral-sh/uv:latest"
BACKENDS = ("podman", "buildah")
PASSWORD = "xyzzy-plugh-42"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables that give podman and buildah a store of their own, and base images.

    Those come from the registry of the test bed, and the installer of packages from the engine's own store.
    """
    folder = tmp_path_factory.mktemp("containers")
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/store"\nrunroot = "{folder}/run"\n'
    )
    (folder / "registries.conf").write_text(
        'unqualified-search-registries = ["docker.io"]\n'
        f'[[registry]]\nprefix = "docker.io"\nlocation = "{REGISTRY}"\ninsecure = true\n'
        f'[[registry]]\nlocation = "{REGISTRY}"\ninsecure = true\n'
    )
    variables = {
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
        "BUILDAH_ISOLATION": "chroot",
    }
    environment = {**os.environ, **variables}
    saved = folder / "installer.tar"
    for command in (
        ["docker", "save", "--output", str(saved), INSTALLER],
        ["buildah", "pull", "--quiet", f"docker-archive:{saved}"],
    ):
        subprocess.run(command, env=environment, capture_output=True, check=True)
    yield variables
    reset = ["podman", "system", "reset", "--force"]
    subprocess.run(reset, env=environment, capture_output=True, check=True)


@pytest.fixture(scope="module", params=BACKENDS)
def built(
    run: Run, settings: dict[str, str], request: pytest.FixtureRequest
) -> tuple[str, list[dict[str, Any]]]:
    """A backend, and what it made of two services."""
    backend = str(request.param)
    assert run("bento", "build", PAIR, "--name", backend).returncode == 0
    command = ("bento", "containerize", f"{backend}:latest", "--format", "json")
    result = run(*command, BENTOML_CONTAINERIZE_BACKEND=backend, **settings)
    assert result.returncode == 0, result.stderr
    return backend, json.loads(result.stdout)


def test_each_service_has_its_image_with_what_is_in_it(built: tuple[str, list[dict[str, Any]]]) -> None:
    backend, images = built

    assert [image["image"].partition(":")[0] for image in images] == [
        f"{backend}/doubler",
        f"{backend}/front",
    ]
    assert all("uvloop" in image["packages"] for image in images)


def test_what_did_not_change_is_not_built_again(
    run: Run, settings: dict[str, str], built: tuple[str, list[dict[str, Any]]]
) -> None:
    backend, _ = built

    again = run("bento", "containerize", f"{backend}:latest", "--backend", backend, **settings)

    assert again.stdout.count("cached") == 2
    assert "is built" not in again.stderr


def test_what_was_pushed_runs_on_a_docker_engine_and_has_its_health_check(
    run: Run, settings: dict[str, str], built: tuple[str, list[dict[str, Any]]]
) -> None:
    backend, _ = built
    name = f"{REGISTRY}/{backend}/shop"
    command = ("bento", "containerize", f"{backend}:latest", "-t", name, "--push", "--format", "json")

    pushed = run(*command, "--backend", backend, **settings)

    assert pushed.returncode == 0, pushed.stderr
    front = json.loads(pushed.stdout)[1]
    reference = f"{name}/front@{front['digest']}"
    try:
        described = run(
            "docker", "run", "--rm", "--read-only", "--entrypoint", "python", reference,
            "-m", "bentoml._process.describe", "service:Front", "/opt/bento/src",
        )  # fmt: skip
        [inspected] = json.loads(run("docker", "image", "inspect", reference).stdout)
    finally:
        run("docker", "rmi", reference)
    assert json.loads(described.stdout)["name"] == "Front"
    assert inspected["Config"]["Healthcheck"]["Test"][-1] == "bentoml._probe"


def test_another_image_stands_in_for_the_base(run: Run, settings: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text((PAIR / "service.py").read_text())
    bentofile = "service: service:Front\ndocker: {base_image: 'nowhere.example/python:3.11'}"
    (tmp_path / "bentofile.yaml").write_text(bentofile)
    assert run("bento", "build", tmp_path, "--name", "other_base").returncode == 0
    command = ("bento", "containerize", "other_base:latest", "--backend", "podman")

    refused = run(*command, **settings)
    built = run(
        *command, "--base-image-map", "nowhere.example/python:3.11=python:3.11-slim-bookworm", **settings
    )

    assert refused.returncode == 5
    assert "--base-image-map nowhere.example/python:3.11=" in refused.stderr
    assert built.returncode == 0, built.stderr


class EmptyIndex(http.server.BaseHTTPRequestHandler):
    """An index of nothing, which remembers who asked."""

    asked: set[str]

    def do_GET(self) -> None:
        self.asked.add(self.headers.get("Authorization", ""))
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as its base class calls it
        pass


@pytest.fixture
def index() -> Iterator[tuple[str, set[str]]]:
    """Where it answers, and who has asked."""
    asked: set[str] = set()
    handler = type("Index", (EmptyIndex,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_a_secret_reaches_the_steps_that_need_it_and_no_image(
    run: Run, settings: dict[str, str], index: tuple[str, set[str]], tmp_path: Path
) -> None:
    address, asked = index
    (tmp_path / "service.py").write_text((PAIR / "service.py").read_text())
    said = {
        "service": "service:Front",
        "python": {"extra_index_url": [f"http://reader:${{INDEX_PASSWORD}}@{address}/simple"]},
    }
    (tmp_path / "bentofile.yaml").write_text(json.dumps(said))
    assert run("bento", "build", tmp_path, "--name", "secretive", "--no-lock").returncode == 0

    command = ("bento", "containerize", "secretive:latest", "--backend", "podman", "--format", "json")
    result = run(*command, INDEX_PASSWORD=PASSWORD, **settings)

    assert result.returncode == 0, result.stderr
    assert f"Basic {base64.b64encode(f'reader:{PASSWORD}'.encode()).decode()}" in asked
    for image in json.loads(result.stdout):
        shown = (run("podman", what, image["image"], **settings).stdout for what in ("inspect", "history"))
        assert PASSWORD not in "".join(shown)


@pytest.mark.parametrize("backend", ["docker", "podman"])
def test_a_service_that_asks_for_a_gpu_while_it_is_imported_is_told_where_to_ask(
    run: Run, settings: dict[str, str], tmp_path: Path, backend: str
) -> None:
    # The same image but for what is imported: a builder is not to take that as done.
    assert run("bento", "containerize", PAIR, "--backend", backend, **settings).returncode == 0
    asking = 'raise RuntimeError("Found no NVIDIA driver on your system.")\n'
    (tmp_path / "service.py").write_text(f"{(PAIR / 'service.py').read_text()}\n{asking}")
    (tmp_path / "bentofile.yaml").write_text("service: service:Front")
    assert run("bento", "build", tmp_path, "--name", f"eager_{backend}").returncode == 0

    refused = run("bento", "containerize", f"eager_{backend}:latest", "--backend", backend, **settings)

    assert refused.returncode == 5
    assert "error: a service asks for a GPU while it is imported, and a build has none" in refused.stderr
    assert "--no-import" in refused.stderr
