"""The example's GPU service on this machine's GPU, its picture compared with the CPU's.

Runs the unedited service twice, each time as a process of its own: once on the GPU, once with every GPU
hidden. Both draw from the same noise (the module `fixed_noise` beside the example gives the pipeline its
latents), so that the two pictures differ by arithmetic alone: half precision there, single here.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "controlnet"
DEMO = ROOT / ".demo"
SIDE = 128
# Of 255. Another noise or prompt moves pixels by 20 and more on average.
LARGEST_MEAN_DIFFERENCE = 4.0


def main() -> None:
    device = require_gpu()
    weights = DEMO / "huggingface"
    subprocess.run([sys.executable, str(EXAMPLE / "tiny_weights.py"), str(weights)], check=True)
    environ = {**os.environ, "HF_HOME": str(weights), "HF_HUB_OFFLINE": "1"}
    on_gpu = picture("GPU", environ)
    on_cpu = picture("CPU", {**environ, "CUDA_VISIBLE_DEVICES": ""})
    compare(on_gpu, on_cpu, device)


def require_gpu() -> str:
    """The GPU's name, or an end with words."""
    try:
        import torch
    except ImportError:
        sys.exit(f"{sys.executable} has no torch: name an interpreter that has, `make check-gpu PYTHON=...`")
    if not torch.cuda.is_available():
        sys.exit(f"torch {torch.__version__} of {sys.executable} sees no GPU: nothing to compare")
    return str(torch.cuda.get_device_name())


def picture(where: str, environ: dict[str, str]) -> bytes:
    """Serve the service in its own process, call it once, and stop it."""
    import httpx
    from PIL import Image, ImageDraw

    drawing = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(drawing).ellipse((20, 20, SIDE - 20, SIDE - 30), outline="black", width=5)
    buffer = io.BytesIO()
    drawing.save(buffer, "PNG")
    with service(environ) as address:
        started = time.monotonic()
        response = httpx.post(
            f"{address}/generate_from",
            files={"image": ("edges.png", buffer.getvalue(), "image/png")},
            data={"prompt": "a cat", "latents": json.dumps(noise())},
            timeout=600,
        )
        if response.status_code != 200:
            sys.exit(f"{where}: {response.status_code} {response.text}")
        used = httpx.post(f"{address}/device_name", json={}, timeout=60).text
        print(f"{where}: picture from device `{used}` in {time.monotonic() - started:.2f} s")
    if used.startswith("cuda") != (where == "GPU"):
        sys.exit(f"the service ran on `{used}`")
    (DEMO / f"picture-{where.lower()}.png").write_bytes(response.content)
    return response.content


@contextmanager
def service(environ: dict[str, str]) -> Iterator[str]:
    port, management_port = random.sample(range(20000, 32000), 2)
    process = subprocess.Popen(
        [sys.executable, "-m", "bentoml", "fixed_noise:FixedNoise"],
        cwd=EXAMPLE,
        env={
            **environ,
            "BENTOML_HOST": "127.0.0.1",
            "BENTOML_PORT": str(port),
            "BENTOML_MANAGEMENT_PORT": str(management_port),
            "BENTOML_ABSENT_MODULES": "cv2",
        },
    )
    try:
        wait_ready(process, management_port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def wait_ready(process: subprocess.Popen[bytes], management_port: int) -> None:
    from bentoml._probe import is_ready

    deadline = time.monotonic() + 300
    while not is_ready(management_port):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit("the service did not become ready; its log is above")
        time.sleep(0.1)


def noise() -> list[object]:
    """Latents for the picture's size: 4 channels, an eighth of each side, the same on every machine."""
    source = random.Random(7)
    side = SIDE // 8
    return [[[[source.gauss(0, 1) for _ in range(side)] for _ in range(side)] for _ in range(4)]]


def compare(on_gpu: bytes, on_cpu: bytes, device: str) -> None:
    import numpy as np
    from PIL import Image

    first, second = (np.asarray(Image.open(io.BytesIO(data)), dtype=float) for data in (on_gpu, on_cpu))
    difference = float(np.abs(first - second).mean())
    print(f"{device}: mean difference of a pixel {difference:.2f} of 255, allowed {LARGEST_MEAN_DIFFERENCE}")
    if first.shape != second.shape or difference > LARGEST_MEAN_DIFFERENCE:
        sys.exit("the pictures differ")


if __name__ == "__main__":
    main()
