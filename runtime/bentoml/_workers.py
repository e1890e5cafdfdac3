"""How many workers a replica has, and what each of them gets of the machine."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from bentoml._config import ServiceConfig
from bentoml.exceptions import BentoMLConfigException

# Read once by numerical libraries when they load; each worker would otherwise start a thread per core.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class WorkerPlan:
    """One worker: its index and the variables that give it its share."""

    index: int
    environ: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class WorkerTask:
    """What the supervisor tells a worker, as JSON on its command line.

    Args:
        target: `module:Class` of the service.
        config: the service's configuration, its layers merged.
        socket: file descriptor of the bound public port.
        reports: file descriptor of the pipe on which the worker reports its state.
        grace_s: how long running requests may go on once the worker is told to stop.
    """

    target: str
    service: str
    config: dict[str, object]
    project: str
    index: int
    workers: int
    socket: int
    reports: int
    grace_s: int

    def as_argument(self) -> str:
        return json.dumps(asdict(self))


def plan_workers(
    config: ServiceConfig, *, cpu_count: int, gpu_count: int, environ: Mapping[str, str] = os.environ
) -> tuple[WorkerPlan, ...]:
    """One plan for each worker that the configuration asks for.

    Raises:
        BentoMLConfigException: the workers want more GPUs than there are; not raised where there are none.
    """
    shares = _gpu_shares(config, cpu_count)
    threads = str(max(1, cpu_count // len(shares)))
    thread_variables = {name: threads for name in _THREAD_VARIABLES if name not in environ}
    is_dealt = gpu_count > 0 and "CUDA_VISIBLE_DEVICES" not in environ
    plans = []
    next_device = 0
    for index, gpus in enumerate(shares):
        variables = dict(thread_variables)
        if is_dealt and gpus:
            last = next_device + gpus
            if last > gpu_count:
                raise BentoMLConfigException(
                    f"workers want {sum(shares)} GPUs, this machine has {gpu_count}: "
                    + ", ".join(f"worker {i} wants {share}" for i, share in enumerate(shares))
                )
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(str(device) for device in range(next_device, last))
            # Workers given as a number share one assignment; items of the list form have their own.
            next_device = last if isinstance(config.workers, tuple) else next_device
        plans.append(WorkerPlan(index, variables))
    return tuple(plans)


def _gpu_shares(config: ServiceConfig, cpu_count: int) -> list[int]:
    """Whole GPUs for each worker; a fraction is a share of one."""
    if isinstance(config.workers, tuple):
        return [_whole(worker.gpu) for worker in config.workers] or [_whole(config.resources.gpu)]
    count = cpu_count if config.workers == "cpu_count" else config.workers
    return [_whole(config.resources.gpu)] * count


def _whole(gpus: float | None) -> int:
    return 0 if not gpus else max(1, int(gpus))


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
