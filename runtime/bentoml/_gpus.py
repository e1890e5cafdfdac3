"""The GPUs of a machine, and what of them the workers of services are dealt."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bentoml._config import ServiceConfig

VISIBLE_GPUS: Final = "CUDA_VISIBLE_DEVICES"
"""The variable that names the GPUs which a process sees."""

GPU_COLUMNS: Final = ("worker", "wants", "would get")
"""The head of a table of shares."""

# Where one of these is set, whoever set it deals out the GPUs.
_DEALT_BY: Final = (VISIBLE_GPUS, "BENTOML_DISABLE_GPU_ALLOCATION")

_ROUNDING: Final = 1e-9  # ten times 0.1 is a little less than 1


@dataclass(frozen=True)
class Share:
    """GPUs that one worker sees, or all workers of a service alike.

    Args:
        worker: its index; None for all of them.
        wants: how many; below 1 a part of one, 0 none.
        gpus: the indices of those it is dealt.
    """

    worker: int | None
    wants: float
    gpus: tuple[int, ...]

    @property
    def part(self) -> float:
        """What it takes of each of them."""
        return min(self.wants, 1.0)

    def cells(self) -> tuple[str, str, str]:
        """Its row in a table of `GPU_COLUMNS`."""
        wants = f"{self.wants:g}" if self.wants else "none"
        return "all" if self.worker is None else str(self.worker), wants, ",".join(map(str, self.gpus))


class Gpus:
    """What is free of some GPUs, to be dealt out.

    Args:
        free: by the index of each, 1 where nothing is taken of it.
    """

    def __init__(self, free: Mapping[int, float]) -> None:
        self._known = frozenset(free)
        self._free = dict(free)

    @classmethod
    def of(cls, count: int) -> Gpus:
        """The GPUs of a machine that has so many."""
        return cls(dict.fromkeys(range(count), 1.0))

    def __len__(self) -> int:
        return len(self._known)

    def lacks(self, shares: Iterable[Share]) -> bool:
        """Whether shares that were dealt need GPUs which there are not."""
        return any(gpu not in self._known for share in shares for gpu in share.gpus)

    def deal(self, config: ServiceConfig) -> tuple[Share, ...]:
        """The shares of a service's workers; none where it leaves its workers to see what they like.

        Where there are not enough, it goes on as if there were more, so that all can be told who wants them.
        """
        if not wants_gpus(config) or config.workers == "cpu_count":
            return ()
        if isinstance(config.workers, tuple):
            wanted = [worker.gpu or 0.0 for worker in config.workers]
            return tuple(Share(index, wants, self._take(wants)) for index, wants in enumerate(wanted))
        # Workers that were given as a number are alike, and have one assignment together.
        return (Share(None, config.gpu_total, self._take(config.gpu_total)),)

    def _take(self, wants: float) -> tuple[int, ...]:
        """The first that have as much free: fractions fill one before they take the next."""
        count, part = math.ceil(wants), min(wants, 1.0)
        taken = [gpu for gpu, free in self._free.items() if free >= part - _ROUNDING][:count]
        while len(taken) < count:
            gpu = max(self._free, default=-1) + 1
            self._free[gpu] = 1.0
            taken.append(gpu)
        for gpu in taken:
            self._free[gpu] -= part
        return tuple(taken)


def wants_gpus(config: ServiceConfig) -> bool:
    """Whether a service asks for GPUs, for all of its workers or for some."""
    return config.gpu_total > 0


def gpus_are_dealt(environ: Mapping[str, str]) -> bool:
    """Whether somebody else says which GPUs the processes with these variables see."""
    return any(name in environ for name in _DEALT_BY)


def gpus_text(shares: Iterable[Share]) -> str:
    """GPUs that a service has, for its process: `0,1:0.5` is one, and half of another one."""
    taken: dict[int, float] = {}
    for share in shares:
        for gpu in share.gpus:
            taken[gpu] = taken.get(gpu, 0.0) + share.part
    return ",".join(
        str(gpu) if part >= 1 - _ROUNDING else f"{gpu}:{part}" for gpu, part in sorted(taken.items())
    )


def gpus_from(text: str) -> Gpus:
    """What `gpus_text` wrote.

    Raises:
        ValueError: it is nothing of the kind.
    """
    pairs = [entry.partition(":") for entry in text.split(",")]
    return Gpus({int(gpu): float(part or 1) for gpu, _, part in pairs})


def on_the_cpu(config: ServiceConfig, gpus: Gpus, environ: Mapping[str, str] = os.environ) -> str | None:
    """What to say of a service that asks for GPUs where there are none; None where all is well."""
    if not wants_gpus(config) or len(gpus) or gpus_are_dealt(environ):
        return None
    count = f"{config.gpu_total:g} {'GPU' if config.gpu_total <= 1 else 'GPUs'}"
    return f"asks for {count}, this machine has none: it runs on the CPU"


def as_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table's lines, indented."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "".join(f"  {cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]


def available_gpus() -> Gpus:
    """The NVIDIA GPUs whose device files this process can see."""
    try:
        return Gpus.of(sum(1 for path in Path("/dev").iterdir() if re.fullmatch(r"nvidia\d+", path.name)))
    except OSError:
        return Gpus.of(0)
