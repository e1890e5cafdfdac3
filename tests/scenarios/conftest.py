"""Whole runs: the `bento` command as a person types it, and what can be observed afterwards."""

from __future__ import annotations

import io
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "controlnet"
PAIR = ROOT / "tests" / "projects" / "pair"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def bento_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of this test run."""
    return tmp_path_factory.mktemp("bentoml")


@pytest.fixture(scope="session")
def package_index() -> dict[str, str]:
    """Settings that make locks of what containers find: the test bed's index, where that answers."""
    command = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    try:
        gateway = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        address = f"http://{gateway}:{os.environ.get('TB_INDEX_PORT', '3141')}"
        httpx.get(f"{address}/-/ready", timeout=5).raise_for_status()
    except (FileNotFoundError, subprocess.CalledProcessError, httpx.HTTPError):
        return {}
    return {"UV_DEFAULT_INDEX": f"{address}/simple"}


@pytest.fixture(scope="session")
def run(bento_home: Path, package_index: dict[str, str]) -> Run:
    """`run("bento", "list", **variables)`: a command's exit code and what it wrote; never waits for ever."""

    def run_command(
        *command: str | Path, cwd: Path = ROOT, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        program, *arguments = (str(part) for part in command)
        if program == "bento":
            program, arguments = sys.executable, ["-m", "bento_cli", *arguments]
        return subprocess.run(
            [program, *arguments],
            cwd=cwd,
            env={**package_index, **os.environ, "BENTOML_HOME": str(bento_home), **variables},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run_command


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """A Hugging Face cache with the example's tiny models, readable for any user."""
    # Containers run as another user: every folder above must let it through, and pytest's own do not.
    folder = Path(os.environ.get("TINY_WEIGHTS") or ROOT / ".demo" / "huggingface")
    result = run(sys.executable, EXAMPLE / "tiny_weights.py", folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def free_port() -> int:
    """A port of loopback."""
    return unused_port()


def unused_port() -> int:
    """A port of loopback below those that the system hands out by itself."""
    while True:
        port = random.randrange(10000, 20000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


@pytest.fixture
def project(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """A project of the files given: `project({"service.py": "..."})`."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / "project" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "project"

    return write


@pytest.fixture(scope="session")
def example_bento(run: Run) -> Path:
    """The folder of the example's Bento."""
    assert run("bento", "build", EXAMPLE).returncode == 0
    return Path(run("bento", "get", "control_net:latest", "-o", "path").stdout.strip())


@pytest.fixture(scope="session")
def example_images(run: Run, example_bento: Path) -> dict[str, str]:
    """The example's images by service, built by `bento containerize`."""
    result = run("bento", "containerize", "control_net:latest")
    assert result.returncode == 0, result.stderr
    version = example_bento.name
    return {
        "SDXLControlNetService": f"control_net/sdxl-control-net-service:{version}",
        "ControlNet": f"control_net/control-net:{version}",
    }


@pytest.fixture
def compose_down() -> Iterator[Callable[[str], None]]:
    """Remembers Compose projects that a test starts, and takes them down after it."""
    projects: list[str] = []
    yield projects.append
    for name in projects:
        command = ["docker", "compose", "--project-name", name, "down", "--volumes", "--timeout", "5"]
        subprocess.run(command, capture_output=True, check=False)


def post_drawing(port: int) -> Image.Image:
    """Post a drawing with edges to the example's entry service; the picture that comes back."""
    drawing = Image.new("RGB", (128, 96), "white")
    ImageDraw.Draw(drawing).ellipse((20, 10, 100, 80), outline="black", width=4)
    buffer = io.BytesIO()
    drawing.save(buffer, "PNG")
    response = httpx.post(
        f"http://127.0.0.1:{port}/generate",
        files={"image": ("edges.png", buffer.getvalue(), "image/png")},
        data={"params": '{"prompt": "a cat", "negative_prompt": null, "num_inference_steps": 3}'},
        timeout=120,
    )
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    picture = Image.open(io.BytesIO(response.content))
    picture.load()
    return picture
