"""Tiny stand-ins for the three models of the ControlNet example, laid out as a Hugging Face cache.

    python examples/controlnet/tiny_weights.py FOLDER

makes a folder with which the example's Service runs unedited, without a network and without a GPU:

    HF_HOME=FOLDER HF_HUB_OFFLINE=1 bento serve

The models have the real ones' architecture, far smaller, and random weights: the pictures are coloured noise
that changes with the prompt and with the edges.
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
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

# The libraries take seconds to import. A folder that is complete needs none of them,
# so each function that builds a model imports what it builds it with.
if TYPE_CHECKING:
    from torch.nn import Module

STAMP: Final = "made-by-tiny-weights"

TEXT_WIDTH: Final = 32
PROMPT_TOKENS: Final = 77
SIZE_EMBEDDING: Final = 8
# Edges are thin, and SiLU more than halves a small signal: at 1 nothing of them would reach the picture.
EDGE_GAIN: Final = 2.3

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
# Four levels make one latent out of 8 by 8 pixels, as the real one does.
FOUR_LEVELS: Final[dict[str, Any]] = {
    "block_out_channels": (16, 16, 32, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "norm_num_groups": 8,
    "scaling_factor": 0.13025,
    "force_upcast": False,
}
SCHEDULER: Final[dict[str, Any]] = {
    "_class_name": "EulerDiscreteScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "timestep_spacing": "leading",
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
    if folder.exists() and not folder.is_dir():
        parser.error(f"{folder}: is a file, expected a folder or a name for a new one")

    hub = folder / "hub"
    foreign = [target for target in _targets(hub) if target.exists() and not (target / STAMP).exists()]
    if foreign:
        sys.exit(f"error: {foreign[0]}: exists and was not made by this script\n\nhint: name another folder")
    missing = [model_id for model_id in MODELS if not _is_current(_folder_of(model_id, hub))]
    if not missing:
        print(f"{folder} holds the tiny models already", file=sys.stderr)
        return

    started = time.perf_counter()
    try:
        write_models(missing, hub)
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error}\n\nhint: install torch, diffusers and transformers first")
    size_mb = sum(path.stat().st_size for target in _targets(hub) for path in _files(target)) / 1e6
    seconds = time.perf_counter() - started
    print(f"made the tiny models in {hub}: {size_mb:.1f} MB, {seconds:.1f} s", file=sys.stderr)
    print(f"to run with them, set HF_HOME={folder.absolute()} and HF_HUB_OFFLINE=1", file=sys.stderr)


def write_models(model_ids: list[str], hub: Path) -> None:
    """Put models into the cache folder `hub`; each appears there complete or not at all."""
    _silence_libraries()
    os.umask(0o022)
    hub.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tiny-weights-", dir=hub.parent) as staging:
        for model_id in model_ids:
            _write_model(_folder_of(model_id, Path(staging)), MODELS[model_id])
        for model_id in model_ids:
            target = _folder_of(model_id, hub)
            if _is_current(target):
                continue  # another run, started at the same time, was faster
            if target.exists():
                shutil.rmtree(target)
            _folder_of(model_id, Path(staging)).rename(target)


def write_controlnet(snapshot: Path) -> None:
    """Write a ControlNet, whose four steps halve the edges three times: down to the latents' size."""
    _write_network(
        snapshot,
        "ControlNetModel",
        seed=1,
        configuration={**TWO_LEVELS, "conditioning_embedding_out_channels": (8, 8, 16, 16)},
    )


def write_vae(snapshot: Path) -> None:
    """Write an autoencoder between pictures and latents."""
    _write_network(snapshot, "AutoencoderKL", seed=2, configuration=FOUR_LEVELS)


def write_base(snapshot: Path) -> None:
    """Write what `StableDiffusionXLControlNetPipeline` is made of, but for the ControlNet."""
    index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True}
    _write_json(snapshot / "model_index.json", {**index, **BASE_COMPONENTS})
    _write_json(snapshot / "scheduler" / "scheduler_config.json", SCHEDULER)
    _write_network(
        snapshot / "unet",
        "UNet2DConditionModel",
        seed=3,
        configuration={
            **TWO_LEVELS,
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "sample_size": 32,
        },
    )
    write_vae(snapshot / "vae")
    _write_text_encoders(snapshot)
    for name in ("tokenizer", "tokenizer_2"):
        _write_tokenizer(snapshot / name)


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
                gain = EDGE_GAIN if name.startswith("controlnet_cond_embedding.") else 1
                parameter.normal_(std=gain / math.sqrt(parameter[0].numel()), generator=generator)


def vocabulary() -> dict[str, int]:
    """Each byte as a token, inside a word and at its end: CLIP's vocabulary before any merge."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    # Every other byte is written as a character from 256 on, so that no token holds a space or a control.
    symbols = [chr(code) for code in [*printable, *range(256, 512 - len(printable))]]
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    return {token: number for number, token in enumerate(tokens)}


def _write_network(folder: Path, class_name: str, *, seed: int, configuration: dict[str, Any]) -> None:
    import diffusers

    # Not by attribute: type checkers see diffusers' placeholders, which have no methods.
    network = getattr(diffusers, class_name)(**configuration)
    randomize(network, seed=seed)
    network.save_pretrained(folder)


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
    # The real files have this prefix; transformers 5 no longer writes it, and transformers 4 needs it.
    weights = {f"text_model.{name.removeprefix('text_model.')}": w for name, w in first.state_dict().items()}
    first.save_pretrained(snapshot / "text_encoder", state_dict=weights)
    second.save_pretrained(snapshot / "text_encoder_2")


def _write_tokenizer(folder: Path) -> None:
    start, end = "<|startoftext|>", "<|endoftext|>"
    special = {"bos_token": start, "eos_token": end, "pad_token": end, "unk_token": end}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": PROMPT_TOKENS, "do_lower_case": True}
    _write_json(folder / "vocab.json", vocabulary())
    _write_json(folder / "special_tokens_map.json", special)
    _write_json(folder / "tokenizer_config.json", {**config, **special})
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
