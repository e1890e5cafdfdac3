from __future__ import annotations

from pathlib import Path

import pytest

from bento_cli.deploy.config import (
    DeploymentConfig,
    effective_configs,
    load_deployment_config,
    not_acted_on,
)
from bento_cli.errors import InputError
from bentoml._graph import Edge, ServiceGraph, ServiceNode

GRAPH = ServiceGraph(
    entry="Front",
    services={
        "Front": ServiceNode(
            name="Front",
            target="service:Front",
            dependencies=(Edge(attribute="leaf", service="Leaf"),),
            config={"traffic": {"timeout": 600}, "workers": 8},
        ),
        "Leaf": ServiceNode(name="Leaf", target="service:Leaf", config={"resources": {"gpu": "1"}}),
    },
)


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "config.yaml"
    path.write_text(text)

    def load() -> None:
        config, file = load_deployment_config(path)
        effective_configs(GRAPH, config, file)

    with pytest.raises(InputError) as caught:
        load()
    return [f"{problem.line}: {problem.message}" for problem in caught.value.problems]


def test_unknown_fields_and_impossible_values_come_at_once_with_their_lines(tmp_path: Path) -> None:
    text = "nam: x\nservices:\n  Front:\n    scaling: {min_replicas: 3, max_replicas: 2}\n"

    assert problems(tmp_path, text) == [
        "1: unknown field `nam`, did you mean `name`?",
        "4: `services.Front.scaling`: min_replicas 3 is more than max_replicas 2",
    ]


def test_services_and_overrides_are_checked_against_the_graph(tmp_path: Path) -> None:
    text = "services:\n  Frnt: {}\n  Leaf:\n    config_overrides:\n      trafic: {timeout: 3}\n"

    found = problems(tmp_path, text)

    assert found[0] == "2: no service 'Frnt'; did you mean `Front`?"
    assert found[1].startswith("5: `trafic`: unknown key, did you mean `traffic`?")


def test_a_name_that_no_project_of_compose_can_have_is_refused(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, "name: My_Deployment\n")

    assert problem.startswith("1: `name`: 'My_Deployment' is no name of a deployment")


@pytest.mark.parametrize("name", ["BENTOML_PORT", "PORT", "BENTOML_PEER_LEAF"])
def test_a_variable_of_the_toolchain_cannot_be_set(tmp_path: Path, name: str) -> None:
    [problem] = problems(tmp_path, f"envs: [{{name: {name}, value: x}}]\n")

    assert "is set by the toolchain itself" in problem


def test_overrides_win_over_what_the_service_says_and_leave_the_rest() -> None:
    overrides = {"traffic": {"max_concurrency": 20}, "workers": [{"gpu": 1}, {"gpu": 1}]}
    config = DeploymentConfig.model_validate({"services": {"Front": {"config_overrides": overrides}}})

    front = effective_configs(GRAPH, config, None)["Front"]

    assert (front.traffic.timeout, front.traffic.max_concurrency) == (600, 20)
    assert front.gpu_total == 2


def test_a_file_that_says_nothing_leaves_nothing_out() -> None:
    assert list(not_acted_on(DeploymentConfig(), GRAPH)) == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"secrets": ["token"]}, "`secrets`"),
        ({"canary": {"route_type": "random"}}, "`canary`"),
        ({"services": {"Leaf": {"scaling": {"min_replicas": 0}}}}, "`services.Leaf.scaling.min_replicas`"),
        ({"services": {"Leaf": {"scaling": {"policy": {"metrics": []}}}}}, "`services.Leaf.scaling.policy`"),
        ({"services": {"Leaf": {"cold_start_timeout": 60}}}, "`services.Leaf.cold_start_timeout`"),
        ({"services": {"Leaf": {"extras": {}}}}, "`services.Leaf.extras`"),
        (
            {"services": {"Leaf": {"config_overrides": {"http": {"port": 8080}}}}},
            "an address in `services.Leaf.config_overrides.http`",
        ),
    ],
)
def test_what_is_not_acted_on_is_told(said: dict[str, object], told: str) -> None:
    [line] = not_acted_on(DeploymentConfig.model_validate(said), GRAPH)

    assert line.startswith(told)
