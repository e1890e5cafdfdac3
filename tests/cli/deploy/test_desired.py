"""What is to run, from a Bento and a deployment's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bento_cli.deploy.config import DeploymentConfig
from bento_cli.deploy.desired import DeployOptions, desired_deployment
from bento_cli.deploy.spec import Bounds, DeploymentSpec, ServiceSpec, Strategy
from bento_cli.errors import BentoError, InputError
from bento_cli.store.bento import Bento, Manifest, ManifestService


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
        desired_deployment(bento(), DeploymentConfig(), None, DeployOptions(), name=name or "-")


def test_a_variable_that_nobody_gives_a_value_is_refused_by_name() -> None:
    wanted = bento({"name": "TOKEN", "value": "", "stage": "all"}, {"name": "LATER", "stage": "build"})

    with pytest.raises(BentoError, match=r"^TOKEN is not set, needed by Leaf$"):
        desired_deployment(wanted, DeploymentConfig(), None, DeployOptions())


def test_a_variable_that_the_file_gives_a_value_is_enough() -> None:
    wanted = bento({"name": "TOKEN", "value": "", "stage": "all"})
    config = DeploymentConfig.model_validate({"envs": [{"name": "TOKEN", "value": "x"}]})

    assert desired_deployment(wanted, config, None, DeployOptions()).name == "leaf"


def test_a_deployments_file_may_say_where_another_deployment_is() -> None:
    wanted = bento(dependencies=({"attribute": "iris", "deployment": "iris"},))
    variable = {"name": "BENTOML_DEPLOYMENT_IRIS", "value": "http://iris:3000"}

    service = service_of(wanted, {"envs": [variable]})

    assert service.environment["BENTOML_DEPLOYMENT_IRIS"] == "http://iris:3000"


def desired(bento: Bento, config: dict[str, Any], **options: Any) -> DeploymentSpec:
    """The deployment with such a file."""
    said = DeploymentConfig.model_validate(config)
    return desired_deployment(bento, said, None, DeployOptions(**options))


def service_of(bento: Bento, config: dict[str, Any], **options: Any) -> ServiceSpec:
    """The one service of it."""
    return desired(bento, config, **options).service("Leaf")


def leaf(**said: Any) -> dict[str, Any]:
    return {"services": {"Leaf": said}}


@pytest.mark.parametrize("place", ["all", "Leaf"])
def test_a_deployments_file_may_say_where_results_are_kept(place: str) -> None:
    said = {"envs": [{"name": "BENTOML_RESULT_STORE", "value": "redis://cache"}]}

    service = service_of(bento(tasks=("run",)), said if place == "all" else leaf(**said))

    assert service.environment["BENTOML_RESULT_STORE"] == "redis://cache"
    assert service.tasks_folder is None


def test_results_of_tasks_are_kept_in_a_volume_of_the_deployment() -> None:
    service = service_of(bento(tasks=("run",)), {})

    assert service.environment["BENTOML_RESULT_STORE"] == f"{service.tasks_folder}/results.db"


def test_an_override_of_the_port_does_not_move_a_container() -> None:
    service = service_of(bento(), leaf(config_overrides={"http": {"port": 8080}}))

    assert service.environment["BENTOML_PORT"] == "3000"


def test_a_variable_of_one_service_wins_over_that_of_all() -> None:
    config = {"envs": [{"name": "A", "value": "1"}], **leaf(envs=[{"name": "A", "value": "2"}])}

    assert service_of(bento(), config).environment["A"] == "2"


@pytest.mark.parametrize(
    ("scaling", "bounds"),
    [
        ({}, Bounds(least=1, most=1)),
        ({"min_replicas": 2}, Bounds(least=2, most=2)),
        ({"max_replicas": 3}, Bounds(least=1, most=3)),
        ({"min_replicas": 2, "max_replicas": 5}, Bounds(least=2, most=5)),
    ],
)
def test_the_number_of_replicas_has_bounds(scaling: dict[str, int], bounds: Bounds) -> None:
    assert service_of(bento(), leaf(scaling=scaling)).scaling == bounds


def test_replicas_are_replaced_side_by_side_unless_the_file_says_otherwise() -> None:
    assert service_of(bento(), {}).strategy is Strategy.rolling
    assert service_of(bento(), leaf(deployment_strategy="Recreate")).strategy is Strategy.recreate


def test_an_external_queue_lets_as_many_into_a_replica_as_it_runs_at_once() -> None:
    traffic = {"external_queue": True, "max_concurrency": 20, "timeout": 90}

    service = service_of(bento(), leaf(config_overrides={"traffic": traffic}))

    assert (service.queue, service.timeout_s) == (20, 90)


def test_an_external_queue_without_a_number_is_refused() -> None:
    with pytest.raises(InputError, match="`external_queue` needs `max_concurrency`"):
        service_of(bento(), leaf(config_overrides={"traffic": {"external_queue": True}}))


def test_an_instance_type_is_what_a_replica_never_exceeds() -> None:
    resources = service_of(bento(), leaf(instance_type="cpu.4")).resources

    assert (resources.cpu_limit, resources.memory_limit) == (2, 8 * 2**30)


def test_an_instance_type_that_is_larger_than_the_machine_is_all_of_the_machine() -> None:
    resources = service_of(bento(), leaf(instance_type="cpu.8"), cpus=2, memory=4 * 2**30).resources

    assert (resources.cpu_limit, resources.memory_limit) == (2, 4 * 2**30)


@pytest.mark.parametrize(
    ("config", "said", "words"),
    [
        ({}, {"instance_type": "cpu.5"}, r"no instance type 'cpu.5', did you mean `cpu\.\d`\?"),
        ({"resources": {"gpu": 1}}, {"instance_type": "cpu.2"}, "Leaf asks for 1 GPU, and cpu.2 has none"),
    ],
    ids=["unknown", "without a GPU"],
)
def test_an_instance_type_that_does_not_fit_is_refused(
    config: dict[str, Any], said: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        service_of(bento(config=config), leaf(**said))


def test_a_service_whose_containers_would_be_called_as_the_proxy_is_refused() -> None:
    named = bento()
    [service] = named.manifest.services
    renamed = service.model_copy(update={"name": "Entry"})
    manifest = named.manifest.model_copy(update={"services": (renamed,), "entry_service": "Entry"})

    with pytest.raises(InputError, match="`entry` is no name for the containers of a service"):
        desired(Bento(named.path, manifest), {})


def test_without_gpus_nothing_asks_for_one() -> None:
    wanted = bento(config={"resources": {"gpu": 1}})

    assert service_of(wanted, {}).resources.gpus == 1
    assert service_of(wanted, {}, use_gpu=False).resources.gpus == 0


def test_an_entry_with_a_token_says_so() -> None:
    assert desired(bento(), {"access_authorization": True}).entry.needs_token
