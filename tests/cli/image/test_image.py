"""What the image of one service is decided to hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bento_cli.image import (
    ImageSpec,
    container_address,
    cuda_problem,
    plan_image,
    service_variables,
    tasks_folder,
)
from bento_cli.image.declared import DeclaredImage
from bento_cli.project.bentofile import Bentofile
from bentoml import _environment as environment
from bentoml._config import ServiceConfig, load_config
from bentoml._graph import ServiceNode

PlanImage = Callable[..., ImageSpec]

NODE = ServiceNode(name="Entry", target="service:Entry")
NOTHING = DeclaredImage()


@pytest.fixture
def image_of() -> PlanImage:
    """`image_of({"resources": {"gpu": 1}}, requirements=[...])`: the image of such a service."""

    def plan(
        config: dict[str, Any] | None = None,
        *,
        requirements: tuple[str, ...] = (),
        bentofile: dict[str, Any] | None = None,
        declared: DeclaredImage = NOTHING,
        node: ServiceNode = NODE,
        runtime: tuple[str, ...] = (),
    ) -> ImageSpec:
        return plan_image(
            replace(node, config=config or {}),
            load_config(node.name, config or {}),
            Bentofile.model_validate({"service": "service:Entry", **(bentofile or {})}),
            declared,
            requirements=requirements,
            index_options=(),
            runtime=runtime,
            absent=frozenset({"torch", "cv2"}),
            dependents=("Front", "Back"),
            declares_all=True,
        )

    return plan


def test_a_service_without_a_gpu_stands_on_a_slim_python(image_of: PlanImage) -> None:
    image = image_of(declared=DeclaredImage(python_version="3.12"))

    assert (image.base_image, image.base_has_python) == ("python:3.12-slim-bookworm", True)
    assert image.base_reason == "asks for no GPU"


def test_a_service_with_a_gpu_stands_on_cuda_and_brings_its_python(image_of: PlanImage) -> None:
    image = image_of({"resources": {"gpu": 1}}, requirements=("torch>=2",))

    assert image.base_image.startswith("nvidia/cuda:")
    assert not image.base_has_python
    assert image.base_reason == "asks for a GPU; torch brings the libraries of CUDA 12.8"


def test_a_base_with_cudnn_is_taken_where_no_package_brings_the_libraries(image_of: PlanImage) -> None:
    image = image_of({"resources": {"gpu": 1}}, requirements=("numpy",))

    assert "-cudnn-runtime-" in image.base_image


@pytest.mark.parametrize(
    ("requirement", "base_image", "reason"),
    [
        ("torch==2.5.1", "12.6.3-base-", "torch 2.5.1 brings the libraries of CUDA 12.4"),
        ("torch==2.8.0+cu128", "12.8.1-base-", "torch 2.8.0 brings the libraries of CUDA 12.8"),
        ("torch==1.13", "12.6.3-base-", "torch 1.13 brings the libraries of CUDA 12.1"),
        ("torch==2.*", "12.8.1-base-", "torch brings the libraries of CUDA 12.8"),
        ("torch==2.11.0", "13.0.2-base-", "torch 2.11.0 brings the libraries of CUDA 13.0"),
        ("torch==2.15.0", "13.2.1-base-", "torch 2.15.0 brings the libraries of CUDA 13.2"),
        ("vllm==0.11.2", "12.8.1-base-", "vllm 0.11.2 brings the libraries of CUDA 12.8"),
        ("jax[cuda13]==0.8.0", "13.0.2-base-", "jax 0.8.0 brings the libraries of CUDA 13.0"),
        ("tensorflow[and-cuda]==2.20", "12.6.3-base-", "tensorflow 2.20 brings the libraries of CUDA 12.5"),
        ("tensorflow==2.20", "12.6.3-cudnn-runtime-", "tensorflow 2.20 is built for CUDA 12.5"),
        ("torch", "12.8.1-base-", "torch brings the libraries of CUDA 12.8"),
        ("onnxruntime-gpu==1.20.1", "12.6.3-cudnn-runtime-", "onnxruntime-gpu 1.20.1 is built for CUDA 12.6"),
    ],
)
def test_the_cuda_of_a_base_is_that_of_the_package_that_needs_it(
    image_of: PlanImage, requirement: str, base_image: str, reason: str
) -> None:
    image = image_of({"resources": {"gpu": 1}}, requirements=(requirement,))

    assert image.base_image == f"nvidia/cuda:{base_image}ubuntu24.04"
    assert image.base_reason == f"asks for a GPU; {reason}"


def test_a_package_that_brings_the_libraries_decides_for_the_others(image_of: PlanImage) -> None:
    image = image_of({"resources": {"gpu": 1}}, requirements=("ctranslate2", "torch"))

    assert "-base-" in image.base_image


def test_gpus_of_workers_count_as_well(image_of: PlanImage) -> None:
    assert image_of({"workers": [{"gpu": 1}, {"gpu": 1}]}).gpus == 2


def test_the_base_image_of_the_project_wins(image_of: PlanImage) -> None:
    declared = DeclaredImage(base_image="mine/python:1", base_source="docker.base_image of bentofile.yaml")

    image = image_of({"resources": {"gpu": 1}}, declared=declared)

    assert (image.base_image, image.python_image, image.base_has_python) == (*["mine/python:1"] * 2, True)
    assert image.base_reason == "docker.base_image of bentofile.yaml"


@pytest.mark.parametrize(
    ("base_image", "python"),
    [
        ("nvidia/cuda:12.6.3-runtime-ubuntu24.04", "python:3.12-slim-bookworm"),
        ("registry.example/mirror/nvidia/cuda:12.4.1-devel-ubuntu22.04", "python:3.12-slim-bullseye"),
        ("debian:bookworm-slim", "python:3.12-slim-bookworm"),
    ],
)
def test_a_base_that_is_known_to_hold_no_python_gets_one_that_its_libraries_run(
    image_of: PlanImage, base_image: str, python: str
) -> None:
    image = image_of(declared=DeclaredImage(base_image=base_image, python_version="3.12"))

    assert (image.python_image, image.base_has_python) == (python, False)


@pytest.mark.parametrize("base_image", ["python:3.10-slim", "registry.example:5000/team/python:3.10.4"])
def test_a_base_that_names_its_python_says_which_version_it_is(image_of: PlanImage, base_image: str) -> None:
    assert image_of(declared=DeclaredImage(base_image=base_image)).python_version == "3.10"


@pytest.mark.parametrize(
    ("asked", "requirements", "base_image"),
    [
        ("12.4", ("torch",), "nvidia/cuda:12.4.1-base-ubuntu22.04"),
        ("12.6.3", ("torch",), "nvidia/cuda:12.6.3-base-ubuntu24.04"),
        ("11.8", ("numpy",), "nvidia/cuda:11.8.0-cudnn8-runtime-ubuntu22.04"),
        ("12.8", ("onnxruntime-gpu",), "nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04"),
    ],
)
def test_the_cuda_that_is_asked_for_is_taken(
    image_of: PlanImage, asked: str, requirements: tuple[str, ...], base_image: str
) -> None:
    declared = DeclaredImage(cuda_version=asked)

    image = image_of({"resources": {"gpu": 1}}, requirements=requirements, declared=declared)

    assert image.base_image == base_image
    assert image.base_reason == f"asks for a GPU; `docker.cuda_version` is {asked}"


def test_a_major_version_of_cuda_is_its_newest_one(image_of: PlanImage) -> None:
    one, other = (
        image_of({"resources": {"gpu": 1}}, declared=DeclaredImage(cuda_version=version)).base_image
        for version in ("11", "11.8")
    )

    assert one == other


def test_a_service_without_a_gpu_stands_on_no_cuda(image_of: PlanImage) -> None:
    assert image_of(declared=DeclaredImage(cuda_version="12.8")).base_image.startswith("python:")


def test_a_cuda_that_has_no_images_comes_with_those_that_have() -> None:
    message = cuda_problem("12.7")

    assert message is not None
    assert message.startswith("no images for CUDA '12.7'; there are 11.8, 12.1, 12.4")


def test_system_packages_come_from_what_is_known_and_from_the_project(image_of: PlanImage) -> None:
    said = "docker.system_packages of bentofile.yaml"
    declared = DeclaredImage(system_packages={"git": said, "libgl1": said})

    image = image_of(requirements=("OpenCV_Python>=4",), declared=declared)

    assert image.system_packages == {
        "git": said,
        "libgl1": said,
        "libglib2.0-0": "opencv-python",
        "libxcb1": "opencv-python",
    }


def test_the_runtimes_requirements_are_part_of_it(image_of: PlanImage) -> None:
    image = image_of(requirements=("numpy", "httpx"), runtime=("httpx", "fastapi>=0.115"))

    assert image.requirements == ("fastapi>=0.115", "httpx", "numpy")


def test_the_image_says_which_service_it_runs(image_of: PlanImage) -> None:
    environment = image_of({"workers": 2}).environment

    assert environment["BENTOML_SERVICE"] == "service:Entry"
    assert environment["BENTOML_ABSENT_MODULES"] == "cv2,torch"
    assert environment["BENTOML_DEPENDENTS"] == "Back,Front"
    assert environment["BENTOML_DECLARED"] == '{"config":{"workers":2},"name":"Entry"}'


def test_a_configuration_that_is_not_known_in_full_is_not_declared() -> None:
    variables = service_variables(
        NODE, [], arguments={}, absent=frozenset(), dependents=(), declares_all=False
    )

    assert variables == {}


def test_a_command_that_answers_for_a_service_is_declared(image_of: PlanImage) -> None:
    declared = [
        image_of(node=replace(NODE, runs_command=runs)).environment["BENTOML_DECLARED"]
        for runs in (True, False)
    ]

    assert [environment.declared_from(text).runs_command for text in declared] == [True, False]


def test_a_service_is_told_the_arguments_of_its_bento(image_of: PlanImage) -> None:
    image = image_of(bentofile={"args": {"size": "small", "steps": 20, "seed": None}})

    assert image.environment["BENTOML_ARGUMENTS"] == '{"seed":null,"size":"small","steps":20}'


def test_without_arguments_there_is_no_variable_for_them(image_of: PlanImage) -> None:
    assert "BENTOML_ARGUMENTS" not in image_of().environment


@pytest.mark.parametrize("http", [{"port": 8080}, {"host": "127.0.0.1"}])
def test_a_container_listens_where_its_peers_look_for_it(
    image_of: PlanImage, http: dict[str, object]
) -> None:
    environment = image_of({"http": http}).environment

    assert (environment["BENTOML_HOST"], environment["BENTOML_PORT"]) == ("0.0.0.0", "3000")


def test_a_service_that_says_nothing_of_its_address_leaves_it_to_whoever_runs_it(image_of: PlanImage) -> None:
    assert not {"BENTOML_HOST", "BENTOML_PORT"} & image_of().environment.keys()


def test_a_configuration_that_is_not_known_in_full_may_hold_another_address() -> None:
    assert container_address(ServiceConfig(), is_known=False)["BENTOML_PORT"] == "3000"


STORE = {"name": "BENTOML_RESULT_STORE", "value": "redis://cache", "stage": "all"}


def test_results_of_tasks_are_kept_in_a_folder_of_the_container() -> None:
    assert tasks_folder(replace(NODE, tasks=("run",)), []) == "/home/bento/tasks"


def test_a_service_without_tasks_keeps_no_results() -> None:
    assert tasks_folder(NODE, []) is None


@pytest.mark.parametrize(
    ("own", "envs", "given"),
    [((STORE,), [], []), ((), [STORE], []), ((), [{**STORE, "value": ""}], []), ((), [], [STORE["name"]])],
)
def test_results_are_kept_where_the_project_or_its_deployment_says(
    own: tuple[dict[str, str], ...], envs: list[dict[str, str]], given: list[str]
) -> None:
    assert tasks_folder(replace(NODE, tasks=("run",), envs=own), envs, given) is None


ENVS = [
    {"name": "ALWAYS", "value": "1"},
    {"name": "BUILD", "value": "2", "stage": "build"},
    {"name": "RUN", "value": "3", "stage": "runtime"},
    {"name": "GIVEN_LATER"},
]


def test_variables_are_there_in_the_stage_they_are_for(image_of: PlanImage) -> None:
    image = image_of(bentofile={"envs": ENVS})

    assert image.build_environment == {"ALWAYS": "1", "BUILD": "2"}
    assert {"ALWAYS", "BUILD", "RUN", "GIVEN_LATER"} & image.environment.keys() == {"ALWAYS", "RUN"}


def test_the_bentofiles_variables_win_over_the_services_own(image_of: PlanImage) -> None:
    node = replace(NODE, envs=({"name": "RUN", "value": "0", "stage": "all"},))

    image = image_of(bentofile={"envs": ENVS}, node=node)

    assert (image.environment["RUN"], image.build_environment["RUN"]) == ("3", "0")


def test_labels_of_the_service_win_over_the_bentofiles(image_of: PlanImage) -> None:
    node = replace(NODE, labels={"team": "b"})

    image = image_of(bentofile={"labels": {"team": "a", "project": "c"}}, node=node)

    assert image.labels == {"team": "b", "project": "c"}


def test_what_loads_from_a_hub_gets_a_folder_for_models(image_of: PlanImage) -> None:
    image = image_of(requirements=("diffusers",))

    assert image.uses_model_hub
    assert image.environment["HF_HOME"] == image.cache_folder


def test_the_projects_own_folder_for_models_wins(image_of: PlanImage) -> None:
    image = image_of(
        requirements=("diffusers",), bentofile={"envs": [{"name": "HF_HOME", "value": "/models"}]}
    )

    assert image.environment["HF_HOME"] == "/models"
