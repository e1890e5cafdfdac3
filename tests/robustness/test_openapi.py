"""The service against its own OpenAPI document: schemathesis derives requests from it, good ones and bad."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.robustness.everything import Everything
from tests.runtime.conftest import ServiceProcess, service_of

from bentoml._serving.openapi import openapi_document

EXAMPLES = int(os.environ.get("BENTO_FUZZ_EXAMPLES", "25"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
SERVICE = (Path(__file__).parent / "everything.py").read_text()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    project = tmp_path_factory.mktemp("project")
    (project / "service.py").write_text(SERVICE)
    variables = {"BENTOML_CONFIG_OVERRIDES": '{"services": {"Everything": {"traffic": {"timeout": 20}}}}'}
    process = ServiceProcess("service:Everything", project, (), variables)
    try:
        yield process.wait_until_ready()
    finally:
        process.kill_all()


schema = schemathesis.openapi.from_dict(openapi_document(service_of(Everything)))


@schema.parametrize()
@settings(
    max_examples=EXAMPLES, derandomize=EXAMPLES == 25, deadline=None, suppress_health_check=list(HealthCheck)
)
def test_every_endpoint_keeps_to_its_document(case: Any, served: ServiceProcess) -> None:
    case.call_and_validate(base_url=served.address, checks=CHECKS)


def test_the_service_is_as_it_was(served: ServiceProcess) -> None:
    assert served.post("/add", json={"a": 1}).json() == 2.5
    assert "failed" not in served.log
