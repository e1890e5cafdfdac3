from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bento_cli.bento import Bento, Manifest, ManifestService
from bento_cli.compose import ComposeService
from bento_cli.deploy import plan_deployment
from bento_cli.deploy.plan import SPEC_LABEL, DeployOptions, Observed, labelled, observe, plan
from bento_cli.deployment_config import DeploymentConfig
from bento_cli.engine import Container
from bento_cli.errors import BentoError

LEAF = ComposeService(
    name="Leaf",
    container="leaf",
    image="graph/leaf:1",
    peers=(),
    environment={},
    cache_folder=None,
    replicas=2,
    labels={SPEC_LABEL: "new"},
)
RUNNING = Observed(specs=frozenset({"new"}), replicas=2)


def planned(observed: dict[str, Observed]) -> list[str]:
    return [str(operation) for operation in plan([LEAF], observed)]


def test_a_service_that_is_not_there_is_created() -> None:
    assert planned({}) == ["create Leaf: not there; 2 replicas of graph/leaf:1"]


def test_nothing_is_done_where_everything_runs_as_it_should() -> None:
    assert planned({"Leaf": RUNNING}) == []


def test_a_service_with_other_settings_is_replaced() -> None:
    assert planned({"Leaf": replace(RUNNING, specs=frozenset({"old"}))}) == [
        "replace Leaf: image or settings differ; 2 replicas of graph/leaf:1"
    ]


def test_a_service_half_of_whose_replicas_are_old_is_replaced() -> None:
    assert planned({"Leaf": replace(RUNNING, specs=frozenset({"old", "new"}))})[0].startswith("replace Leaf")


def test_a_service_with_too_few_replicas_is_scaled() -> None:
    assert planned({"Leaf": replace(RUNNING, replicas=1)}) == ["scale Leaf: has 1, wanted 2 replicas"]


def test_a_service_that_stopped_is_started() -> None:
    assert planned({"Leaf": replace(RUNNING, is_running=False)}) == ["create Leaf: not running"]


def test_a_service_that_left_the_graph_is_removed() -> None:
    assert planned({"Leaf": RUNNING, "Gone": RUNNING}) == ["remove Gone: not part of the graph"]


def test_containers_are_observed_by_service() -> None:
    containers = [
        Container(
            identifier=str(number),
            name=f"leaf-{number}",
            state=state,
            health=None,
            restarts=0,
            labels={"org.bentoml.service": "Leaf", SPEC_LABEL: "new"},
        )
        for number, state in enumerate(["running", "exited"])
    ]

    assert observe(containers) == {"Leaf": replace(RUNNING, is_running=False)}


def test_another_image_behind_the_same_name_is_another_setting() -> None:
    specs = {labelled(LEAF, "d", image, {}).labels[SPEC_LABEL] for image in ("sha256:a", "sha256:b")}

    assert len(specs) == 2


def test_another_label_of_the_file_is_another_setting() -> None:
    specs = {labelled(LEAF, "d", "sha256:a", labels).labels[SPEC_LABEL] for labels in ({}, {"a": "b"})}

    assert len(specs) == 2


def bento(*envs: dict[str, str], **fields: Any) -> Bento:
    service = ManifestService(
        name="Leaf",
        target="service:Leaf",
        base_image="python",
        base_reason="",
        python_version="3.11",
        **fields,
    )
    manifest = Manifest(
        service="service:Leaf",
        name="leaf",
        version="1",
        bentoml_version="1",
        creation_time="",
        entry_service="Leaf",
        envs=envs,
        services=(service,),
    )
    return Bento(Path("unused"), manifest)


@pytest.mark.parametrize("name", ["../../elsewhere", "/tmp/elsewhere", "Upper", ""])
def test_a_name_that_leads_out_of_the_folder_of_deployments_is_refused(name: str) -> None:
    with pytest.raises(BentoError, match="is no name of a deployment"):
        plan_deployment(bento(), DeploymentConfig(), None, DeployOptions(), name=name or "-")


def test_a_variable_that_nobody_gives_a_value_is_refused_by_name() -> None:
    wanted = bento({"name": "TOKEN", "value": "", "stage": "all"}, {"name": "LATER", "stage": "build"})

    with pytest.raises(BentoError, match=r"^TOKEN is not set, needed by Leaf$"):
        plan_deployment(wanted, DeploymentConfig(), None, DeployOptions())


def test_a_variable_that_the_file_gives_a_value_is_enough() -> None:
    wanted = bento({"name": "TOKEN", "value": "", "stage": "all"})
    config = DeploymentConfig.model_validate({"envs": [{"name": "TOKEN", "value": "x"}]})

    assert plan_deployment(wanted, config, None, DeployOptions()).name == "leaf"


def test_a_deployments_file_may_say_where_another_deployment_is() -> None:
    wanted = bento(dependencies=({"attribute": "iris", "deployment": "iris"},))
    variable = {"name": "BENTOML_DEPLOYMENT_IRIS", "value": "http://iris:3000"}

    service = service_of(wanted, {"envs": [variable]})

    assert service.variables["BENTOML_DEPLOYMENT_IRIS"] == "http://iris:3000"


def service_of(bento: Bento, config: dict[str, Any]) -> ComposeService:
    """The one service of a deployment with such a file."""
    deployment = plan_deployment(bento, DeploymentConfig.model_validate(config), None, DeployOptions())
    return deployment.services[0]


def test_results_of_tasks_outlive_a_deployments_containers() -> None:
    service = service_of(bento(tasks=("run",)), {})

    assert service.variables["BENTOML_RESULT_STORE"] == f"{service.tasks_folder}/results.db"


@pytest.mark.parametrize("place", ["all", "Leaf"])
def test_a_deployments_file_may_say_where_results_are_kept(place: str) -> None:
    said = {"envs": [{"name": "BENTOML_RESULT_STORE", "value": "redis://cache"}]}
    config = said if place == "all" else {"services": {"Leaf": said}}

    service = service_of(bento(tasks=("run",)), config)

    assert service.variables["BENTOML_RESULT_STORE"] == "redis://cache"
    assert service.tasks_folder is None


def test_an_override_of_the_port_does_not_move_a_container() -> None:
    overrides = {"services": {"Leaf": {"config_overrides": {"http": {"port": 8080}}}}}

    assert service_of(bento(), overrides).environment["BENTOML_PORT"] == "3000"


def test_a_deployment_whose_entry_speaks_tls_says_so_in_its_url() -> None:
    with_tls = bento(config={"ssl": {"enabled": True, "certfile": "cert.pem"}})

    assert plan_deployment(with_tls, DeploymentConfig(), None, DeployOptions()).url.startswith("https://")
