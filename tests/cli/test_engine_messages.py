"""Meaning that is read out of an engine's text."""

from __future__ import annotations

import pytest

from bento_cli.engine._failures import compose_failure, failing_step
from bento_cli.engine.docker import _follow, _version

BUILD_LOG = """\
#5 [image-0 packages 3/3] RUN uv pip install --requirement /build/requirements.txt
#5 0.512   x No solution found when resolving dependencies
#5 ERROR: process "/bin/sh -c uv pip install" did not complete successfully: exit code: 1
------
 > [image-0 packages 3/3] RUN uv pip install --requirement /build/requirements.txt:
0.512   x No solution found when resolving dependencies
------
Dockerfile:12
ERROR: failed to solve
"""


class Heard:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def at(self, text: str) -> None:
        self.lines.append(f"at {text}")

    def done(self, text: str) -> None:
        self.lines.append(f"done {text}")


def test_of_a_failed_build_the_failing_step_is_shown() -> None:
    assert failing_step(BUILD_LOG).startswith(" > [image-0".join(["------\n", ""]))
    assert "No solution found" in failing_step(BUILD_LOG)
    assert "#5" not in failing_step(BUILD_LOG)


def test_a_build_that_fails_otherwise_shows_its_errors() -> None:
    assert failing_step("reading\nERROR: no such file: Dockerfile\n") == "ERROR: no such file: Dockerfile"


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


def test_steps_are_told_when_they_start_and_long_ones_when_they_are_done() -> None:
    log = [
        "#1 [image-0 internal] load build definition\n",
        "#2 [image-0 packages 1/2] RUN --mount=type=cache,target=/x   pip install torch\n",
        "#2 DONE 12.3s\n",
        "#3 [image-0 final 1/1] COPY src/ /opt/\n",
        "#3 DONE 0.1s\n",
    ]
    heard = Heard()

    assert list(_follow(log, {"image-0": "Leaf"}, heard)) == log
    assert heard.lines == [
        "at Leaf: RUN pip install torch",
        "done Leaf: RUN pip install torch (12.3 s)",
        "at Leaf: COPY src/ /opt/",
    ]


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
