"""Which builds of torch a service gets: those for a CPU are a tenth of those for CUDA."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

VARIABLE: Final = "UV_TORCH_BACKEND"
CPU: Final = "cpu"

# Somebody who says where packages are to come from means torch, too.
_INDEX_VARIABLES: Final = (
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_NO_INDEX",
)


def torch_backend(
    setting: str,
    *,
    has_gpu: bool,
    base_image: str,
    has_own_index: bool,
    environment: Mapping[str, str],
) -> str | None:
    """`cpu`, or a CUDA such as `cu128`; None for what the indexes have.

    Args:
        setting: `python.torch_backend` of the bentofile; `$UV_TORCH_BACKEND` stands in for `auto`.
        has_own_index: whether the project names an index or a folder of wheels.
    """
    if setting == "auto":
        setting = environment.get(VARIABLE) or setting
    if setting == "none":
        return None
    if setting == "auto":
        if has_own_index or any(environment.get(name) for name in _INDEX_VARIABLES):
            return None
        return _cuda_of(base_image) if has_gpu else CPU
    return setting if has_gpu else CPU


def _cuda_of(base_image: str) -> str | None:
    """The builds that fit a base image; an image that does not say its CUDA leaves it to the index."""
    found = re.search(r"cuda:(\d+)\.(\d+)", base_image)
    return f"cu{found[1]}{found[2]}" if found else None
