"""`bentoml.deployment` where nothing runs: what it offers, and how it says no."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import bentoml
from bentoml import deployment
from bentoml.exceptions import BentoMLException, MissingDependencyException, NotFound

OF_ONE_NAME = [deployment.get, deployment.start, deployment.terminate, deployment.delete]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_parameters_are_those_of_the_interface() -> None:
    parameters = {
        name: [*inspect.signature(getattr(deployment, name)).parameters] for name in deployment.__all__
    }

    assert parameters["create"][:17] == [
        *("name", "path_context", "bento", "cluster", "access_authorization", "scaling_min", "scaling_max"),
        *("instance_type", "strategy", "envs", "labels", "secrets", "extras", "config_dict", "config_file"),
        *("args", "port"),
    ]
    assert parameters["update"][:3] == ["name", "path_context", "cluster"]
    assert parameters["apply"][:6] == [
        "name",
        "cluster",
        "path_context",
        "bento",
        "config_dict",
        "config_file",
    ]
    assert parameters["list"] == ["cluster", "search", "dev", "q", "labels"]
    assert parameters["terminate"] == ["name", "cluster", "wait"]


def test_there_are_none_at_first() -> None:
    assert deployment.list() == []


@pytest.mark.parametrize("door", OF_ONE_NAME)
def test_one_that_is_not_there_is_not_found(door: Callable[[str], object]) -> None:
    with pytest.raises(NotFound, match="no deployment 'staging'"):
        door("staging")


@pytest.mark.parametrize("door", OF_ONE_NAME)
def test_a_cluster_that_is_not_there_is_not_found(door: Callable[[str, str], object]) -> None:
    with pytest.raises(NotFound, match="no cluster 'elsewhere'"):
        door("staging", "elsewhere")


def test_what_a_configuration_may_not_say_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: staging\nservces: {}\n")

    with pytest.raises(BentoMLException, match=r"config\.yaml:2: unknown field `servces`, did you mean"):
        deployment.apply(config_file=tmp_path / "config.yaml")


def test_what_arguments_may_not_say_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(BentoMLException, match=r"`envs\.0\.name`: 'a-b'"):
        deployment.apply("staging", bento=tmp_path, config_dict={"envs": [{"name": "a-b", "value": ""}]})


@pytest.mark.parametrize("method", ["watch", "upload_files", "delete_files", "list_files"])
def test_what_only_a_hosted_cloud_has_says_so(method: str) -> None:
    one = object.__new__(deployment.Deployment)

    with pytest.raises(BentoMLException, match=f"`Deployment.{method}` is a part of a hosted cloud; here, `"):
        getattr(one, method)()


@pytest.mark.parametrize("door", [deployment.create, deployment.update, deployment.apply, *OF_ONE_NAME])
def test_an_image_says_that_it_holds_no_toolchain(
    door: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bento_cli", None)  # as if it were not installed

    with pytest.raises(
        MissingDependencyException, match=r"`bentoml\.deployment\.\w+\(\)` needs the toolchain"
    ):
        door("staging")


def test_it_is_there_without_being_imported() -> None:
    assert bentoml.deployment is deployment


def test_importing_it_loads_no_toolchain(in_new_python: Callable[[str], str]) -> None:
    program = (
        "import sys, bentoml\nbentoml.deployment.get\nprint([m for m in sys.modules if 'bento_cli' in m])"
    )

    assert in_new_python(program) == "[]"
