"""How many workers a replica has, and what each of them gets of the machine."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
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
    devices = _devices(config, cpu_count)
    threads = str(max(1, cpu_count // len(devices)))
    variables = {name: threads for name in _THREAD_VARIABLES if name not in environ}
    if not gpu_count or "CUDA_VISIBLE_DEVICES" in environ:
        return tuple(WorkerPlan(index, variables) for index in range(len(devices)))
    wanted = max(own.stop for own in devices)
    if wanted > gpu_count:
        assignment = "; ".join(f"worker {i} takes {_listed(own) or 'none'}" for i, own in enumerate(devices))
        raise BentoMLConfigException(
            f"the workers want {wanted} GPUs, this machine has {gpu_count}: {assignment}"
        )
    return tuple(
        WorkerPlan(index, {**variables, "CUDA_VISIBLE_DEVICES": _listed(own)} if own else variables)
        for index, own in enumerate(devices)
    )


def _devices(config: ServiceConfig, cpu_count: int) -> list[range]:
    """The GPUs of each worker, by number. Those given as a number share one assignment."""
    shared = _dealt([config.resources.gpu or 0])
    if isinstance(config.workers, tuple):
        return _dealt([worker.gpu or 0 for worker in config.workers]) or shared
    return shared * (cpu_count if config.workers == "cpu_count" else config.workers)


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
