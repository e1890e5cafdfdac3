"""Models in images and beside them: built with a real engine, from a hub that asks who is there."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.hub import TOKEN, FakeHub, HubModel, running_hub
from tests.scenarios.conftest import Run
from tests.scenarios.test_images import Containerized, WriteProject, containerized, in_image, inspected

pytestmark = pytest.mark.docker

SERVICE = """
import pathlib
import bentoml

@bentoml.service
class Reader:
    words = bentoml.models.HuggingFaceModel("org/words", exclude=["*.md"])
    voice = bentoml.models.BentoModel("voice")

    @bentoml.api
    def read(self) -> list[str]:
        return [
            pathlib.Path(self.words, "large", "weights.bin").read_text(),
            pathlib.Path(self.voice.path_of("voice.txt")).read_text(),
            self.voice.info.labels["speaker"],
        ]

@bentoml.service
class Front:
    reader = bentoml.depends(Reader)

    @bentoml.api
    def read(self) -> list[str]:
        return self.reader.read()
"""
BENTOFILE = "service: service:Front\npython: {lock_packages: false}\n"
SAVE = """
import bentoml
with bentoml.models.create("voice:v1", labels={"speaker": "Ada"}) as model:
    open(model.path_of("voice.txt"), "w").write("a voice")
"""
READ = "import service; print(service.Reader().read())"

WORDS = HubModel(
    {"config.json": b"{}", "README.md": b"# Words", "large/weights.bin": b"words of old"},
    large=frozenset({"large/weights.bin"}),
    is_gated=True,
)


@pytest.fixture
def forget_images() -> Iterator[Callable[[str], None]]:
    """Remembers names of images that a test makes, up to the tag, and removes them after it."""
    names: list[str] = []
    yield names.append
    for name in names:
        remove_images(name)


def remove_images(name: str) -> None:
    command = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", name]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if listed:
        subprocess.run(["docker", "rmi", *listed], capture_output=True, check=True)


@pytest.fixture(scope="module")
def gateway() -> str:
    """The address under which containers and this machine find one server."""
    command = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def hub(gateway: str) -> Iterator[FakeHub]:
    with running_hub({"org/words": WORDS}, host=gateway) as hub:
        yield hub


@pytest.fixture(scope="module")
def user(hub: FakeHub) -> dict[str, str]:
    """The variables of somebody who may have the model."""
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}


@pytest.fixture(scope="module")
def reading(
    run: Run, hub: FakeHub, user: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Containerized]:
    """The images of two services, of which one has models."""
    folder = tmp_path_factory.mktemp("reading")
    (folder / "service.py").write_text(SERVICE)
    (folder / "bentofile.yaml").write_text(BENTOFILE)
    assert run(sys.executable, "-c", SAVE).returncode == 0
    built = run("bento", "build", folder, "--name", "reading", **user)
    assert built.returncode == 0, built.stderr
    yield containerized(run, "reading:latest", **user)
    remove_images("reading/*")


def layers(image: dict[str, Any]) -> list[str]:
    return list(inspected(image["digest"])["RootFS"]["Layers"])


def test_a_service_reads_its_models_from_its_image_alone(reading: Containerized) -> None:
    options = ("--network=none", "--read-only", "--cap-drop=ALL")

    read = in_image(reading["Reader"]["image"], "python", "-c", READ, options=options)

    assert read == "['words of old', 'a voice', 'Ada']"


def test_the_other_image_holds_no_model_and_no_image_what_was_left_out(reading: Containerized) -> None:
    script = "cd /opt/bento; find . -path './models/*' -type f | sort"

    found = {service: in_image(image["image"], "sh", "-c", script) for service, image in reading.items()}

    assert found["Front"] == ""
    assert found["Reader"].split() == [
        f"./models/hub/org--words/{WORDS.commit}/config.json",
        f"./models/hub/org--words/{WORDS.commit}/large/weights.bin",
        "./models/store/voice/v1/model.yaml",
        "./models/store/voice/v1/voice.txt",
    ]


def test_nothing_of_what_brings_models_is_in_an_image(reading: Containerized) -> None:
    script = (
        "ls -d /opt/hub /build /root/.cache 2>/dev/null; python -c 'import huggingface_hub' 2>&1 | tail -1"
    )

    assert in_image(reading["Reader"]["image"], "sh", "-c", script) == (
        "ModuleNotFoundError: No module named 'huggingface_hub'"
    )


def test_two_builds_that_share_no_step_give_one_digest(
    run: Run, user: dict[str, str], reading: Containerized
) -> None:
    version = reading["Reader"]["image"].rpartition(":")[2]

    again = containerized(run, f"reading:{version}", "--no-cache", **user)

    assert [image["digest"] for image in again.values()] == [image["digest"] for image in reading.values()]


def test_a_changed_line_brings_no_model_again(
    run: Run, hub: FakeHub, user: dict[str, str], reading: Containerized, project: WriteProject
) -> None:
    folder = project(
        {
            "service.py": SERVICE.replace("list[str]:", "list[str]:\n        print()", 1),
            "bentofile.yaml": BENTOFILE,
        }
    )
    assert run("bento", "build", folder, "--name", "reading", **user).returncode == 0
    hub.downloads.clear()

    changed = containerized(run, "reading:latest", **user)["Reader"]

    assert [
        new for new, old in zip(layers(changed), layers(reading["Reader"]), strict=True) if new != old
    ] == [layers(changed)[-2]]
    assert hub.downloads == []


def test_a_changed_model_is_one_layer_and_leaves_the_packages(
    run: Run, hub: FakeHub, user: dict[str, str], reading: Containerized, project: WriteProject
) -> None:
    folder = project({"service.py": SERVICE, "bentofile.yaml": BENTOFILE})
    # The builder keeps what it downloads: only what no run before had is asked for.
    files = {**WORDS.files, "large/weights.bin": secrets.token_bytes(32)}
    hub.models["org/words"] = replace(WORDS, files=files)
    assert run("bento", "build", folder, "--name", "reading", **user).returncode == 0
    hub.downloads.clear()

    changed = containerized(run, "reading:latest", **user)["Reader"]
    hub.models["org/words"] = WORDS

    pairs = zip(layers(changed), layers(reading["Reader"]), strict=True)
    assert sum(new != old for new, old in pairs) == 1
    assert hub.downloads == ["large/weights.bin"]


def test_the_token_is_in_no_layer_label_or_history(
    user: dict[str, str], reading: Containerized, bento_home: Path, tmp_path: Path
) -> None:
    reference = reading["Reader"]["image"]
    saved = tmp_path / "image.tar"

    subprocess.run(["docker", "save", "--output", str(saved), reference], check=True)
    history = subprocess.run(
        ["docker", "history", "--no-trunc", reference], capture_output=True, text=True, check=True
    )

    assert TOKEN.encode() not in saved.read_bytes()
    assert TOKEN not in history.stdout + json.dumps(inspected(reference))
    files = (path for path in bento_home.rglob("*") if path.is_file())
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]


def test_a_model_that_is_not_for_this_user_is_refused_before_anything_is_built(
    run: Run, hub: FakeHub, project: WriteProject
) -> None:
    folder = project({"service.py": SERVICE, "bentofile.yaml": BENTOFILE})

    result = run("bento", "build", folder, HF_ENDPOINT=hub.url)

    assert result.returncode == 4
    assert f"{hub.url} has no model org/words at main: it answers 401" in result.stderr
    assert "export HF_TOKEN=" in result.stderr


def test_plain_compose_builds_it_with_the_token_of_its_shell(
    run: Run,
    hub: FakeHub,
    user: dict[str, str],
    project: WriteProject,
    forget_images: Callable[[str], None],
) -> None:
    forget_images("composed/*")
    hub.models["org/words"] = replace(WORDS, files={**WORDS.files, "config.json": secrets.token_bytes(32)})
    folder = project({"service.py": SERVICE, "bentofile.yaml": BENTOFILE})
    assert run("bento", "build", folder, "--name", "composed", **user).returncode == 0
    bento = Path(run("bento", "get", "composed:latest", "-o", "path").stdout.strip())

    refused = run("docker", "compose", "build", cwd=bento, HF_ENDPOINT=hub.url)
    built = run("docker", "compose", "build", cwd=bento, **user)
    hub.models["org/words"] = WORDS

    assert "HF_TOKEN is not set where this image is built" in refused.stdout
    assert built.returncode == 0, built.stderr


AT_START = f"""{BENTOFILE}models:
  - {{model_id: "org/*", stage: start}}
  - {{tag: voice, stage: start}}
"""


def test_replicas_share_what_comes_at_their_start(
    run: Run,
    hub: FakeHub,
    user: dict[str, str],
    reading: Containerized,
    project: WriteProject,
    free_port: int,
    compose_down: Callable[[str], None],
) -> None:
    compose_down("reading")
    hub.downloads.clear()
    folder = project({"service.py": SERVICE, "bentofile.yaml": AT_START})
    assert run("bento", "build", folder, "--name", "reading", **user).returncode == 0
    containerized(run, "reading:latest", **user)
    bento = Path(run("bento", "get", "reading:latest", "-o", "path").stdout.strip())
    compose = ("docker", "compose", "--project-name", "reading")
    variables = {**user, "BENTOML_PUBLISHED_PORT": str(free_port)}

    up = run(*compose, "up", "--wait", "--scale", "reader=2", cwd=bento, **variables)

    assert up.returncode == 0, up.stderr
    read = httpx.post(f"http://127.0.0.1:{free_port}/read", timeout=30).json()
    assert read == ["words of old", "a voice", "Ada"]
    assert sorted(hub.downloads) == ["config.json", "large/weights.bin"]
