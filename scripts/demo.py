"""The whole promise on this machine, without a container engine: project → services → picture.

Makes tiny random weights, builds the Bento of the example, serves its graph as one process tree for each
service, posts a picture to the entry service and writes what comes back. Everything is kept in `.demo/`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from PIL import Image, ImageDraw

from bento_cli.store import Store
from bentoml._graph import as_text

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "controlnet"
DEMO = ROOT / ".demo"
LOG = DEMO / "serve.log"
BENTO = [sys.executable, "-m", "bento_cli"]
PROMPT = "an owl made of stained glass, high detail"


def main() -> None:
    DEMO.mkdir(exist_ok=True)
    os.environ |= {
        "BENTOML_HOME": str(DEMO / "bentoml"),
        "HF_HOME": str(DEMO / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "BENTO_DEMO": str(os.getpid()),
    }
    clock = Clock()
    subprocess.run([sys.executable, str(EXAMPLE / "tiny_weights.py"), os.environ["HF_HOME"]], check=True)
    clock.lap("tiny random weights")
    tag = build()
    clock.lap("bento build")
    say(f"\n{tag}\n{as_text(Store().get(tag).graph)}\n")
    with serving(tag, free_port()) as addresses:
        clock.lap("bento serve, until every service is ready")
        say("\n".join(addresses) + "\n")
        picture = post_picture(addresses[1].split()[1])
        clock.lap("POST /generate, one picture")
    clock.lap("stop, nothing left running")
    clock.show()
    say(f"\npicture: {picture.relative_to(ROOT)} (noise: the weights are random)")
    say(f"log:     {LOG.relative_to(ROOT)}")


class Clock:
    """What each step took."""

    def __init__(self) -> None:
        self._laps: list[tuple[str, float]] = []
        self._at = time.monotonic()

    def lap(self, step: str) -> None:
        now = time.monotonic()
        self._laps.append((step, now - self._at))
        self._at = now

    def show(self) -> None:
        for step, seconds in [*self._laps, ("together", sum(seconds for _, seconds in self._laps))]:
            say(f"{seconds:7.1f} s  {step}")


def build() -> str:
    # What is served on this machine is what is installed here: no index needs to be asked for versions.
    command = [*BENTO, "build", str(EXAMPLE), "--no-lock", "--output", "tag"]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return result.stdout.strip().removeprefix("__tag__:")


@contextmanager
def serving(tag: str, port: int) -> Iterator[list[str]]:
    """`bento serve` in a process of its own, stopped as Ctrl-C does; gives its table of addresses."""
    with LOG.open("w") as log:
        server = subprocess.Popen(
            [*BENTO, "serve", tag, "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        assert server.stdout is not None
        table: list[str] = []
        try:
            # The table comes when everything is ready; when the server ends instead, so does its output.
            rows = len(Store().get(tag).graph.services) + 1
            table = [line.rstrip() for line in itertools.islice(server.stdout, rows)]
            if len(table) < rows:
                sys.exit(f"the services did not start; the end of {LOG}:\n{LOG.read_text()[-3000:]}")
            yield table
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGINT)
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
            require_gone(table[1:])


def require_gone(rows: list[str]) -> None:
    """Fail when something still answers where a service was, or a process of the demo is still there."""
    for row in rows:
        host, _, port = row.split()[1].removeprefix("http://").rpartition(":")
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                sys.exit(f"something still answers: {row}")
    # Where there is /proc, every process that the demo started tells so by what it inherited.
    mark = f"BENTO_DEMO={os.environ['BENTO_DEMO']}".encode()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if environ.parent.name != str(os.getpid()) and mark in environ.read_bytes().split(b"\0"):
                sys.exit(f"process {environ.parent.name} is still running")


def post_picture(address: str) -> Path:
    """Post a drawing with many edges; returns where the answer was written."""
    drawing = DEMO / "edges.png"
    draw_edges().save(drawing)
    response = httpx.post(
        f"{address}/generate",
        files={"image": ("edges.png", drawing.read_bytes(), "image/png")},
        data={"params": f'{{"prompt": "{PROMPT}", "negative_prompt": null}}'},
        timeout=600,
    )
    if response.status_code != 200:
        sys.exit(f"POST /generate answered {response.status_code}: {response.text}")
    picture = DEMO / "picture.png"
    picture.write_bytes(response.content)
    with Image.open(picture) as image:
        image.verify()
        kind = response.headers["content-type"]
        say(f"POST {address}/generate → {response.status_code} {kind}, {image.width}x{image.height}")
    return picture


def draw_edges() -> Image.Image:
    """Circles and rays, 512 pixels wide."""
    image = Image.new("RGB", (512, 512), "white")
    draw = ImageDraw.Draw(image)
    for step in range(0, 512, 32):
        draw.line((256, 256, step, 0), fill=(step // 2, 60, 90), width=3)
        draw.line((256, 256, 512 - step, 511), fill=(200, step // 2, 40), width=3)
    for radius in range(20, 250, 30):
        draw.ellipse((256 - radius, 256 - radius, 256 + radius, 256 + radius), outline="black", width=4)
    return image


def free_port() -> int:
    """3000 where it is free, as `bento serve` takes, else any other."""
    for port in (3000, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise OSError("no port is free")


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
