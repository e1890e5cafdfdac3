"""Which builds of torch a service gets: those for a CPU are a tenth of those for CUDA."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

VARIABLE: Final = "UV_TORCH_BACKEND"
CPU: Final = "cpu"


def torch_backend(
    setting: str,
    *,
    has_gpu: bool,
    cuda: str | None,
    has_own_index: bool,
    environment: Mapping[str, str],
) -> str | None:
    """`cpu`, or a CUDA such as `cu128`; None for what the indexes have.

    Args:
        setting: `python.torch_backend` of the bentofile; `$UV_TORCH_BACKEND` stands in for `auto`.
        cuda: whose builds fit a service with a GPU, such as `12.8`; None where that is left to the indexes.
        has_own_index: whether the project or whoever builds names an index or a folder of wheels: somebody
            who says where packages are to come from means torch, too.
    """
    if setting == "auto":
        setting = environment.get(VARIABLE) or setting
    if setting == "none":
        return None
    if setting == "auto":
        if has_own_index:
            return None
        return _backend(cuda) if has_gpu else CPU
    return setting if has_gpu else CPU


def cuda_of(base_image: str) -> str | None:
    """The CUDA that an image says it has."""
    found = re.search(r"cuda:(\d+\.\d+)", base_image)
    return found[1] if found else None


def _backend(cuda: str | None) -> str | None:
    return "cu" + cuda.replace(".", "") if cuda else None
