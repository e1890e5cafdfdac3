"""How many workers a replica has, and what each of them gets of the machine."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bentoml._config import ServiceConfig
from bentoml._gpus import GPU_COLUMNS, VISIBLE_GPUS, Gpus, Share, as_rows, gpus_are_dealt
from bentoml.exceptions import BentoMLConfigException

# Read once by numerical libraries when they load; each worker would otherwise start a thread per core.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class WorkerPlan:
    """One worker: its index and the variables that give it its share."""

    index: int
    environ: Mapping[str, str]


def plan_workers(
    config: ServiceConfig,
    *,
    cpu_count: int,
    gpus: Gpus,
    runs_command: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> tuple[WorkerPlan, ...]:
    """One plan for each worker that the configuration asks for.

    Args:
        gpus: those that are the service's.
        runs_command: whether an external HTTP server answers for the service, so that workers only pass on.

    Raises:
        BentoMLConfigException: the workers want more GPUs than there are; not raised where there are none.
    """
    count = _worker_count(config, cpu_count, runs_command=runs_command)
    threads = str(max(1, cpu_count // count))
    variables = {name: threads for name in _THREAD_VARIABLES if name not in environ}
    shares = gpus.deal(config) if len(gpus) and not gpus_are_dealt(environ) else ()
    if gpus.lacks(shares):
        raise BentoMLConfigException(_shortage(shares, len(gpus)))
    seen = {share.worker: {VISIBLE_GPUS: ",".join(map(str, share.gpus))} for share in shares}
    by_all = seen.get(None, {})
    return tuple(WorkerPlan(index, {**variables, **seen.get(index, by_all)}) for index in range(count))


def _worker_count(config: ServiceConfig, cpu_count: int, *, runs_command: bool) -> int:
    if isinstance(config.workers, tuple):
        return len(config.workers)
    if config.workers == "cpu_count":
        return cpu_count
    if runs_command and "workers" not in config.model_fields_set:
        return min(16, max(1, cpu_count // 2))
    return config.workers


def _shortage(shares: Sequence[Share], gpu_count: int) -> str:
    """Who wants what, as a table."""
    wanted = len({gpu for share in shares for gpu in share.gpus})
    rows = as_rows(GPU_COLUMNS, [share.cells() for share in shares])
    return "\n".join([f"the workers want {wanted} GPUs, this machine has {gpu_count}:", *rows])


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
