"""How many workers a replica has, and what each of them gets of the machine."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bentoml._config import ServiceConfig
from bentoml.exceptions import BentoMLConfigException

# Read once by numerical libraries when they load; each worker would otherwise start a thread per core.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_HEAD = ("worker", "wants", "would get")

# Where one of these is set, whoever set it deals out the GPUs.
_GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "BENTOML_DISABLE_GPU_ALLOCATION")


@dataclass(frozen=True)
class WorkerPlan:
    """One worker: its index and the variables that give it its share."""

    index: int
    environ: Mapping[str, str]


def plan_workers(
    config: ServiceConfig,
    *,
    cpu_count: int,
    gpu_count: int,
    runs_command: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> tuple[WorkerPlan, ...]:
    """One plan for each worker that the configuration asks for.

    Args:
        runs_command: whether an external HTTP server answers for the service, so that workers only pass on.

    Raises:
        BentoMLConfigException: the workers want more GPUs than there are; not raised where there are none.
    """
    wanted = _wanted_gpus(config, cpu_count, runs_command=runs_command)
    threads = str(max(1, cpu_count // len(wanted)))
    variables = {name: threads for name in _THREAD_VARIABLES if name not in environ}
    is_dealt_elsewhere = any(name in environ for name in _GPU_VARIABLES)
    if not gpu_count or is_dealt_elsewhere or config.workers == "cpu_count":
        return tuple(WorkerPlan(index, variables) for index in range(len(wanted)))
    # Workers that were given as a number are alike, and have one assignment together.
    is_listed = isinstance(config.workers, tuple) and bool(config.workers)
    devices = _dealt(wanted) if is_listed else _dealt(wanted[:1]) * len(wanted)
    if max(own.stop for own in devices) > gpu_count:
        raise BentoMLConfigException(_shortage(wanted, devices, gpu_count, is_shared=not is_listed))
    return tuple(
        WorkerPlan(index, {**variables, "CUDA_VISIBLE_DEVICES": _listed(own)} if own else variables)
        for index, own in enumerate(devices)
    )


def _wanted_gpus(config: ServiceConfig, cpu_count: int, *, runs_command: bool) -> list[float]:
    """The GPUs that each worker wants."""
    each = config.resources.gpu or 0
    if isinstance(config.workers, tuple):
        return [worker.gpu or 0 for worker in config.workers] or [each]
    if config.workers == "cpu_count":
        return [each] * cpu_count
    if runs_command and "workers" not in config.model_fields_set:
        return [each] * min(16, max(1, cpu_count // 2))
    return [each] * config.workers


def _shortage(wanted: Sequence[float], devices: Sequence[range], gpu_count: int, *, is_shared: bool) -> str:
    """Who wants what, as a table."""
    rows = [
        (str(index), f"{share:g}" if share else "none", _listed(own))
        for index, (share, own) in enumerate(zip(wanted, devices, strict=True))
    ]
    if is_shared and len(rows) > 1:
        rows = [("all", *rows[0][1:])]
    lines = [f"  {worker:<6}  {wants:<5}  {gets}" for worker, wants, gets in [_HEAD, *rows]]
    total = max(own.stop for own in devices)
    return "\n".join(
        [f"the workers want {total} GPUs, this machine has {gpu_count}:", *map(str.rstrip, lines)]
    )


def _dealt(shares: Sequence[float]) -> list[range]:
    """Devices for each share in turn; fractions fill one device together before they take the next."""
    dealt = []
    free = shared = 0
    room = 0.0
    for share in shares:
        is_fraction = 0 < share < 1
        if is_fraction and share <= room + 1e-9:
            dealt.append(range(shared, shared + 1))
            room -= share
            continue
        own = range(free, free + math.ceil(share))
        if is_fraction:
            shared, room = free, 1 - share
        dealt.append(own)
        free = own.stop
    return dealt


def _listed(devices: range) -> str:
    return ",".join(str(device) for device in devices)


def available_cpus() -> int:
    """CPUs that this process may use: the container's quota, else what the scheduler allows."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _cgroup_quota() -> float | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        folder = Path("/sys/fs/cgroup/cpu")
        quota_us = int((folder / "cpu.cfs_quota_us").read_text())
        return None if quota_us <= 0 else quota_us / int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None


def available_gpus() -> int:
    """NVIDIA GPUs whose device files this process can see."""
    try:
        return sum(1 for path in Path("/dev").iterdir() if re.fullmatch(r"nvidia\d+", path.name))
    except OSError:
        return 0
