"""How long the example takes to become images, beside the existing implementation, and how large they are.

Both build the same project with the same engine, base images and package index, by turns.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.bench.serving import REFERENCE, ROOT

EXAMPLE = ROOT / "examples" / "controlnet"
ROUNDS = 3
FROM_NOTHING = 2  # rounds of what takes long
WITHIN = 1.15
FLOOR = "bench-floor"
FLOOR_DOCKERFILE = """\
FROM python:3.11-slim-bookworm
RUN --mount=from=ghcr.io/astral-sh/uv:latest,source=/uv,target=/uv \\
    --mount=type=cache,target=/root/.cache/uv UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 \\
    /uv pip install --system --quiet opencv-python-headless numpy pillow fastapi uvicorn[standard] httpx
"""


@dataclass(frozen=True)
class Contender:
    """What builds a project and makes images of it.

    Args:
        build: the command that makes a Bento, and `images` that which makes its images.
        anew: what has the images' steps done again, whatever was done before.
    """

    name: str
    build: tuple[str, ...]
    images: tuple[str, ...]
    anew: tuple[str, ...]


HERE = Contender(
    "here",
    (sys.executable, "-m", "bento_cli", "build", ".", "-q"),
    (sys.executable, "-m", "bento_cli", "containerize", "control_net:latest", "-q"),
    ("--no-cache",),
)
EXISTING = Contender(
    "existing",
    (str(REFERENCE), "-m", "bentoml", "build", "."),
    (str(REFERENCE), "-m", "bentoml", "containerize", "control_net:latest"),
    ("--opt", "no-cache"),
)

CASES = (
    "build",
    "images, packages cached",
    "build and images, a line changed",
    "build and images, unchanged",
)
GOALS = {CASES[0]: 0.4, CASES[2]: 3.0, CASES[3]: 1.0}


class Runs:
    """The example in a folder of its own, built by one contender again and again."""

    def __init__(self, contender: Contender, folder: Path, index: dict[str, str]) -> None:
        self._contender = contender
        self._project = folder / contender.name
        shutil.copytree(EXAMPLE, self._project)
        self._environ = {
            **index,
            **os.environ,
            "BENTOML_HOME": str(folder / f"{contender.name}-home"),
            "BENTOML_DO_NOT_TRACK": "True",
        }
        bentofile = self._project / "bentofile.yaml"
        bentofile.write_text(f"name: control_net\n{bentofile.read_text()}")

    def timed(self, case: str) -> float:
        """Seconds that a case takes."""
        if case == CASES[2]:
            service = self._project / "service.py"
            service.write_text(f"{service.read_text()}\n# {time.time()}\n")
        begun = time.perf_counter()
        if case != CASES[1]:
            self._run(self._contender.build)
        if case != CASES[0]:
            self._run((*self._contender.images, *(self._contender.anew if case == CASES[1] else ())))
        return time.perf_counter() - begun

    def _run(self, command: tuple[str, ...]) -> None:
        result = subprocess.run(
            command, cwd=self._project, env=self._environ, capture_output=True, text=True, check=False
        )
        if result.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{(result.stdout + result.stderr)[-3000:]}")

    def sizes(self) -> dict[str, int]:
        """Bytes of the images by service."""
        command = [*self._contender.images, "--format", "json"]
        output = subprocess.run(
            command, cwd=self._project, env=self._environ, capture_output=True, text=True, check=True
        ).stdout
        return {image["service"]: image["size"] for image in json.loads(output)}


def main() -> None:
    index = package_index()
    if index is None:
        print("images: not measured, no container engine with a package index answers; `make testbed`")
        return
    with tempfile.TemporaryDirectory() as folder, no_image_left():
        runs = [Runs(contender, Path(folder), index) for contender in (HERE, EXISTING)]
        for one in runs:  # what is kept from now on: packages, locks, base images
            one.timed(CASES[3])
        print(f"{'the example':36}{'here':>10}{'existing':>10}{'ratio':>8}{'goal':>8}   medians")
        for case in CASES:
            rounds = FROM_NOTHING if case == CASES[1] else ROUNDS
            times = [[one.timed(case) for one in runs] for _ in range(rounds)]
            here, existing = (statistics.median(column) for column in zip(*times, strict=True))
            goal = GOALS.get(case)
            print(
                f"{case:36}{here:8.2f} s{existing:8.2f} s{here / existing:8.2f}"
                f"{'' if goal is None else f'{goal:7.1f}s   {verdict(here <= goal)}'}",
                flush=True,
            )
        show_sizes(runs[0].sizes(), size_of(existing_image()))


@contextmanager
def no_image_left() -> Iterator[None]:
    """Removes the images that were made meanwhile."""
    before = {*named_images()}
    try:
        yield
    finally:
        made = [image for image in named_images() if image not in before]
        subprocess.run(["docker", "rmi", "--force", *made], capture_output=True, check=False)


def named_images() -> list[str]:
    command = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def show_sizes(images: dict[str, int], existing: int) -> None:
    """The images, beside one that was written by hand for the CPU service alone."""
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", FLOOR, "-"],
        input=FLOOR_DOCKERFILE,
        text=True,
        capture_output=True,
        check=True,
    )
    floor = size_of(FLOOR)
    subprocess.run(["docker", "rmi", FLOOR], capture_output=True, check=True)
    for service, size in images.items():
        print(f"image of {service:27}{size / 1e6:7.0f} MB")
    ratio = images["ControlNet"] / floor
    print(
        f"{'by hand, for ControlNet alone':36}{floor / 1e6:7.0f} MB{'':10}{ratio:8.2f}{WITHIN:8.2f}"
        f"   {verdict(ratio <= WITHIN)}"
    )
    print(f"{'existing: one image for all':36}{existing / 1e6:7.0f} MB")


def existing_image() -> str:
    """The newest image of the existing implementation, whose name has no service in it."""
    command = ["docker", "images", "control_net", "--format", "{{.Repository}}:{{.Tag}}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]


def size_of(image: str) -> int:
    command = ["docker", "image", "inspect", "--format", "{{.Size}}", image]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def package_index() -> dict[str, str] | None:
    """The settings with which locks hold what containers find; None where no engine answers."""
    command = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    try:
        gateway = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return {"UV_DEFAULT_INDEX": f"http://{gateway}:{os.environ.get('TB_INDEX_PORT', '3141')}/simple"}


def verdict(is_reached: bool) -> str:
    return "reached" if is_reached else "MISSED"


if __name__ == "__main__":
    main()
