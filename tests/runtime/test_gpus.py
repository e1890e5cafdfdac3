from __future__ import annotations

from pathlib import Path

import pytest

from bentoml._config import load_config
from bentoml._gpus import Gpus, available_gpus, gpus_from, gpus_text, on_the_cpu


@pytest.mark.parametrize(
    "shares",
    [
        [[{"gpu": 0.5}, {"gpu": 1}], [{"gpu": 0.5}, {}]],
        [[{"gpu": "0.3333333333"}] * 2, [{"gpu": 0.3}, {"gpu": 0.3}, {"gpu": 2}]],
        [[{"gpu": 0.1}] * 7, [{"gpu": 0.1}] * 7],
    ],
)
def test_workers_are_dealt_the_same_of_what_their_service_has_as_of_the_whole_machine(
    shares: list[list[dict[str, object]]],
) -> None:
    machine = Gpus.of(4)
    for workers in shares:
        config = load_config("Iris", {"workers": workers})
        dealt = machine.deal(config)

        assert gpus_from(gpus_text(dealt)).deal(config) == dealt


def test_what_a_service_has_is_written_with_the_part_of_each() -> None:
    config = load_config("Iris", {"workers": [{"gpu": 2}, {"gpu": 0.5}]})

    assert gpus_text(Gpus.of(3).deal(config)) == "0,1,2:0.5"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, None),
        ({"resources": {"gpu": 1}}, "asks for 1 GPU, this machine has none: it runs on the CPU"),
        ({"workers": [{"gpu": 1}] * 2}, "asks for 2 GPUs, this machine has none: it runs on the CPU"),
        ({"resources": {"gpu": 0.5}}, "asks for 0.5 GPU, this machine has none: it runs on the CPU"),
    ],
)
def test_a_service_that_asks_for_gpus_where_there_are_none_is_told_so(
    config: dict[str, object], expected: str | None
) -> None:
    assert on_the_cpu(load_config("Iris", config), Gpus.of(0), {}) == expected


@pytest.mark.parametrize(("gpu_count", "environ"), [(1, {}), (0, {"CUDA_VISIBLE_DEVICES": ""})])
def test_nothing_is_told_where_there_are_gpus_or_somebody_hides_them(
    gpu_count: int, environ: dict[str, str]
) -> None:
    config = load_config("Iris", {"resources": {"gpu": 1}})

    assert on_the_cpu(config, Gpus.of(gpu_count), environ) is None


def test_the_gpus_of_a_machine_are_counted() -> None:
    assert len(available_gpus()) == sum(path.name[6:].isdecimal() for path in Path("/dev").glob("nvidia*"))
