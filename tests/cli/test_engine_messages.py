"""Meaning that is read out of an engine's text."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest

from bento_cli.engine import BuildOptions, Image, ImageBuild
from bento_cli.engine._bake import BakeLog, bake_arguments, bake_file, digests, shortened
from bento_cli.engine._failures import build_failure, compose_failure
from bento_cli.engine._versions import version_in
from bento_cli.engine.docker import _pushed_digest, compose_environment
from bento_cli.engine.plain import (
    BUILDAH,
    NERDCTL,
    PODMAN,
    PlainBuilder,
    Program,
    StepLog,
    build_arguments,
    image_in,
    without_start_interval,
)
from bento_cli.errors import EngineError

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


def test_what_a_folder_of_compose_has_is_not_taken_from_the_shell(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('TOKEN_OF_X6="of the folder"\n')
    shell = {"TOKEN_OF_X6": "of the shell", "COMPOSE_FILE": "other.yaml", "HF_TOKEN": "mine"}

    assert compose_environment(tmp_path, shell) == {"HF_TOKEN": "mine"}
    assert compose_environment(tmp_path / "nowhere", {"A": "1"}) == {"A": "1"}


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
        (
            "Error: initializing source docker://mirror.example/python:3: pinging container registry: no",
            "--base-image-map mirror.example/python:3=",
        ),
        ('ERROR: target a: Get "http://localhost:1/v2/": dial tcp: refused', "answer at localhost:1?"),
        (
            "Error: pinging container registry localhost:1: Get",
            "answer at localhost:1?",
        ),
        ("ERROR: failed to push a/b:1: push access denied: authorization failed", "docker login"),
        ("exec /bin/sh: exec format error", "binfmt"),
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


IMPORT = 'Shop: RUN python -m bentoml._process.describe "$BENTOML_SERVICE"'


@pytest.mark.parametrize(
    "words",
    [
        "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
        "AssertionError: Torch not compiled with CUDA enabled",
        "RuntimeError: No CUDA GPUs are available",
        "RuntimeError: Unable to initialize backend 'cuda': FAILED_PRECONDITION",
        "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory",
    ],
)
def test_a_service_that_asks_for_a_gpu_while_it_is_imported_is_told_where_to_ask(words: str) -> None:
    error = build_failure(f"{IMPORT}\n  the service cannot be imported: {words}")

    assert error.message == "a service asks for a GPU while it is imported, and a build has none"
    assert "bento deploy --no-import" in (error.hint or "")


def test_a_step_that_only_speaks_of_a_gpu_is_no_such_service() -> None:
    assert "GPU" not in build_failure("Shop: RUN pip install\n  No CUDA GPUs are available").message


PLAIN = replace(
    ROOT,
    labels={"a": "b c"},
    arguments={"CHECK": "imported", "SOURCE_DATE_EPOCH": "0"},
    base_images={"python:3": "mirror/python:3"},
    secrets=("TOKEN",),
)


@pytest.mark.parametrize("program", [PODMAN, BUILDAH])
def test_podman_and_buildah_are_told_what_to_build_in_arguments(program: Program) -> None:
    options = BuildOptions(platforms=("linux/arm64",), use_cache=False, pull=True)

    assert build_arguments(program, PLAIN, options, Path("/x/Dockerfile"), Path("/x/id")) == [
        "build",
        "--format",
        "docker",
        "--layers",
        "--file=/x/Dockerfile",
        "--iidfile=/x/id",
        "--tag=a/root:1",
        "--label=a=b c",
        "--build-arg=CHECK=imported",
        "--build-context=python:3=docker-image://mirror/python:3",
        "--secret=id=TOKEN,env=TOKEN",
        "--platform=linux/arm64",
        "--timestamp=0",
        "--no-cache",
        "--pull=true",
        "/bento",
    ]


def test_nerdctl_which_has_buildkit_is_told_times_by_an_argument_of_the_build() -> None:
    assert build_arguments(NERDCTL, PLAIN, BuildOptions(), Path("/bento/Dockerfile"), Path("/x/id")) == [
        "build",
        "--progress",
        "plain",
        "--file=/bento/Dockerfile",
        "--iidfile=/x/id",
        "--tag=a/root:1",
        "--label=a=b c",
        "--build-arg=CHECK=imported",
        "--build-arg=SOURCE_DATE_EPOCH=0",
        "--build-context=python:3=docker-image://mirror/python:3",
        "--secret=id=TOKEN,env=TOKEN",
        "--pull=false",
        "/bento",
    ]


def test_an_option_of_a_health_check_that_podman_does_not_know_is_left_out() -> None:
    dockerfile = 'FROM a\nHEALTHCHECK --interval=10s --start-interval=1s \\\n    CMD ["x"]\n'

    assert without_start_interval(dockerfile) == 'FROM a\nHEALTHCHECK --interval=10s \\\n    CMD ["x"]\n'


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (BuildOptions(platforms=("linux/amd64", "linux/arm64")), "one platform at a time"),
        (BuildOptions(sbom="true"), "`--sbom` and `--provenance` go with `--backend docker`"),
    ],
)
def test_what_only_a_bake_does_is_refused(options: BuildOptions, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        PlainBuilder(PODMAN).build([PLAIN], Heard(), options)


def test_a_program_that_is_not_there_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(EngineError, match="the `nerdctl` command is missing") as caught:
        PlainBuilder(NERDCTL).check()

    assert caught.value.hint == "install nerdctl, or build with another program: `--backend docker`"


def heard_of(lines: list[str]) -> tuple[StepLog, list[str]]:
    """What is told of a build's output, without how long it took."""
    heard = Heard()
    log = StepLog("Root", heard)
    for line in lines:
        log.read(line)
    return log, [line.rpartition(" in ")[0] or line for line in heard.lines]


def test_a_build_of_podman_is_told_step_by_step() -> None:
    log, lines = heard_of(
        [
            "[1/2] STEP 1/2: FROM python:3 AS packages",
            "[1/2] STEP 2/2: RUN pip install torch",
            "Collecting torch",
            "--> 0123abc",
            "[2/2] STEP 1/1: FROM python:3",
        ]
    )

    assert lines == [
        "Root at FROM python:3 AS packages",
        "Root did FROM python:3 AS packages",
        "Root at RUN pip install torch",
        "Root wrote Collecting torch",
        "Root wrote --> 0123abc",
        "Root did RUN pip install torch",
        "Root at FROM python:3",
    ]
    assert not log.is_cached


@pytest.mark.parametrize(
    "lines",
    [
        ["STEP 1/2: FROM a", "STEP 2/2: RUN b", "--> Using cache 0123abc", "--> 0123abc"],
        ["#5 [1/2] FROM a", "#6 [packages 2/2] RUN b", "#6 CACHED"],
    ],
)
def test_a_build_of_steps_that_were_all_done_before_is_cached(lines: list[str]) -> None:
    assert heard_of(lines)[0].is_cached


def test_of_a_build_that_failed_its_last_step_is_shown() -> None:
    log, _ = heard_of(["STEP 1/2: FROM a", "STEP 2/2: RUN false", "Error: exit status 1"])

    assert log.text() == "STEP 2/2: RUN false\nError: exit status 1"


@pytest.mark.parametrize(
    "inspected",
    [
        '[{"Id": "0123", "Size": 5, "Config": {"Labels": {"a": "b"}}}]',
        '{"FromImageID": "0123", "Size": 5, "Config": "{}", "Docker": {"config": {"Labels": {"a": "b"}}}}',
    ],
)
def test_an_image_is_read_from_what_podman_and_buildah_show(inspected: str) -> None:
    assert image_in("shop:1", inspected) == Image(
        reference="shop:1", identifier="sha256:0123", size=5, labels={"a": "b"}
    )


@pytest.mark.parametrize("inspected", ["", "[]", "{}", "not JSON"])
def test_what_shows_no_image_is_none(inspected: str) -> None:
    assert image_in("shop:1", inspected) is None


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
    assert version_in(text) == version
