"""A Bento that goes from one machine to another as a file."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.conftest import PAIR, Run


def exported(run: Run, folder: Path, name: str) -> str:
    """The file of a Bento that was just built."""
    assert run("bento", "build", PAIR, "--name", name).returncode == 0
    return run("bento", "export", f"{name}:latest", folder).stdout.strip()


def test_an_imported_bento_is_the_one_that_was_built(run: Run, tmp_path: Path) -> None:
    file = exported(run, tmp_path, "travelling")
    elsewhere = {"BENTOML_HOME": str(tmp_path / "elsewhere")}

    imported = run("bento", "import", file, **elsewhere)

    shown, built = (run("bento", "get", "travelling:latest", **variables) for variables in (elsewhere, {}))
    assert imported.returncode == 0, imported.stderr
    assert shown.stdout == built.stdout


def test_a_damaged_file_is_refused_and_nothing_of_it_stays(run: Run, tmp_path: Path) -> None:
    file = Path(exported(run, tmp_path, "damaged"))
    file.write_bytes(file.read_bytes()[:-1000])
    elsewhere = {"BENTOML_HOME": str(tmp_path / "elsewhere")}

    refused = run("bento", "import", file, **elsewhere)

    assert refused.returncode == 1
    assert "damaged, or no archive" in refused.stderr
    assert run("bento", "list", "-o", "json", **elsewhere).stdout.strip() == "[]"


@pytest.mark.docker
def test_the_images_of_an_imported_bento_are_those_of_the_one_that_was_built(
    run: Run, tmp_path: Path
) -> None:
    file = exported(run, tmp_path, "carried")
    command = ("bento", "containerize", "carried:latest", "--format", "json")
    elsewhere = {"BENTOML_HOME": str(tmp_path / "elsewhere")}
    assert run("bento", "import", file, **elsewhere).returncode == 0

    here, there = (run(*command, **variables) for variables in ({}, elsewhere))

    images: list[list[dict[str, Any]]] = [json.loads(result.stdout) for result in (here, there)]
    subprocess.run(
        ["docker", "rmi", *(image["image"] for image in images[0])], capture_output=True, check=True
    )
    assert [image["digest"] for image in images[1]] == [image["digest"] for image in images[0]]
    assert all(image["cached"] for image in images[1])
