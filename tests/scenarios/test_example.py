"""The example is the seed's own, and its picture comes back from processes and from containers."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.scenarios.conftest import EXAMPLE, Run, post_drawing

# What the seed page gives as its example; a change of one byte would be another example.
SEED = {
    "service.py": "0e0887873538954e8d3b573a6251d046871e99226045ae6f0c4ce048de5d5ff0",
    "config-file.yaml": "f4175f3eec45e0d117b23b104aca8072adc54746d80f8a17648ec77cce45c588",
}


@pytest.mark.parametrize("name", SEED)
def test_the_example_is_the_seeds_own_byte_for_byte(name: str) -> None:
    assert hashlib.sha256((EXAMPLE / name).read_bytes()).hexdigest() == SEED[name]


@pytest.mark.docker
def test_each_service_has_an_image_of_its_own(example_images: dict[str, str]) -> None:
    for service, reference in example_images.items():
        labels = json.loads(_inspect(reference, "{{json .Config.Labels}}"))
        assert labels["org.bentoml.service"] == service
        assert labels["owner"] == "bentoml-team"


@pytest.mark.docker
def test_the_image_of_the_cpu_service_holds_neither_torch_nor_diffusers(
    example_images: dict[str, str],
) -> None:
    program = "from importlib.util import find_spec; print(*filter(find_spec, ['cv2', 'torch', 'diffusers']))"
    assert _in_image(example_images["ControlNet"], "python", "-c", program) == "cv2"


@pytest.mark.docker
def test_the_image_of_the_gpu_service_stands_on_cuda_and_holds_torch(example_images: dict[str, str]) -> None:
    program = "import os, torch; print(os.environ['CUDA_VERSION'], torch.tensor(2) + 2)"
    assert _in_image(example_images["SDXLControlNetService"], "python", "-c", program).endswith("tensor(4)")


@pytest.mark.docker
@pytest.mark.parametrize("service", ["ControlNet", "SDXLControlNetService"])
def test_images_run_as_an_ordinary_user_and_say_how_they_are(
    example_images: dict[str, str], service: str
) -> None:
    assert _in_image(example_images[service], "id", "-u") == "10001"
    assert "bentoml._probe" in _inspect(example_images[service], "{{json .Config.Healthcheck.Test}}")


@pytest.mark.docker
def test_compose_in_the_bentos_folder_serves_the_example(
    run: Run,
    example_bento: Path,
    example_images: dict[str, str],
    weights: Path,
    free_port: int,
    compose_down: Callable[[str], None],
) -> None:
    compose_down("control_net")

    started = run(
        "docker", "compose", "-f", "compose.yaml", "-f", "compose.cpu.yaml", "up", "--wait",
        cwd=example_bento,
        BENTOML_PUBLISHED_PORT=str(free_port),
        BENTOML_HF_CACHE_DIR=str(weights),
        HF_HUB_OFFLINE="1",
    )  # fmt: skip

    assert started.returncode == 0, started.stderr
    assert post_drawing(free_port).size == (128, 96)

    # An idle service stops when told to: one that had to be killed would have ended with 137.
    stopped = run("docker", "compose", "stop", "--timeout", "5", cwd=example_bento)
    assert stopped.returncode == 0, stopped.stderr
    states = run(
        "docker", "compose", "ps", "--all", "--format", "{{.Service}} {{.ExitCode}}", cwd=example_bento
    )
    assert sorted(states.stdout.split("\n")[:-1]) == ["control-net 0", "sdxl-control-net-service 0"]


@pytest.mark.docker
def test_the_seeds_deployment_file_deploys(
    run: Run, weights: Path, free_port: int, compose_down: Callable[[str], None]
) -> None:
    compose_down("bento-deployment-name")
    command = [
        "bento",
        "deploy",
        EXAMPLE,
        "-f",
        EXAMPLE / "config-file.yaml",
        "--cpu",
        "--port",
        str(free_port),
    ]
    variables = {"BENTOML_HF_CACHE_DIR": str(weights), "HF_HUB_OFFLINE": "1"}

    first = run(*command, **variables)
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip() == f"http://127.0.0.1:{free_port}"
    assert post_drawing(free_port).size == (128, 96)

    # What the file says is in force.
    container = "bento-deployment-name-sdxl-control-net-service-1"
    environ = dict(line.split("=", 1) for line in run("docker", "exec", container, "env").stdout.splitlines())
    assert environ["GLOBAL_ENV_VAR_NAME"] == environ["ENV_VAR_NAME"] == "env_var_value"
    overrides = json.loads(environ["BENTOML_CONFIG_OVERRIDES"])["services"]["SDXLControlNetService"]
    assert (
        overrides
        == yaml.safe_load((EXAMPLE / "config-file.yaml").read_text())["services"]["SDXLControlNetService"][
            "config_overrides"
        ]
    )
    assert "not acted on" not in first.stderr

    again = run(*command, **variables)
    assert "nothing to do" in again.stderr


@pytest.mark.docker
def test_a_graph_that_asks_for_a_gpu_is_refused_before_anything_starts(run: Run) -> None:
    if "nvidia" in run("docker", "info", "--format", "{{.Runtimes}}").stdout:
        pytest.skip("this engine has a GPU")

    result = run("bento", "deploy", EXAMPLE, "--name", "wants-a-gpu")

    assert result.returncode == 5
    assert "no GPU, and SDXLControlNetService asks for one" in result.stderr
    assert "--cpu" in result.stderr
    assert run("docker", "ps", "-aq", "--filter", "label=org.bentoml.deployment=wants-a-gpu").stdout == ""


def _inspect(reference: str, template: str) -> str:
    command = ["docker", "image", "inspect", "--format", template, reference]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _in_image(reference: str, program: str, *arguments: str) -> str:
    command = ["docker", "run", "--rm", "--entrypoint", program, reference, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
