from __future__ import annotations

from collections.abc import Mapping

import pytest

from bentoml._config import load_config
from bentoml._gpus import Gpus
from bentoml._process.workers import available_cpus, plan_workers
from bentoml.exceptions import BentoMLConfigException


def devices(
    config: Mapping[str, object], gpu_count: int, environ: Mapping[str, str] | None = None
) -> list[str | None]:
    """What each worker finds in CUDA_VISIBLE_DEVICES, None where it is left alone."""
    plans = plan_workers(
        load_config("Iris", config), cpu_count=4, gpus=Gpus.of(gpu_count), environ=environ or {}
    )
    return [plan.environ.get("CUDA_VISIBLE_DEVICES") for plan in plans]


@pytest.mark.parametrize(
    ("workers", "count"), [(1, 1), (8, 8), ("cpu_count", 4), ([{"gpu": 1}, {"gpu": 1}], 2)]
)
def test_there_are_as_many_workers_as_the_configuration_says(workers: object, count: int) -> None:
    plans = plan_workers(load_config("Iris", {"workers": workers}), cpu_count=4, gpus=Gpus.of(0), environ={})

    assert [plan.index for plan in plans] == list(range(count))


@pytest.mark.parametrize(("workers", "threads"), [(1, "4"), (2, "2"), (3, "1"), (8, "1")])
def test_workers_share_the_cpus(workers: int, threads: str) -> None:
    plans = plan_workers(load_config("Iris", {"workers": workers}), cpu_count=4, gpus=Gpus.of(0), environ={})

    assert dict(plans[-1].environ) == {
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
    }


def test_a_number_of_threads_that_is_set_is_left_alone() -> None:
    (plan,) = plan_workers(
        load_config("Iris"), cpu_count=4, gpus=Gpus.of(0), environ={"OMP_NUM_THREADS": "3"}
    )

    assert "OMP_NUM_THREADS" not in plan.environ


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, [None]),
        ({"resources": {"gpu": "1"}}, ["0"]),
        ({"resources": {"gpu": 2}}, ["0,1"]),
        ({"resources": {"gpu": 2}, "workers": 2}, ["0,1", "0,1"]),
        ({"resources": {"gpu": 0.5}, "workers": 2}, ["0", "0"]),
        ({"workers": [{"gpu": 1}, {"gpu": 2}]}, ["0", "1,2"]),
        ({"workers": [{"gpu": 1}, {}, {"gpu": 1}]}, ["0", "", "1"]),
        ({"workers": [{}, {}]}, [None, None]),
        ({"workers": [{"gpu": "0.5"}, {"gpu": "0.5"}, {"gpu": 0.5}]}, ["0", "0", "1"]),
        ({"workers": [{"gpu": 0.5}, {"gpu": 1}, {"gpu": 0.5}]}, ["0", "1", "0"]),
        ({"workers": [{"gpu": 0.1}] * 10}, ["0"] * 10),
        ({"workers": [{"gpu": 0.6}, {"gpu": 0.6}, {"gpu": 0.4}, {"gpu": 0.4}]}, ["0", "1", "0", "1"]),
    ],
)
def test_each_worker_sees_its_share_of_the_gpus(
    config: dict[str, object], expected: list[str | None]
) -> None:
    assert devices(config, gpu_count=4) == expected


def test_where_there_is_no_gpu_none_is_dealt() -> None:
    assert devices({"workers": [{"gpu": 1}, {"gpu": 1}]}, gpu_count=0) == [None, None]


@pytest.mark.parametrize(
    "environ", [{"CUDA_VISIBLE_DEVICES": "3"}, {"BENTOML_DISABLE_GPU_ALLOCATION": "true"}]
)
def test_gpus_that_are_dealt_from_outside_are_left_alone(environ: dict[str, str]) -> None:
    assert devices({"resources": {"gpu": 8}}, gpu_count=4, environ=environ) == [None]


def test_more_gpus_than_there_are_is_an_error_that_says_who_wants_them() -> None:
    with pytest.raises(BentoMLConfigException) as caught:
        devices({"workers": [{"gpu": 2}, {}, {"gpu": 1}]}, gpu_count=2)

    assert str(caught.value) == (
        "the workers want 3 GPUs, this machine has 2:\n"
        "  worker  wants  would get\n"
        "  0       2      0,1\n"
        "  1       none\n"
        "  2       1      2"
    )


def test_workers_that_share_gpus_want_them_once() -> None:
    with pytest.raises(BentoMLConfigException) as caught:
        devices({"resources": {"gpu": 2}, "workers": 3}, gpu_count=1)

    assert str(caught.value) == (
        "the workers want 2 GPUs, this machine has 1:\n  worker  wants  would get\n  all     2      0,1"
    )


def test_a_worker_for_each_cpu_takes_no_gpu() -> None:
    assert devices({"resources": {"gpu": 1}, "workers": "cpu_count"}, gpu_count=1) == [None] * 4


@pytest.mark.parametrize(("cpu_count", "workers"), [(1, 1), (4, 2), (64, 16)])
def test_an_external_server_is_passed_to_by_a_worker_for_every_other_cpu(
    cpu_count: int, workers: int
) -> None:
    plans = plan_workers(
        load_config("Iris"), cpu_count=cpu_count, gpus=Gpus.of(0), runs_command=True, environ={}
    )

    assert len(plans) == workers


def test_an_external_server_is_passed_to_by_as_many_workers_as_are_asked_for() -> None:
    config = load_config("Iris", {"workers": 1})

    assert len(plan_workers(config, cpu_count=8, gpus=Gpus.of(0), runs_command=True, environ={})) == 1


def test_a_machine_has_cpus() -> None:
    assert available_cpus() >= 1
