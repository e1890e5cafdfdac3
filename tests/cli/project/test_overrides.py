"""What a bentofile says of single services: what their images hold then, and why."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.cli.conftest import WriteProject
from typer.testing import CliRunner

from bento_cli.build import BuildPlan, plan_build
from bento_cli.build.writing import render_bento
from bento_cli.commands.build import app
from bento_cli.store.bento import Tag

SERVICE = """
    import bentoml
    import cv2
    import torch

    @bentoml.service
    class Gpu:
        @bentoml.api
        def run(self, x: int) -> int:
            return torch.tensor(x)

    @bentoml.service
    class Cpu:
        gpu = bentoml.depends(Gpu)

        @bentoml.api
        def run(self, x: int) -> int:
            return cv2.blur(self.gpu.run(x))
    """
BENTOFILE = """
    service: service:Cpu
    python:
      packages: [torch, opencv-python-headless, accelerate]
    services:
      Cpu: {said}
    """

Plan = Callable[[str], BuildPlan]


@pytest.fixture
def plan(project: WriteProject) -> Plan:
    """`plan("{slim: false}")`: of two services, when that is said of `Cpu`."""

    def plan_with(said: str) -> BuildPlan:
        return plan_build(project({"service.py": SERVICE, "bentofile.yaml": BENTOFILE.format(said=said)}))

    return plan_with


def held(plan: BuildPlan, service: str) -> set[str]:
    """What the image of a service holds beside what the runtime needs."""
    runtime = set.intersection(*(set(image.requirements) for image in plan.images.values()))
    return set(plan.images[service].requirements) - runtime


def why(plan: BuildPlan, service: str, requirement: str) -> str:
    decisions = plan.requirements.decisions
    return next(d.why for d in decisions if (d.service, d.requirement) == (service, requirement))


def test_a_service_holds_what_it_reaches(plan: Plan) -> None:
    found = plan("{}")

    assert held(found, "Cpu") == {"opencv-python-headless"}
    assert held(found, "Gpu") == {"torch", "accelerate"}


def test_packages_of_a_service_are_added_to_its_image_alone(plan: Plan) -> None:
    found = plan("{python: {packages: [scipy>=1.10]}}")

    assert held(found, "Cpu") == {"opencv-python-headless", "scipy>=1.10"}
    assert why(found, "Cpu", "scipy>=1.10") == "services.Cpu.python.packages"
    assert "scipy>=1.10" not in held(found, "Gpu")


def test_packages_of_a_service_stand_for_the_projects_own_line(plan: Plan) -> None:
    found = plan("{python: {packages: [opencv-python-headless<5]}}")

    assert held(found, "Cpu") == {"opencv-python-headless<5"}
    assert why(found, "Cpu", "opencv-python-headless") == "services.Cpu.python.packages says otherwise"


def test_a_placeholder_is_no_longer_there_for_what_is_added(plan: Plan) -> None:
    assert plan("{}").absent["Cpu"] == {"torch"}
    assert plan("{python: {packages: [torch]}}").absent["Cpu"] == frozenset()


def test_what_a_service_excludes_is_not_in_its_image_though_it_is_reached(plan: Plan) -> None:
    found = plan("{python: {exclude: [opencv-python-headless]}}")

    assert held(found, "Cpu") == set()
    assert why(found, "Cpu", "opencv-python-headless") == "services.Cpu.python.exclude"
    assert found.absent["Cpu"] == {"cv2", "torch"}


def test_a_service_that_is_not_slim_holds_all_and_loads_all(plan: Plan) -> None:
    found = plan("{slim: false}")

    assert {"torch", "accelerate", "opencv-python-headless"} <= set(found.images["Cpu"].requirements)
    assert why(found, "Cpu", "torch") == "services.Cpu.slim is false"
    assert found.absent["Cpu"] == frozenset()


def test_a_service_that_is_not_slim_does_without_what_it_excludes(plan: Plan) -> None:
    found = plan("{slim: false, python: {exclude: [accelerate]}}")

    assert {"torch", "opencv-python-headless"} <= set(found.images["Cpu"].requirements)
    assert "accelerate" not in found.images["Cpu"].requirements


@pytest.mark.parametrize(
    "said", ["{}", "{slim: false}", "{python: {packages: [scipy, torch<3], exclude: [accelerate]}}"]
)
def test_the_manifest_says_why_a_service_holds_each_requirement_or_does_not(plan: Plan, said: str) -> None:
    found = plan(said)

    manifest = yaml.safe_load(render_bento(found, Tag("b", "1"), created="now", digest="")["bento.yaml"])

    listed = {decision.requirement for decision in found.requirements.decisions}
    for service in manifest["services"]:
        reasons = {**service["requirements"], **service["left_out"]}
        assert reasons.keys() == listed
        assert all(reasons.values())


def test_the_table_shows_what_each_service_holds_and_why(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    plan("{python: {exclude: [accelerate], packages: [opencv-python]}}")

    result = CliRunner().invoke(app, [".", "--no-lock"], catch_exceptions=False)

    rows = [re.split(r"\s{2,}", line.strip()) for line in result.stderr.splitlines()]
    assert ["torch", "✓ service.py:3: `torch`", "–"] in rows
    assert ["accelerate", "✓ plug-in of torch", "– services.Cpu.python.exclude"] in rows
    assert ["libgl1 (system)", "–", "✓ opencv-python"] in rows
