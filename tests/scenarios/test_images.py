"""What images hold and what they do not, by building them."""

from __future__ import annotations

import base64
import gzip
import http.server
import json
import os
import re
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.scenarios.conftest import PAIR, Run

pytestmark = pytest.mark.docker

Containerized: TypeAlias = dict[str, dict[str, Any]]
WriteProject: TypeAlias = Callable[[dict[str, str]], Path]

SERVICE = """
import bentoml

@bentoml.service
class Alone:
    @bentoml.api
    def echo(self, text: str) -> str:
        return text
"""


def containerized(run: Run, *arguments: str, **variables: str) -> Containerized:
    """The images that `bento containerize` tells of, by service."""
    result = run("bento", "containerize", *arguments, "--format", "json", **variables)
    assert result.returncode == 0, result.stderr
    return {image["service"]: image for image in json.loads(result.stdout)}


def inspected(reference: str) -> dict[str, Any]:
    command = ["docker", "image", "inspect", reference]
    [image] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return dict(image)


def in_image(reference: str, *command: str, options: tuple[str, ...] = ()) -> str:
    started = ["docker", "run", "--rm", "--entrypoint", command[0], *options, reference, *command[1:]]
    result = subprocess.run(started, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture
def forget_images() -> Iterator[Callable[[str], None]]:
    """Remembers names of images that a test makes, up to the tag, and removes them after it."""
    names: list[str] = []
    yield names.append
    for name in names:
        command = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", name]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        if listed:
            subprocess.run(["docker", "rmi", *listed], capture_output=True, check=True)


@pytest.fixture(scope="module")
def pair(run: Run) -> Iterator[Containerized]:
    """The images of two small services."""
    assert run("bento", "build", PAIR, "--name", "imaged").returncode == 0
    images = containerized(run, "imaged:latest")
    yield images
    subprocess.run(
        ["docker", "rmi", *(image["image"] for image in images.values())], capture_output=True, check=True
    )


def test_two_builds_that_share_no_step_give_one_digest(run: Run, pair: Containerized) -> None:
    again = containerized(run, "imaged:latest", "--no-cache")

    assert [image["digest"] for image in again.values()] == [image["digest"] for image in pair.values()]
    assert not any(image["cached"] for image in again.values())


def test_what_did_not_change_is_not_built_again(run: Run, pair: Containerized) -> None:
    result = run("bento", "containerize", "imaged:latest", "--progress", "plain")

    assert result.stdout.count("cached") == 2
    assert "built" not in result.stderr


def test_a_changed_line_makes_one_small_layer_anew(
    run: Run, pair: Containerized, project: WriteProject, forget_images: Callable[[str], None]
) -> None:
    forget_images("altered/*")
    source = (PAIR / "service.py").read_text()
    changed = project(
        {"service.py": source.replace("2 *", "3 *"), "bentofile.yaml": "service: service:Front"}
    )
    assert run("bento", "build", changed, "--name", "altered").returncode == 0

    images = containerized(run, "altered:latest")

    for service, image in images.items():
        layers, before = (inspected(found["digest"])["RootFS"]["Layers"] for found in (image, pair[service]))
        assert [new for new, old in zip(layers, before, strict=True) if new != old] == [layers[-2]]


def test_an_image_holds_no_compiler_and_no_cache_and_its_environment_no_installer(
    pair: Containerized,
) -> None:
    script = (
        "command -v gcc cc uv; find /opt -name '*.whl'; "
        "ls /tree /build /root/.cache /opt/venv/bin/pip* /var/lib/apt/lists/* 2>/dev/null; true"
    )
    assert in_image(pair["Front"]["image"], "sh", "-c", script) == ""


def test_all_that_an_image_adds_to_its_base_is_of_one_time(pair: Containerized) -> None:
    script = "find /opt/venv /opt/bento /home/bento /etc/passwd ! -mtime +10000"

    assert in_image(pair["Front"]["image"], "sh", "-c", script) == ""


@pytest.mark.parametrize("user", ["10001:10001", "10001:0", "1000710000:0"])
def test_a_service_starts_as_any_user_of_group_0_and_writes_where_it_may(
    pair: Containerized, user: str
) -> None:
    script = (
        'touch /home/bento/tasks/x 2>/dev/null || [ "$(id -g)" != 0 ] || exit 1; '
        'exec python -m bentoml._process.describe "$BENTOML_SERVICE" "$BENTOML_PROJECT"'
    )
    options = ("--user", user)

    assert (
        json.loads(in_image(pair["Front"]["image"], "sh", "-c", script, options=options))["name"] == "Front"
    )


def test_a_service_needs_no_file_system_that_it_can_write_to(pair: Containerized) -> None:
    command = ("python", "-m", "bentoml._process.describe", "service:Front", "/opt/bento/src")

    described = in_image(pair["Front"]["image"], *command, options=("--read-only", "--cap-drop=ALL"))

    assert json.loads(described)["name"] == "Front"


def test_an_image_says_what_it_is(pair: Containerized) -> None:
    config = inspected(pair["Front"]["image"])["Config"]

    assert config["User"] == "10001:0"
    assert config["Labels"]["org.bentoml.service"] == "Front"
    assert config["Labels"]["org.opencontainers.image.title"] == "imaged/front"
    assert config["Healthcheck"]["Test"] == ["CMD", "/opt/venv/bin/python", "-m", "bentoml._probe"]


def test_a_module_that_an_image_lacks_is_found_when_it_is_built(run: Run, project: WriteProject) -> None:
    folder = project(
        {"service.py": f"import in_no_requirement\n{SERVICE}", "bentofile.yaml": "service: service:Alone"}
    )
    assert run("bento", "build", folder, "--name", "lacking").returncode == 0

    result = run("bento", "containerize", "lacking:latest")

    assert result.returncode == 5
    assert "No module named 'in_no_requirement'" in result.stderr
    assert "--no-import" in result.stderr


def test_images_are_pushed_under_the_name_that_was_asked_for(
    run: Run, pair: Containerized, forget_images: Callable[[str], None]
) -> None:
    registry = os.environ.get("TB_REGISTRY", "127.0.0.1:5000")
    forget_images(f"{registry}/team/imaged/*")

    images = containerized(run, "imaged:latest", "-t", f"{registry}/team/imaged:1.2", "--push")

    assert images["Front"]["image"] == f"{registry}/team/imaged/front:1.2"
    digest = f"{registry}/team/imaged/front@{images['Front']['digest']}"
    subprocess.run(["docker", "pull", "--quiet", digest], capture_output=True, check=True)


def test_another_image_stands_in_for_the_base(
    run: Run, project: WriteProject, forget_images: Callable[[str], None]
) -> None:
    forget_images("elsewhere/*")
    bentofile = "service: service:Alone\ndocker: {base_image: 'nowhere.example/python:3.11'}"
    folder = project({"service.py": SERVICE, "bentofile.yaml": bentofile})
    assert run("bento", "build", folder, "--name", "elsewhere").returncode == 0

    refused = run("bento", "containerize", "elsewhere:latest")
    images = containerized(
        run, "elsewhere:latest", "--base-image-map", "nowhere.example/python:3.11=python:3.11-slim-bookworm"
    )

    assert "--base-image-map nowhere.example/python:3.11=" in refused.stderr
    assert "Alone" in images


def test_libraries_that_a_package_does_not_bring_are_there(
    run: Run, project: WriteProject, forget_images: Callable[[str], None]
) -> None:
    forget_images("seeing/*")
    bentofile = "service: service:Alone\npython: {packages: [opencv-python]}"
    folder = project({"service.py": f"import cv2\n{SERVICE}", "bentofile.yaml": bentofile})
    assert run("bento", "build", folder, "--name", "seeing").returncode == 0

    # Which imports the service.
    images = containerized(run, "seeing:latest")

    assert "opencv-python" in images["Alone"]["packages"]


HOSTILE = "a\\ \"b\" 'c' $HOME ${HOME} %{if} $(id) `id` ; && #é😀"


def test_values_are_in_the_image_as_they_were_written(
    run: Run, project: WriteProject, forget_images: Callable[[str], None]
) -> None:
    forget_images("hostile/*")
    said = {
        "service": "service:Alone",
        "labels": {f"key {HOSTILE}".replace("=", ""): HOSTILE},
        "envs": [{"name": "VALUE", "value": HOSTILE}],
    }
    # What is JSON is YAML as well.
    folder = project({"service.py": SERVICE, "bentofile.yaml": json.dumps(said, ensure_ascii=False)})
    assert run("bento", "build", folder, "--name", "hostile").returncode == 0

    config = inspected(containerized(run, "hostile:latest")["Alone"]["image"])["Config"]

    assert f"VALUE={HOSTILE}" in config["Env"]
    assert config["Labels"][f"key {HOSTILE}"] == HOSTILE


class PrivateIndex(http.server.BaseHTTPRequestHandler):
    """An index of one wheel, for those who know the password."""

    wheel: bytes
    password: str

    def do_GET(self) -> None:
        expected = base64.b64encode(f"reader:{self.password}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {expected}":
            self._answer(401, b"")
        elif self.path == "/simple/private-words/":
            self._answer(
                200, b'<a href="/private_words-1.0-py3-none-any.whl">private_words-1.0-py3-none-any.whl</a>'
            )
        elif self.path.endswith(".whl"):
            self._answer(200, self.wheel)
        else:
            self._answer(404, b"")

    do_HEAD = do_GET  # noqa: N815  # the name that its base class looks for

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", "Basic")
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as its base class calls it
        pass


PASSWORD = "xyzzy-plugh-42"
# As it is written, and as it is sent.
TRACES = (PASSWORD.encode(), base64.b64encode(f"reader:{PASSWORD}".encode()))


def layers_and_configuration(reference: str, folder: Path) -> Iterator[bytes]:
    """All that an image consists of, unpacked."""
    path = folder / "image.tar"
    subprocess.run(["docker", "save", "--output", str(path), reference], check=True)
    with tarfile.open(path) as saved:
        for member in saved:
            held = saved.extractfile(member) if member.isfile() else None
            content = held.read() if held is not None else b""
            yield gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def write_wheel(folder: Path, name: str) -> Path:
    """A wheel with one module, which holds a word."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", f"WORD = {name.partition('_')[0]!r}\n")
        metadata = f"{name}-1.0.dist-info"
        wheel.writestr(f"{metadata}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{metadata}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{metadata}/RECORD", "")
    return path


@contextmanager
def served(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """Where containers and this machine reach a server with this handler: `host:port`."""
    command = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    gateway = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    with http.server.ThreadingHTTPServer((gateway, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"{gateway}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def private_index(tmp_path: Path) -> Iterator[str]:
    """Where containers and this machine find an index that asks for `PASSWORD`: `host:port`."""
    path = write_wheel(tmp_path, "private_words")
    handler = type("Index", (PrivateIndex,), {"wheel": path.read_bytes(), "password": PASSWORD})
    with served(handler) as address:
        yield address


@pytest.mark.parametrize("has_lock", [True, False])
def test_a_password_of_an_index_is_in_no_layer_label_or_history_and_in_no_file(
    has_lock: bool,
    run: Run,
    project: WriteProject,
    bento_home: Path,
    private_index: str,
    tmp_path: Path,
    forget_images: Callable[[str], None],
) -> None:
    forget_images("private/*")
    said = {
        "service": "service:Alone",
        "python": {
            "packages": ["private-words"],
            "lock_packages": has_lock,
            "extra_index_url": [f"http://reader:${{INDEX_PASSWORD}}@{private_index}/simple"],
        },
    }
    folder = project({"service.py": f"import private_words\n{SERVICE}", "bentofile.yaml": json.dumps(said)})
    variables = {"INDEX_PASSWORD": PASSWORD}
    built = run("bento", "build", folder, "--name", "private", **variables)
    assert built.returncode == 0, built.stderr

    made = run("bento", "containerize", "private:latest", "--progress", "plain", **variables)

    assert made.returncode == 0, made.stderr
    [reference] = re.findall(r"private/alone:\w+", made.stdout)
    assert in_image(reference, "python", "-c", "import private_words as p; print(p.WORD)") == "private"
    history = subprocess.run(["docker", "history", "--no-trunc", reference], capture_output=True, check=True)
    places = {
        "a layer": b"".join(layers_and_configuration(reference, tmp_path)),
        "the history": history.stdout,
        "a label or another setting": json.dumps(inspected(reference)).encode(),
        "the Bento, a lock or another file of the store": b"".join(
            path.read_bytes() for path in bento_home.rglob("*") if path.is_file()
        ),
        "what was printed": (built.stdout + built.stderr + made.stdout + made.stderr).encode(),
    }
    assert [where for where, held in places.items() if any(trace in held for trace in TRACES)] == []


def test_a_password_that_is_not_there_is_asked_for_before_anything_is_built(
    run: Run, project: WriteProject
) -> None:
    said = {
        "service": "service:Alone",
        "python": {
            "lock_packages": False,
            "extra_index_url": ["https://u:${NOT_SET_HERE}@nowhere.example/simple"],
        },
    }
    folder = project({"service.py": SERVICE, "bentofile.yaml": json.dumps(said)})
    assert run("bento", "build", folder, "--name", "asks").returncode == 0

    result = run("bento", "containerize", "asks:latest")

    assert result.returncode == 1
    assert "NOT_SET_HERE, which has no value here" in result.stderr


class Repository(http.server.SimpleHTTPRequestHandler):
    """A folder with a repository of git, for readers."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as its base class calls it
        pass


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[str]:
    """The address of a repository whose package is `tracked_words`."""
    source = tmp_path / "source"
    source.mkdir()
    described = "[project]\nname = 'tracked-words'\nversion = '1.0'\n"
    (source / "pyproject.toml").write_text(f"{described}[tool.setuptools]\npy-modules = ['tracked_words']\n")
    (source / "tracked_words.py").write_text("WORD = 'tracked'\n")
    author = ("-c", "user.name=Somebody", "-c", "user.email=somebody@host.example")
    for arguments in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "."),
        (*author, "commit", "--quiet", "--message=One word"),
        ("clone", "--quiet", "--bare", ".", "../served/words.git"),
    ):
        subprocess.run(["git", *arguments], cwd=source, check=True)
    subprocess.run(["git", "update-server-info"], cwd=tmp_path / "served" / "words.git", check=True)
    with served(partial(Repository, directory=str(tmp_path / "served"))) as address:
        yield f"http://{address}/words.git"


def test_an_image_holds_what_is_on_no_index(
    run: Run, project: WriteProject, repository: str, forget_images: Callable[[str], None]
) -> None:
    forget_images("unlisted/*")
    said = {
        "service": "service:Alone",
        "python": {
            "packages": [f"git+{repository}@main#egg=tracked-words"],
            "wheels": ["libs/bundled_words-1.0-py3-none-any.whl"],
        },
    }
    folder = project(
        {
            "service.py": f"import bundled_words, tracked_words\n{SERVICE}",
            "bentofile.yaml": json.dumps(said),
            "libs/README": "",
        }
    )
    write_wheel(folder / "libs", "bundled_words")
    built = run("bento", "build", folder, "--name", "unlisted")
    assert built.returncode == 0, built.stderr

    reference = containerized(run, "unlisted:latest")["Alone"]["image"]

    program = "import bundled_words, tracked_words; print(bundled_words.WORD, tracked_words.WORD)"
    assert in_image(reference, "python", "-c", program) == "bundled tracked"
    assert in_image(reference, "sh", "-c", "command -v git; ls /build 2>/dev/null; true") == ""
