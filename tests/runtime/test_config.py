from __future__ import annotations

import pytest

from bentoml import _environment as environment
from bentoml._config import ServiceConfig, Worker, load_config, not_used, not_used_note
from bentoml._layers import merge
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


def problems(config: dict[str, object]) -> list[str]:
    """The lines that say what is wrong with a configuration."""
    with pytest.raises(BentoMLConfigException) as caught:
        load_config("Iris", config)
    head, *lines = str(caught.value).splitlines()
    assert head == "configuration of Iris:"
    return lines


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

    assert problems(config) == [
        "  `traffic.timeout`: should be greater than 0, found 0",
        "  `traffic.timeot`: unknown key, did you mean `timeout`?",
        "  `resources.gpu`: expected a number of GPUs such as `1` or `0.5`, found 'x'",
        "  `workers.0.gpuu`: unknown key, did you mean `gpu`?",
        "  `backlog`: should be greater than 64, found 64",
        "  `thread`: unknown key, did you mean `threads`?",
        "  `zzz`: unknown key",
    ]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"runner_probe": {"timeot": 1}}, "`runner_probe.timeot`: unknown key, did you mean `timeout`?"),
        (
            {"runner_connection": {"max_requets": 1}},
            "`runner_connection.max_requets`: unknown key, did you mean `max_requests`?",
        ),
        ({"grpc": {"prt": 1}}, "`grpc.prt`: unknown key, did you mean `port`?"),
        (
            {"grpc": {"reflection": {"enable": True}}},
            "`grpc.reflection.enable`: unknown key, did you mean `enabled`?",
        ),
        (
            {"tracing": {"zipkin": {"endpont": "x"}}},
            "`tracing.zipkin.endpont`: unknown key, did you mean `endpoint`?",
        ),
        (
            {"tracing": {"jaeger": {"thrift": {"agent_prt": 1}}}},
            "`tracing.jaeger.thrift.agent_prt`: unknown key, did you mean `agent_port`?",
        ),
        (
            {"tracing": {"otlp": {"http": {"header": {}}}}},
            "`tracing.otlp.http.header`: unknown key, did you mean `headers`?",
        ),
        (
            {"tracing": {"otlp": {"grpc": {"insecur": True}}}},
            "`tracing.otlp.grpc.insecur`: unknown key, did you mean `insecure`?",
        ),
        (
            {"monitoring": {"options": {"logpath": "x"}}},
            "`monitoring.options.logpath`: unknown key, did you mean `log_path`?",
        ),
    ],
)
def test_a_typo_is_found_however_deep_it_stands(config: dict[str, object], expected: str) -> None:
    assert problems(config) == [f"  {expected}"]


@pytest.mark.parametrize(
    ("key", "where"),
    [("timeout", "traffic.timeout"), ("cors", "http.cors"), ("max_concurency", "traffic.max_concurrency")],
)
def test_a_key_without_its_section_is_shown_with_it(key: str, where: str) -> None:
    assert problems({key: 1}) == [f"  `{key}`: unknown key, did you mean `{where}`?"]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"traffic": 5}, "`traffic`: expected a mapping with keys such as `timeout`, found 5"),
        ({"traffic": {"item_timeout": -1}}, "`traffic.item_timeout`: should be greater than 0, found -1"),
        ({"traffic": {"timeout": float("inf")}}, "`traffic.timeout`: should be a finite number, found inf"),
        ({"threads": True}, "`threads`: expected a number, found True"),
        ({"extra_ports": [70000]}, "`extra_ports.0`: should be less than 65536, found 70000"),
        ({"ssl": {"version": 9}}, "`ssl.version`: should be 2, 3, 4, 5 or 17, found 9"),
        (
            {"endpoints": {"livez": "up"}},
            "`endpoints.livez`: expected a path that starts with `/`, found 'up'",
        ),
        (
            {"metrics": {"namespace": "1st"}},
            "`metrics.namespace`: expected letters, digits, `_` and `:`, no digit first, found '1st'",
        ),
        (
            {"logging": {"access": {"format": {"span_id": "8b"}}}},
            "`logging.access.format.span_id`: expected how a number is written, such as `032x` or `d`, "
            "found '8b'",
        ),
        (
            {"http": {"cors": {"access_control_allow_origin_regex": "("}}},
            "`http.cors.access_control_allow_origin_regex`: '(' is no regular expression: missing ), "
            "unterminated subpattern at position 0",
        ),
        (
            {"tracing": {"exporter_type": "otpl"}},
            "`tracing.exporter_type`: should be 'zipkin', 'jaeger', 'otlp' or 'in_memory', found 'otpl'",
        ),
    ],
)
def test_a_value_that_is_not_valid_is_told_with_what_is(config: dict[str, object], expected: str) -> None:
    assert problems(config) == [f"  {expected}"]


@pytest.mark.parametrize(
    "config",
    [
        {"ssl": {"keyfile_password": 12345}},
        {"tracing": {"otlp": {"http": {"headers": {"authorization": 12345}}}}},
    ],
)
def test_what_is_secret_is_not_shown_when_it_is_not_valid(config: dict[str, object]) -> None:
    assert "12345" not in "".join(problems(config))


@pytest.mark.parametrize("buckets", [[], [0, 1], [-1, 1], [1, 1], [2, 1], [float("nan")], [float("inf")]])
def test_the_bounds_of_buckets_rise_from_above_zero(buckets: list[float]) -> None:
    (problem,) = problems({"metrics": {"duration": {"buckets": buckets}}})

    assert "`metrics.duration.buckets`: expected seconds above 0, each more than the one before" in problem


def test_the_last_bucket_may_be_named_and_is_there_anyhow() -> None:
    config = load_config("Iris", {"metrics": {"duration": {"buckets": [0.1, 1, float("inf")]}}})

    assert config.metrics.duration.bounds == (0.1, 1.0)


def test_buckets_that_grow_by_a_factor_end_at_the_largest() -> None:
    config = load_config("Iris", {"metrics": {"duration": {"min": 1, "max": 10, "factor": 3}}})

    assert config.metrics.duration.bounds == (1.0, 3.0, 9.0, 10.0)


def test_buckets_that_grow_too_slowly_are_refused() -> None:
    assert problems({"metrics": {"duration": {"min": 1, "max": 10, "factor": 1.001}}}) == [
        "  `metrics.duration`: expected 200 buckets at most; a larger `factor` makes fewer"
    ]


def test_headers_are_a_mapping_or_pairs() -> None:
    otlp = {"http": {"headers": {"a": "1"}}, "grpc": {"headers": [["a", "1"]]}}
    config = load_config("Iris", {"tracing": {"otlp": otlp}})

    assert config.tracing.otlp.http.headers == config.tracing.otlp.grpc.headers == {"a": "1"}


def test_options_of_another_data_log_are_its_own() -> None:
    config = load_config("Iris", {"monitoring": {"type": "arize", "options": {"space_key": "x"}}})

    assert config.monitoring.options.log_path == "monitoring"


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        ({"runner_probe": {"enabled": False}, "grpc": {"port": 1}}, ["runner_probe", "grpc"]),
        ({"traffic": {"external_queue": False, "timeout": 1}}, []),
        ({"tracing": {"exporter_type": "otlp", "timeout": 3, "max_tag_value_length": 9}}, []),
        ({"tracing": {"exporter_type": "Jaeger"}}, ["tracing.exporter_type"]),
        ({"tracing": {"jaeger": {"protocol": "grpc"}}}, ["tracing.jaeger"]),
        ({"tracing": {"otlp": {"grpc": {"insecure": True}}}}, ["tracing.otlp.grpc"]),
        ({"tracing": {"otlp": {"protocol": "GRPC", "grpc": {"insecure": True}}}}, []),
        (
            {"tracing": {"otlp": {"protocol": "grpc", "compression": "deflate"}}},
            ["tracing.otlp.compression"],
        ),
        ({"monitoring": {"type": "default", "options": {"log_path": "x"}}}, []),
        ({"monitoring": {"type": "otlp"}}, ["monitoring.type"]),
        ({"monitoring": {"options": {"log_config_file": "x"}}}, ["monitoring.options.log_config_file"]),
        ({"traffic": 5}, []),
    ],
)
def test_what_nothing_acts_on_is_known(config: dict[str, object], keys: list[str]) -> None:
    assert not_used(config) == keys


def test_what_nothing_acts_on_is_one_line_that_leaves_out_what_recommends_a_machine() -> None:
    config = {
        "grpc": {"port": 1},
        "resources": {"gpu_type": "nvidia-l4"},
        "tracing": {"exporter_type": "jaeger"},
    }

    assert not_used_note("Iris", config) == (
        "configuration of Iris, without effect here: `tracing.exporter_type` "
        "(`otlp` and `zipkin` export, and Jaeger takes `otlp`), `grpc`"
    )
    assert not_used_note("Iris", {"resources": {"gpu_type": "nvidia-l4"}}) is None


@pytest.mark.parametrize(
    "workers", [0, -1, "", "many", 1.5, True, False, {"gpu": 1}, [], [{"gpu": 0}], [1], [{}, {"gpu": "x"}]]
)
def test_a_problem_with_workers_is_told_once(workers: object) -> None:
    assert len(problems({"workers": workers})) == 1


def test_what_workers_may_be_is_told() -> None:
    assert problems({"workers": []}) == [
        '  `workers`: expected a number above 0, "cpu_count", or a list with an item a worker, found []'
    ]


@pytest.mark.parametrize("workers", [3, "3"])
def test_a_number_of_workers_may_be_text(workers: object) -> None:
    assert load_config("Iris", {"workers": workers}).workers == 3


def test_the_keys_are_those_that_overrides_for_all_services_may_have() -> None:
    assert set(ServiceConfig.model_fields) == environment.CONFIG_KEYS


def test_overrides_for_all_services_are_weaker_than_those_for_one() -> None:
    text = '{"services": {"workers": 2, "threads": 3, "Iris": {"workers": 4}, "Other": {"threads": 9}}}'

    assert environment.with_overrides("Iris", {}, {"BENTOML_CONFIG_OVERRIDES": text}) == {
        "workers": 4,
        "threads": 3,
    }


def test_overrides_for_all_services_are_weaker_than_what_one_declares_and_its_own_are_stronger() -> None:
    text = '{"services": {"workers": 2, "threads": 3, "Iris": {"backlog": 99}}}'
    declared = {"threads": 5, "backlog": 65}

    assert environment.with_overrides("Iris", declared, {"BENTOML_CONFIG_OVERRIDES": text}) == {
        "workers": 2,
        "threads": 5,
        "backlog": 99,
    }


def test_overrides_for_one_service_replace_single_values_of_those_for_all() -> None:
    text = '{"services": {"traffic": {"timeout": 9}, "Iris": {"traffic": {"max_concurrency": 4}}}}'

    assert environment.with_overrides("Iris", {}, {"BENTOML_CONFIG_OVERRIDES": text}) == {
        "traffic": {"timeout": 9, "max_concurrency": 4}
    }
