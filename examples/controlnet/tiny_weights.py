"""Tiny stand-ins for the three models of the ControlNet example, laid out as a Hugging Face cache.

    python examples/controlnet/tiny_weights.py FOLDER

makes a folder with which the example's Service runs unedited, without a network and without a GPU:

    HF_HOME=FOLDER HF_HUB_OFFLINE=1 bento serve

The models have the architecture of the real ones and random weights, so the pictures are patterns that change with
the prompt and with the edges, not photographs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

# The libraries take seconds to import. A folder that is complete needs none of them,
# so each function that builds a model imports what it builds it with.
if TYPE_CHECKING:
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
    from torch.nn import Module
    from transformers import CLIPTextConfig

STAMP: Final = "made-by-tiny-weights"

TEXT_WIDTH: Final = 32
PROMPT_TOKENS: Final = 77
SIZE_EMBEDDING: Final = 8

# What the UNet and the ControlNet have in common: the second adds its features to those of the first.
TWO_LEVELS: Final[dict[str, Any]] = {
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": (2, 4),
    "transformer_layers_per_block": (1, 1),
    "use_linear_projection": True,
    "cross_attention_dim": 2 * TEXT_WIDTH,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": SIZE_EMBEDDING,
    "projection_class_embeddings_input_dim": 6 * SIZE_EMBEDDING + TEXT_WIDTH,
}
# Four levels make one latent out of 8 × 8 pixels, as the real one does.
FOUR_LEVELS: Final[dict[str, Any]] = {
    "block_out_channels": (16, 16, 32, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "norm_num_groups": 8,
    "scaling_factor": 0.13025,
    "force_upcast": False,
}
BASE_COMPONENTS: Final[dict[str, tuple[str, str]]] = {
    "scheduler": ("diffusers", "EulerDiscreteScheduler"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "tokenizer_2": ("transformers", "CLIPTokenizer"),
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
}


def main() -> None:
    """Fill the folder named on the command line, unless it is complete already."""
    parser = argparse.ArgumentParser(
        description="Make tiny models with random weights, with which the ControlNet example runs offline."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="what HF_HOME will name; made if missing")
    folder: Path = parser.parse_args().folder

    hub = folder / "hub"
    foreign = [target for target in _targets(hub) if target.exists() and not (target / STAMP).exists()]
    if foreign:
        sys.exit(f"error: {foreign[0]}: exists and was not made by this script\n\nhint: name another folder")
    if all(_is_current(target) for target in _targets(hub)):
        print(f"{folder} holds the tiny models already", file=sys.stderr)
        return

    started = time.perf_counter()
    os.umask(0o022)
    write_hub(hub)
    size_mb = sum(path.stat().st_size for target in _targets(hub) for path in _files(target)) / 1e6
    seconds = time.perf_counter() - started
    print(f"made {len(MODELS)} tiny models in {hub}: {size_mb:.1f} MB, {seconds:.1f} s", file=sys.stderr)
    print(f"to run with them, set HF_HOME={folder.absolute()} and HF_HUB_OFFLINE=1", file=sys.stderr)


def write_hub(hub: Path) -> None:
    """Put every model into the cache folder `hub`; each appears there complete or not at all."""
    _silence_libraries()
    hub.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tiny-weights-", dir=hub.parent) as staging:
        for model_id, write_snapshot in MODELS.items():
            staged = _folder_of(model_id, Path(staging))
            _write_model(staged, write_snapshot)
        for target in _targets(hub):
            shutil.rmtree(target, ignore_errors=True)
            (Path(staging) / target.name).rename(target)


def write_controlnet(snapshot: Path) -> None:
    from diffusers import ControlNetModel

    # Three of the four steps halve the picture, down to the size of the latents.
    model = ControlNetModel(**TWO_LEVELS, conditioning_embedding_out_channels=(8, 8, 16, 16))
    randomize(model, seed=1)
    model.save_pretrained(snapshot)


def write_vae(snapshot: Path) -> None:
    from diffusers import AutoencoderKL

    model = AutoencoderKL(**FOUR_LEVELS)
    randomize(model, seed=2)
    model.save_pretrained(snapshot)


def write_base(snapshot: Path) -> None:
    """Write what `StableDiffusionXLControlNetPipeline` is made of, but for the ControlNet."""
    index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True, **BASE_COMPONENTS}
    _write_json(snapshot / "model_index.json", index)
    write_vae(snapshot / "vae")
    _write_unet(snapshot / "unet")
    _write_scheduler(snapshot / "scheduler")
    _write_text_encoders(snapshot)
    _write_tokenizer(snapshot / "tokenizer")
    _write_tokenizer(snapshot / "tokenizer_2")


MODELS: Final[dict[str, Callable[[Path], None]]] = {
    "diffusers/controlnet-canny-sdxl-1.0": write_controlnet,
    "madebyollin/sdxl-vae-fp16-fix": write_vae,
    "stabilityai/stable-diffusion-xl-base-1.0": write_base,
}


def randomize(model: Module, *, seed: int) -> None:
    """Draw all weights anew, so that no layer is silent and signals keep their size from one to the next."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim == 1:
                parameter.fill_(1)
            else:
                parameter.normal_(std=math.prod(parameter.shape[1:]) ** -0.5, generator=generator)


def vocabulary() -> dict[str, int]:
    """Each byte as a token, inside a word and at its end: CLIP's vocabulary before any merge."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = [chr(byte) for byte in printable] + [chr(256 + index) for index, _ in enumerate(others)]
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}


def _write_unet(folder: Path) -> None:
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(**TWO_LEVELS, up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), sample_size=32)
    randomize(model, seed=3)
    model.save_pretrained(folder)


def _write_scheduler(folder: Path) -> None:
    from diffusers import EulerDiscreteScheduler

    EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        timestep_spacing="leading",
    ).save_pretrained(folder)


def _write_text_encoders(snapshot: Path) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tokens = vocabulary()
    config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=PROMPT_TOKENS,
        bos_token_id=tokens["<|startoftext|>"],
        eos_token_id=tokens["<|endoftext|>"],
        pad_token_id=tokens["<|endoftext|>"],
    )
    first, second = CLIPTextModel(config), CLIPTextModelWithProjection(config)
    randomize(first, seed=4)
    randomize(second, seed=5)
    first.save_pretrained(snapshot / "text_encoder")
    second.save_pretrained(snapshot / "text_encoder_2")


def _write_tokenizer(folder: Path) -> None:
    special = {"bos_token": "<|startoftext|>"} | dict.fromkeys(("eos_token", "pad_token", "unk_token"), "<|endoftext|>")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": PROMPT_TOKENS, "do_lower_case": True, **special}
    _write_json(folder / "vocab.json", vocabulary())
    _write_json(folder / "special_tokens_map.json", special)
    _write_json(folder / "tokenizer_config.json", config)
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_model(folder: Path, write_snapshot: Callable[[Path], None]) -> None:
    """Write a model in the cache's layout: a snapshot named for its content, a reference to it, our stamp."""
    unnamed = folder / "snapshots" / "unnamed"
    write_snapshot(unnamed)
    commit = _digest(unnamed)
    unnamed.rename(unnamed.with_name(commit))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit, encoding="utf-8")
    (folder / STAMP).write_text(_source_digest(), encoding="utf-8")
    for path in _files(folder):
        path.chmod(0o644)


def _digest(folder: Path) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    for path in _files(folder):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _targets(hub: Path) -> list[Path]:
    return [_folder_of(model_id, hub) for model_id in MODELS]


def _folder_of(model_id: str, hub: Path) -> Path:
    return hub / f"models--{model_id.replace('/', '--')}"


def _is_current(target: Path) -> bool:
    stamp = target / STAMP
    return stamp.exists() and stamp.read_text(encoding="utf-8") == _source_digest()


def _source_digest() -> str:
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def _silence_libraries() -> None:
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


if __name__ == "__main__":
    main()
