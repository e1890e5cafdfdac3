"""What `python -m bentoml` says as it starts."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from tests.runtime.conftest import Start

SERVICE = """
    import bentoml

    @bentoml.service(workers=2, runner_probe={"enabled": False}, tracing={"exporter_type": "jaeger"})
    class Iris:
        @bentoml.api
        def size(self) -> int:
            return 3
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "service.py").write_text(textwrap.dedent(SERVICE))
    return tmp_path


def test_what_has_no_effect_is_told_once_and_not_by_each_worker(project: Path, start: Start) -> None:
    service = start("service:Iris").wait_until_ready()
    service.stop()

    warnings = [line for line in service.log.splitlines() if "WARN" in line]
    assert [line.partition("[Iris] ")[2] for line in warnings] == [
        "configuration of Iris, without effect here: `tracing.exporter_type` "
        "(`otlp` and `zipkin` export, and Jaeger takes `otlp`), `runner_probe`"
    ]


def test_overrides_for_a_service_that_is_not_known_are_told_and_the_service_goes_on(
    project: Path, start: Start
) -> None:
    overrides = '{"services": {"Irris": {"workers": 9}}}'
    service = start("service:Iris", BENTOML_CONFIG_OVERRIDES=overrides).wait_until_ready()

    assert service.log.count("`services.Irris` is no service that Iris knows") == 1
