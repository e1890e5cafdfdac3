"""What a project says of its images, by building them and by running them with few rights."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.scenarios.conftest import Run
from tests.scenarios.test_images import SERVICE, WriteProject, containerized, in_image, inspected

pytestmark = pytest.mark.docker

Build = Callable[..., str]


@pytest.fixture
def built(run: Run, project: WriteProject) -> Iterator[Build]:
    """`built({"service.py": "..."}, "name")`: the image of the one service of such a project."""
    references: list[str] = []

    def build(files: dict[str, str], name: str) -> str:
        result = run("bento", "build", project(files), "--name", name)
        assert result.returncode == 0, result.stderr
        [image] = containerized(run, f"{name}:latest").values()
        references.append(image["image"])
        return str(image["image"])

    yield build
    subprocess.run(["docker", "rmi", *references], capture_output=True, check=True)


IMAGE = """
import bentoml

image = (
    bentoml.images.Image(python_version="3.11")
    .system_packages("hello")
    .run("hello > /etc/greeting; echo 'two\\nlines' '$HOME' >> /etc/greeting")
    .python_packages("tomli")
    .run("python -c 'import tomli; print(tomli.__name__)' > ~/package")
    .build_include("data")
    .run_script("scripts/setup.sh")
)

@bentoml.service(image=image)
class Alone:
    @bentoml.api
    def echo(self, text: str) -> str:
        return text
"""
FILES = {
    "service.py": IMAGE,
    "bentofile.yaml": "service: service:Alone\ninclude: ['*.py']\n",
    "data/words.txt": "a b c",
    "scripts/setup.sh": "#!/bin/sh\ncp data/words.txt /srv/words && uv pip install --quiet iniconfig\n",
}


def test_an_image_is_made_as_its_service_says(built: Build) -> None:
    reference = built(FILES, "told")

    script = "cat /etc/greeting ~/package /srv/words; python -c 'import iniconfig'; ls /opt/bento/src"
    assert in_image(reference, "sh", "-c", f"{script}; command -v uv; true").splitlines() == [
        *("Hello, world!", "two", "lines $HOME", "tomli", "a b cbentofile.yaml", "service.py"),
    ]


def test_what_commands_make_is_the_same_each_time(run: Run, built: Build) -> None:
    first = inspected(built(FILES, "told-again"))

    [image] = containerized(run, "told-again:latest", "--no-cache").values()

    assert image["digest"] == first["Id"]


def test_a_changed_script_makes_the_image_anew(built: Build) -> None:
    built(FILES, "changing")

    reference = built(
        {**FILES, "scripts/setup.sh": "echo changed > /srv/words; pip install iniconfig"}, "changing"
    )

    assert in_image(reference, "cat", "/srv/words") == "changed"


def test_a_setup_script_runs_once_the_packages_are_there(built: Build) -> None:
    bentofile = """
        service: service:Alone
        python: {packages: [tomli]}
        docker: {setup_script: setup.py, system_packages: [hello], env: {GREETING: "$x"}}
        """
    said = "open('/srv/said', 'w').write(tomli.__name__ + os.environ['GREETING'])"
    script = f"#!/usr/bin/env python\nimport os, tomli\n{said}\n"
    files = {"service.py": SERVICE, "bentofile.yaml": bentofile, "setup.py": script}

    reference = built(files, "set-up")

    assert in_image(reference, "sh", "-c", "cat /srv/said; hello") == "tomli$xHello, world!"


TEMPLATE = """{% extends bento_base_template %}
{% block SETUP_BENTO_BASE_IMAGE %}
{{ super() }}
RUN echo base > /srv/base
{% endblock %}
{% block SETUP_BENTO_USER %}
{{ super() }}
RUN echo user > {{ bento__home }}/user && chown {{ bento__uid_gid }} {{ bento__home }}/user
{% endblock %}
{% block SETUP_BENTO_ENVARS %}
{{ super() }}
ENV TOLD_BY=template
{% endblock %}
{% block SETUP_BENTO_COMPONENTS %}
{{ super() }}
RUN --mount=type=bind,source=src,target=/in python -c "print(open('/in/word.txt').read())" > /srv/components
{% endblock %}
{% block SETUP_BENTO_ENTRYPOINT %}
{{ super() }}
LABEL told-by=template
{% endblock %}
"""


def test_each_block_of_a_template_has_its_place_in_the_image(built: Build) -> None:
    bentofile = "service: service:Alone\ndocker: {dockerfile_template: Dockerfile.template}\n"
    files = {"service.py": SERVICE, "bentofile.yaml": bentofile, "word.txt": "word"}

    reference = built({**files, "Dockerfile.template": TEMPLATE}, "templated")

    said = in_image(
        reference, "sh", "-c", 'cat /srv/base ~/user /srv/components; echo "$TOLD_BY"; stat -c %U ~/user'
    )
    assert said.split() == ["base", "user", "word", "template", "bento"]
    assert inspected(reference)["Config"]["Labels"]["told-by"] == "template"


def test_a_base_without_python_gets_one(built: Build) -> None:
    bentofile = (
        "service: service:Alone\ndocker: {base_image: 'debian:bookworm-slim', python_version: '3.12'}\n"
    )

    reference = built({"service.py": SERVICE, "bentofile.yaml": bentofile}, "bare")

    assert in_image(reference, "python", "--version").startswith("Python 3.12")


def test_a_base_of_another_python_than_was_asked_for_is_said(run: Run, project: WriteProject) -> None:
    bentofile = "service: service:Alone\ndocker: {base_image: 'python:3.11-slim', python_version: '3.12'}\n"
    folder = project({"service.py": SERVICE, "bentofile.yaml": bentofile})
    assert run("bento", "build", folder, "--name", "other", "--no-lock").returncode == 0

    result = run("bento", "containerize", "other:latest")

    assert result.returncode == 5
    assert "No interpreter found for Python 3.12" in result.stderr


@pytest.fixture(scope="module")
def alone(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image of a service that says nothing of it."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "service.py").write_text(SERVICE)
    assert run("bento", "build", folder, "--name", "hardened").returncode == 0
    [image] = containerized(run, "hardened:latest").values()
    yield image["image"]
    subprocess.run(["docker", "rmi", image["image"]], capture_output=True, check=True)


CALL = """
import httpx, time
for _ in range(300):
    try:
        print(httpx.post("http://127.0.0.1:3000/echo", json={"text": "here"}).text)
    except httpx.ConnectError:
        time.sleep(0.1)  # its port opens when it is ready
    else:
        break
"""


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--read-only", "--tmpfs", "/tmp"),
        ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        ("--user", "1000710000:0", "--cap-drop", "ALL"),
        ("--user", "1000710000:0", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
        ("--user", "1234:1234"),
    ],
    ids=" ".join,
)
def test_a_service_answers_with_few_rights(alone: str, options: tuple[str, ...]) -> None:
    container = subprocess.run(
        ["docker", "run", "--detach", *options, alone], capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        called = subprocess.run(
            ["docker", "exec", container, "python", "-c", CALL], capture_output=True, text=True, check=True
        )
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", container], capture_output=True, check=True)

    assert called.stdout.strip() == "here"


def test_an_image_says_what_it_answers_and_whom_it_calls(alone: str) -> None:
    labels = inspected(alone)["Config"]["Labels"]

    assert json.loads(labels["org.bentoml.graph"]) == {"entry": "Alone", "services": {"Alone": []}}
    assert json.loads(labels["org.bentoml.schema"]) == {"echo": "(text: str) -> str"}
    assert labels["org.bentoml.contract"].startswith("sha256:")
