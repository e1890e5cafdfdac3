"""Meaning that is read out of an engine's text."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from bento_cli.engine import BuildOptions, ImageBuild
from bento_cli.engine._bake import BakeLog, bake_arguments, bake_file, digests, shortened
from bento_cli.engine._failures import build_failure, compose_failure
from bento_cli.engine.docker import _pushed_digest, _version

LEAF = ImageBuild(name="Leaf", context=Path("/bento"), dockerfile="Dockerfile", tags=("a/leaf:1",))
ROOT = ImageBuild(name="Root", context=Path("/bento"), dockerfile="Dockerfile", tags=("a/root:1",))
BOTH = {"image-0": LEAF, "image-1": ROOT}


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, image: str, text: str, /) -> None:
        self.lines.append(f"{image} at {text}")

    def step_done(self, image: str, text: str, seconds: float, /) -> None:
        self.lines.append(f"{image} did {text} in {seconds:g} s")

    def output(self, image: str, line: str, /) -> None:
        self.lines.append(f"{image} wrote {line}")

    def done(self, image: str, seconds: float, /) -> None:
        self.lines.append(f"{image} took {seconds:g} s")


def vertex(name: str, started: int | None = None, ended: int | None = None, **more: object) -> str:
    """A line of `--progress rawjson` about one step; seconds of a minute."""
    times = {"started": started, "completed": ended}
    at = {key: f"2026-01-01T00:00:{at:02d}.123456789Z" for key, at in times.items() if at is not None}
    return json.dumps({"vertexes": [{"digest": name, "name": name, **at, **more}]})


def output(name: str, text: str) -> str:
    return json.dumps({"logs": [{"vertex": name, "data": base64.b64encode(text.encode()).decode()}]})


def read(lines: list[str], images: dict[str, ImageBuild]) -> tuple[BakeLog, list[str]]:
    heard = Heard()
    log = BakeLog(images, heard)
    for line in lines:
        log.read(line)
    return log, heard.lines


INSTALL = "[image-0 packages 3/3] RUN --mount=type=cache,target=/x   pip install torch"


def test_a_step_is_told_when_it_starts_with_what_it_writes_and_when_it_is_done() -> None:
    _, heard = read([vertex(INSTALL, 1), output(INSTALL, "found\nit\n"), vertex(INSTALL, 1, 13)], BOTH)

    assert heard == [
        "Leaf at RUN pip install torch",
        "Leaf wrote found",
        "Leaf wrote it",
        "Leaf did RUN pip install torch in 12 s",
    ]


def test_an_image_takes_from_its_first_step_to_its_export() -> None:
    export = "[image-0] exporting to image"

    log, heard = read([vertex(INSTALL, 1, 13), vertex(export, 14), vertex(export, 14, 16)], BOTH)

    assert heard[-1] == "Leaf took 15 s"
    assert log.built({"image-0": "sha256:1"})["Leaf"].digest == "sha256:1"


def test_an_image_is_cached_when_none_of_its_steps_had_to_be_done() -> None:
    log, _ = read(
        [vertex(INSTALL, 1, 13), vertex("[image-1 final 1/2] COPY a b", 1, 1, cached=True)],
        BOTH,
    )

    assert {name: built.is_cached for name, built in log.built({}).items()} == {"Leaf": False, "Root": True}


def test_what_the_builder_does_around_the_steps_is_not_told() -> None:
    names = [
        "[image-0 internal] load build definition",
        "[image-0] resolving provenance",
        "loading bake file",
    ]

    assert read([vertex(name, 1, 9) for name in names], BOTH)[1] == []


def test_the_only_image_of_a_bake_is_not_named_in_its_steps() -> None:
    _, heard = read(
        [vertex("[packages 3/3] RUN pip", 1), vertex("exporting to image", 2, 3)], {"image-0": LEAF}
    )

    assert heard == ["Leaf at RUN pip", "Leaf at exporting to image", "Leaf took 2 s"]


def test_of_a_failed_build_the_failing_step_is_shown_with_its_output() -> None:
    log, _ = read(
        [
            vertex(INSTALL, 1),
            output(INSTALL, "No solution found\n"),
            vertex("[image-1 packages 3/3] RUN pip", 1, 2, error="context canceled"),
            vertex(INSTALL, 1, 3, error="exit code: 1"),
            "ERROR: target image-0: failed to solve\n",
        ],
        BOTH,
    )

    assert log.failure().splitlines() == [
        "Leaf: RUN pip install torch",
        "  No solution found",
        "ERROR: target Leaf: failed to solve",
    ]


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"vertexes": null}', "{}", '{"logs": [{"vertex": "x", "data": "?"}]}']
)
def test_lines_that_say_nothing_are_passed_over(line: str) -> None:
    assert read([line], BOTH)[1] == []


def test_a_bake_file_holds_every_value_as_it_is() -> None:
    image = ImageBuild(
        name="A",
        context=Path("/b"),
        dockerfile="Dockerfile",
        tags=("a:1",),
        labels={"${x}": '"%{ if true }" $HOME'},
        base_images={"python:3": "mirror/python:3"},
        secrets=("PASSWORD",),
    )

    target = json.loads(bake_file([image]))["target"]["image-0"]

    # Bake reads texts as templates of HCL, where these two beginnings are doubled.
    assert target["labels"] == {"$${x}": '"%%{ if true }" $HOME'}
    assert target["contexts"] == {"python:3": "docker-image://mirror/python:3"}
    assert target["secret"] == ["id=PASSWORD,env=PASSWORD"]


def test_options_are_passed_on_to_the_builder() -> None:
    options = BuildOptions(platforms=("linux/amd64", "linux/arm64"), push=True, sbom="true", use_cache=False)

    assert bake_arguments(options) == [
        "--push",
        "--set=*.platform=linux/amd64,linux/arm64",
        "--no-cache",
        "--sbom=true",
    ]


def test_images_are_loaded_where_they_are_not_pushed() -> None:
    assert bake_arguments(BuildOptions()) == ["--load"]


def test_digests_are_found_in_what_a_bake_writes_of_its_images() -> None:
    metadata = {"image-0": {"containerimage.digest": "sha256:1"}, "image-1": {}, "buildx.build.warnings": []}

    assert digests(json.dumps(metadata)) == {"image-0": "sha256:1"}


def test_a_step_is_shown_without_mounts_and_on_one_line() -> None:
    text = shortened("RUN --mount=type=cache,target=/x   a && \\\n  " + "b" * 100)

    assert text == "RUN a && \\ …"


@pytest.mark.parametrize(
    ("log", "hint"),
    [
        ("ERROR: failed: mirror.example/python:3: not found", "--base-image-map mirror.example/python:3="),
        (
            "ERROR: failed to resolve source metadata for docker.io/library/python:3.99-slim: no",
            "--base-image-map python:3.99-slim=",
        ),
        ("ERROR: docker exporter does not currently support exporting manifest lists", "are pushed"),
        ("ERROR: Multi-platform build is not supported for the docker driver", "docker buildx create"),
        ("ERROR: Attestation is not supported for the docker driver", "docker buildx create"),
    ],
)
def test_what_a_builder_cannot_do_is_told_with_what_to_do(log: str, hint: str) -> None:
    error = build_failure(log)

    assert error.hint is not None
    assert hint in error.hint
    assert error.details == log


@pytest.mark.parametrize(
    "text",
    [
        "Bind for 127.0.0.1:3000 failed: port is already allocated",
        "failed to bind host port for 127.0.0.1:3000:172.30.0.3:3000/tcp: address already in use",
        "failed to listen tcp4 127.0.0.1:3000: bind: address already in use",
    ],
)
def test_a_port_in_use_is_told_with_what_to_do(text: str) -> None:
    message, hint = compose_failure(f"Error response from daemon: {text}\n")

    assert message == "port 127.0.0.1:3000 is in use"
    assert hint is not None
    assert "--port" in hint


def test_what_is_not_known_is_passed_on_as_it_was_said() -> None:
    assert compose_failure("Creating\nsomething else happened\n") == ("something else happened", None)


def test_of_the_registries_that_hold_an_image_the_names_own_one_tells_its_digest() -> None:
    digests = ["other/shop@sha256:1", "host:5000/shop@sha256:2"]

    assert _pushed_digest("host:5000/shop:1.2", digests) == "sha256:2"
    assert _pushed_digest("host:5000/else:1.2", digests) is None


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Docker Compose version v2.40.3-3", (2, 40)),
        ("github.com/docker/buildx 0.29.1+ds1 abc", (0, 29)),
        ("28.5.2+dfsg4", (28, 5)),
        ("nothing", None),
    ],
)
def test_versions_are_found_in_what_the_commands_print(text: str, version: tuple[int, int] | None) -> None:
    assert _version(text) == version
