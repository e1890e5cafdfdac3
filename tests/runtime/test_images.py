"""What a service says of its image, told step by step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bentoml.exceptions import BentoMLConfigException
from bentoml.images import Image


def test_every_step_returns_the_image_and_is_kept_in_order() -> None:
    image = Image("debian:bookworm", python_version="3.11")

    told = (
        image.system_packages("curl", "git")
        .run("a")
        .python_packages("numpy")
        .requirements_file("requirements.txt")
        .pyproject_toml()
        .uv_lock()
        .run_script("b.sh")
        .build_include("data")
    )

    assert told is image
    assert [method for method, _ in image.steps] == [
        *("system_packages", "run", "python_packages", "requirements_file"),
        *("pyproject_toml", "uv_lock", "run_script", "build_include"),
    ]


def test_an_image_that_is_told_nothing_lists_no_packages() -> None:
    assert not Image().run("a").system_packages("git").lists_packages


@pytest.mark.parametrize(
    "image", [Image(python_requirements="numpy"), Image().python_packages("a"), Image().uv_lock()]
)
def test_an_image_knows_whether_it_lists_packages(image: Image) -> None:
    assert image.lists_packages


def test_naming_no_package_is_a_mistake() -> None:
    with pytest.raises(BentoMLConfigException, match="needs the name of a package"):
        Image().python_packages()


@pytest.mark.parametrize(
    "more",
    [
        lambda image: image.python_packages("b"),
        lambda image: image.requirements_file("b.txt"),
        lambda image: image.pyproject_toml(),
    ],
)
def test_packages_after_a_command_that_needs_packages_are_a_mistake(more: Callable[[Image], Image]) -> None:
    image = Image().python_packages("a").run("use a")

    with pytest.raises(BentoMLConfigException, match="comes after a command that runs once packages are"):
        more(image)


def test_packages_after_a_command_that_needs_none_are_fine() -> None:
    assert Image().run("before").python_packages("a").lists_packages
