"""The tiny models stand in for the real ones: same names, same calls, no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "controlnet" / "tiny_weights.py"

# The example's calls, in a process of their own: the libraries read HF_HOME as they are imported.
DRAW = """
import json, sys

def refuse_network(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"{event} {arguments}")

sys.addaudithook(refuse_network)

import numpy as np, torch
from PIL import Image
from diffusers import AutoencoderKL, ControlNetModel, StableDiffusionXLControlNetPipeline

def load(dtype):
    controlnet = ControlNetModel.from_pretrained("diffusers/controlnet-canny-sdxl-1.0", torch_dtype=dtype)
    vae = AutoencoderKL.from_pretrained("madebyollin/sdxl-vae-fp16-fix", torch_dtype=dtype)
    return StableDiffusionXLControlNetPipeline.from_pretrained(
        "stabilityai/stable-diffusion-xl-base-1.0", controlnet=controlnet, vae=vae, torch_dtype=dtype
    ).to("cpu")

def frame(margin):
    edges = np.zeros((96, 128, 3), np.uint8)
    edges[margin:-margin, (margin, -margin)] = 255
    edges[(margin, -margin), margin:-margin] = 255
    return Image.fromarray(edges)

def draw(pipe, prompt, edges):
    torch.manual_seed(0)
    options = dict(negative_prompt=None, controlnet_conditioning_scale=0.5, num_inference_steps=2)
    return pipe(prompt, image=edges, **options).to_tuple()[0][0]

def difference(picture, other):
    return float(np.abs(np.asarray(picture, float) - np.asarray(other, float)).mean())

pipe = load(torch.float32)
picture = draw(pipe, "a cat", frame(20))
print(json.dumps({
    "pipeline": type(pipe).__name__,
    "pixels_per_latent": pipe.vae_scale_factor,
    "size": picture.size,
    "deviation": float(np.asarray(picture).std()),
    "same again": difference(picture, draw(pipe, "a cat", frame(20))),
    "other prompt": difference(picture, draw(pipe, "a house by the sea", frame(20))),
    "other edges": difference(picture, draw(pipe, "a cat", frame(40))),
    "half": str(load(torch.float16).unet.dtype),
}))
"""


@pytest.fixture(scope="module")
def hf_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-weights") / "made-by-the-script"
    run_script(folder).check_returncode()
    return folder


@pytest.fixture(scope="module")
def drawn(hf_home: Path) -> dict[str, Any]:
    """What the Service's calls give: a picture, and how far it is from others."""
    environment = {**os.environ, "HF_HOME": str(hf_home), "HF_HUB_OFFLINE": "1"}
    draw = subprocess.run(
        [sys.executable, "-c", DRAW], env=environment, capture_output=True, text=True, check=False
    )
    assert draw.returncode == 0, draw.stderr
    report: dict[str, Any] = json.loads(draw.stdout)
    return report


def test_the_models_load_offline_under_their_real_names(drawn: dict[str, Any]) -> None:
    assert drawn["pipeline"] == "StableDiffusionXLControlNetPipeline"


def test_the_models_load_in_half_precision(drawn: dict[str, Any]) -> None:
    assert drawn["half"] == "torch.float16"


def test_a_latent_stands_for_as_many_pixels_as_in_the_real_model(drawn: dict[str, Any]) -> None:
    assert drawn["pixels_per_latent"] == 8


def test_a_picture_of_the_size_of_the_edges_comes_out(drawn: dict[str, Any]) -> None:
    assert drawn["size"] == [128, 96]


def test_the_picture_is_not_all_one_colour(drawn: dict[str, Any]) -> None:
    assert drawn["deviation"] > 5


def test_the_same_seed_draws_the_same_picture(drawn: dict[str, Any]) -> None:
    assert drawn["same again"] == 0


@pytest.mark.parametrize("what", ["other prompt", "other edges"])
def test_the_picture_follows(what: str, drawn: dict[str, Any]) -> None:
    assert drawn[what] > 1


def test_two_runs_write_the_same_bytes(hf_home: Path, tmp_path: Path) -> None:
    run_script(tmp_path / "another").check_returncode()

    assert tree(tmp_path / "another") == tree(hf_home)


def test_all_models_together_are_small(hf_home: Path) -> None:
    assert sum(len(content) for content in tree(hf_home).values()) < 22_000_000


def test_another_user_may_read_every_file(hf_home: Path) -> None:
    assert all(path.stat().st_mode & 0o004 for path in hf_home.rglob("*"))


def test_a_second_run_does_nothing_and_imports_no_library(hf_home: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in hf_home.rglob("*")}

    second = run_script(hf_home, search_path=broken_libraries(tmp_path))

    assert second.stderr == f"{hf_home} holds the tiny models already\n"
    assert {path: path.stat().st_mtime_ns for path in hf_home.rglob("*")} == before


def test_a_run_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    failed = run_script(tmp_path / "home", search_path=broken_libraries(tmp_path))

    assert "this library is broken" in failed.stderr
    assert not list(tmp_path.rglob("models--*"))


def test_models_from_elsewhere_are_left_alone(tmp_path: Path) -> None:
    real = tmp_path / "hub" / "models--madebyollin--sdxl-vae-fp16-fix"
    real.mkdir(parents=True)

    refused = run_script(tmp_path)

    assert refused.returncode == 1
    assert refused.stderr == (
        f"error: {real}: exists and was not made by this script\n\nhint: name another folder\n"
    )


def run_script(folder: Path, *, search_path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(search_path)} if search_path else None
    command = [sys.executable, str(SCRIPT), str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def broken_libraries(folder: Path) -> Path:
    """A folder for PYTHONPATH with libraries that cannot be imported."""
    for name in ("torch", "diffusers", "transformers"):
        (folder / f"{name}.py").write_text("raise RuntimeError('this library is broken')\n", encoding="utf-8")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
