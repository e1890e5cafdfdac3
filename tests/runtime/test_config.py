from __future__ import annotations

import pytest

from bentoml import _environment as environment
from bentoml._config import ServiceConfig, Worker, load_config, merge
from bentoml._quantities import cpus, gpus, memory_bytes
from bentoml.exceptions import BentoMLConfigException


@pytest.mark.parametrize(
    ("value", "expected"), [(2, 2.0), (0.5, 0.5), ("2", 2.0), ("400m", 0.4), (" 1.5 ", 1.5)]
)
def test_cpus_are_a_number_or_a_quantity(value: object, expected: float) -> None:
    assert cpus(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("512Mi", 512 * 2**20),
        ("1Gi", 2**30),
        ("1.5G", 1_500_000_000),
        ("1000", 1000),
        (2, 2 * 2**30),
        (0.5, 2**29),
    ],
)
def test_memory_is_a_quantity_or_a_number_of_gibibytes(value: object, expected: int) -> None:
    assert memory_bytes(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(1, 1.0), ("1", 1.0), ("0.5", 0.5), (2.0, 2.0)])
def test_gpus_are_a_number_or_its_text(value: object, expected: float) -> None:
    assert gpus(value) == expected


@pytest.mark.parametrize(
    "value", [0, -1, "0", "", "many", True, None, [1], "1e3", float("nan"), float("inf")]
)
def test_an_amount_is_above_zero(value: object) -> None:
    for read in (cpus, memory_bytes, gpus):
        with pytest.raises(ValueError, match=r"expected an? .* such as .*, found"):
            read(value)


def test_a_unit_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown unit 'Mi' of CPUs, expected `m` or none"):
        cpus("1Mi")
    with pytest.raises(ValueError, match="unknown unit 'm' of memory, expected one of"):
        memory_bytes("1m")
    with pytest.raises(ValueError, match="unknown unit 'm' of GPUs, expected none"):
        gpus("500m")


def test_more_than_one_gpu_is_a_whole_number() -> None:
    with pytest.raises(ValueError, match=r"'1\.5' GPUs: more than one must be a whole number"):
        gpus("1.5")


def test_nothing_need_be_configured() -> None:
    config = load_config("Iris")

    assert (config.workers, config.threads, config.traffic.timeout) == (1, 1, 60.0)
    assert config.traffic.max_concurrency is None


def test_the_example_of_a_deployment_is_a_configuration() -> None:
    declared = {"traffic": {"timeout": 600}, "workers": 1, "resources": {"gpu": "1", "gpu_type": "nvidia-l4"}}
    overrides = {
        "traffic": {"timeout": 700, "max_concurrency": 20, "external_queue": True},
        "resources": {"cpu": "400m", "memory": "1Gi"},
        "workers": [{"gpu": 1}],
    }

    config = load_config("SDXLControlNetService", declared, overrides)

    assert config.resources.model_dump(exclude_none=True) == {
        "cpu": 0.4,
        "memory": 2**30,
        "gpu": 1.0,
        "gpu_type": "nvidia-l4",
    }
    assert (config.traffic.timeout, config.workers) == (700.0, (Worker(gpu=1.0),))


def test_mappings_merge_and_all_else_is_replaced() -> None:
    merged = merge(
        {"traffic": {"timeout": 1, "concurrency": 2}, "workers": [{"gpu": 1}, {"gpu": 2}]},
        {"traffic": {"timeout": 3}, "workers": 4},
        {"threads": 5},
    )

    assert merged == {"traffic": {"timeout": 3, "concurrency": 2}, "workers": 4, "threads": 5}


def test_merging_changes_none_of_the_layers() -> None:
    layer: dict[str, object] = {"traffic": {"timeout": 1}}
    merge(layer, {"traffic": {"timeout": 2}})

    assert layer == {"traffic": {"timeout": 1}}


@pytest.mark.parametrize(
    ("config", "total"),
    [
        ({}, 0),
        ({"resources": {"gpu": "2"}}, 2),
        ({"resources": {"gpu": 2}, "workers": 4}, 2),
        ({"workers": [{"gpu": 1}, {"gpu": "0.5"}, {}]}, 1.5),
        ({"workers": [], "resources": {"gpu": 1}}, 1),
    ],
)
def test_the_gpus_of_a_replica_are_counted_however_they_were_asked_for(
    config: dict[str, object], total: float
) -> None:
    assert load_config("Iris", config).gpu_total == total


def test_all_problems_are_told_at_once_with_the_nearest_names() -> None:
    config = {
        "traffic": {"timeot": 1, "timeout": 0},
        "resources": {"gpu": "x"},
        "workers": [{"gpuu": 1}],
        "thread": 2,
        "backlog": 64,
        "zzz": 1,
    }

    with pytest.raises(BentoMLConfigException) as caught:
        load_config("Iris", config)

    assert str(caught.value).splitlines() == [
        "configuration of Iris:",
        "  `traffic.timeout`: Input should be greater than 0",
        "  `traffic.timeot`: unknown key, did you mean `timeout`?",
        "  `resources.gpu`: expected a number of GPUs such as `1` or `0.5`, found 'x'",
        "  `workers.0.gpuu`: unknown key, did you mean `gpu`?",
        "  `backlog`: Input should be greater than 64",
        "  `thread`: unknown key, did you mean `threads`?",
        "  `zzz`: unknown key",
    ]


@pytest.mark.parametrize("workers", [0, -1, "many", 1.5, {"gpu": 1}, [{"gpu": 0}], [1]])
def test_a_problem_with_workers_is_told_once(workers: object) -> None:
    with pytest.raises(BentoMLConfigException) as caught:
        load_config("Iris", {"workers": workers})

    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("workers", [3, "3"])
def test_a_number_of_workers_may_be_text(workers: object) -> None:
    assert load_config("Iris", {"workers": workers}).workers == 3


def test_the_keys_are_those_that_overrides_for_all_services_may_have() -> None:
    assert set(ServiceConfig.model_fields) == environment.CONFIG_KEYS


def test_overrides_for_all_services_are_weaker_than_those_for_one() -> None:
    text = '{"services": {"workers": 2, "threads": 3, "Iris": {"workers": 4}, "Other": {"threads": 9}}}'

    assert environment.config_overrides("Iris", {"BENTOML_CONFIG_OVERRIDES": text}) == {
        "workers": 4,
        "threads": 3,
    }
