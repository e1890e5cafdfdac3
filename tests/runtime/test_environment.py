from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from bentoml import _environment as environment
from bentoml.exceptions import BentoMLConfigException


@pytest.mark.parametrize(
    ("service", "variable"),
    [
        ("SDXLControlNetService", "BENTOML_PEER_SDXLCONTROLNETSERVICE"),
        ("iris-classifier.v2", "BENTOML_PEER_IRIS_CLASSIFIER_V2"),
        ("Größe", "BENTOML_PEER_GR_SSE"),
    ],
)
def test_the_variable_of_a_peer_is_its_name_in_upper_case(service: str, variable: str) -> None:
    assert environment.peer_variable(service) == variable


def test_the_variable_of_a_deployment_holds_its_cluster() -> None:
    assert environment.deployment_variable("iris-x6") == "BENTOML_DEPLOYMENT_IRIS_X6"
    assert environment.deployment_variable("iris-x6", "eu 1") == "BENTOML_DEPLOYMENT_IRIS_X6__EU_1"


def test_a_peer_has_the_addresses_that_its_variable_holds() -> None:
    environ = {"BENTOML_PEER_LEAF": "http://leaf:3000/, https://other/prefix ,"}

    assert environment.peer_addresses("Leaf", environ) == ("http://leaf:3000", "https://other/prefix")


def test_a_peer_that_nothing_names_has_no_address() -> None:
    assert environment.peer_addresses("Leaf", {}) == ()


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({"BENTOML_RUNNER_MAP": '{"Leaf": "tcp://127.0.0.1:4000"}'}, "http://127.0.0.1:4000"),
        ({"BENTOML_RUNNER_MAP": '{"Leaf": "http://leaf:3000"}'}, "http://leaf:3000"),
        ({"BENTOML_SERVE_DEPENDS": "Other=http://other:1 Leaf=http://leaf:3000"}, "http://leaf:3000"),
        (
            {"BENTOML_PEER_LEAF": "http://new:1", "BENTOML_RUNNER_MAP": '{"Leaf": "http://old:1"}'},
            "http://new:1",
        ),
        (
            {"BENTOML_RUNNER_MAP": "{}", "BENTOML_SERVE_DEPENDS": "Leaf=http://leaf:3000"},
            "http://leaf:3000",
        ),
    ],
)
def test_variables_of_older_toolchains_name_peers_too(environ: dict[str, str], address: str) -> None:
    assert environment.peer_addresses("Leaf", environ) == (address,)


@pytest.mark.parametrize(
    "address", ["leaf:3000", "ftp://leaf", "http://", "http://leaf?x=1", "http://a b", "file:///x.sock"]
)
def test_an_address_is_a_base_url(address: str) -> None:
    with pytest.raises(BentoMLConfigException) as caught:
        environment.peer_addresses("Leaf", {"BENTOML_PEER_LEAF": address})

    assert str(caught.value) == (
        f"BENTOML_PEER_LEAF: {address!r} is no base URL, expected `http://host:port`"
    )


def test_a_deployment_has_the_addresses_that_its_variable_holds() -> None:
    environ = {"BENTOML_DEPLOYMENT_IRIS__EU": "http://iris"}

    assert environment.deployment_addresses("iris", "eu", environ) == ("http://iris",)
    assert environment.deployment_addresses("iris", None, environ) == ()


@pytest.mark.parametrize(
    ("environ", "port"),
    [
        ({}, 3000),
        ({"PORT": "80"}, 80),
        ({"PORT": "80", "BENTOML_PORT": "65535"}, 65535),
    ],
)
def test_the_port_is_found_in_three_places(environ: dict[str, str], port: int) -> None:
    assert environment.port(environ) == port


def test_the_management_port_has_a_variable_of_its_own() -> None:
    assert environment.management_port({"PORT": "80"}) == 3001
    assert environment.management_port({"BENTOML_MANAGEMENT_PORT": "81"}) == 81


@pytest.mark.parametrize("text", ["", "0", "65536", "-1", "3000.0", "http", "٣٠٠٠", " 80"])
def test_a_port_is_a_number(text: str) -> None:
    with pytest.raises(BentoMLConfigException, match="is no port, expected a number from 1 to 65535"):
        environment.port({"BENTOML_PORT": text})


def test_overrides_are_those_of_the_service() -> None:
    environ = {"BENTOML_CONFIG_OVERRIDES": '{"services": {"Leaf": {"workers": 2}, "Top": {}}}'}

    assert environment.with_overrides("Leaf", {}, environ) == {"workers": 2}
    assert environment.with_overrides("Other", {}, environ) == {}


def test_overrides_are_read_as_they_were_written() -> None:
    written = environment.overrides_text("Leaf", {"workers": [{"gpu": 1}]})

    assert environment.with_overrides("Leaf", {}, {"BENTOML_CONFIG_OVERRIDES": written}) == {
        "workers": [{"gpu": 1}]
    }


def overridden(*names: str, **variables: str) -> dict[str, str]:
    text = json.dumps({"services": {name: {} for name in names}})
    return {**variables, "BENTOML_CONFIG_OVERRIDES": text}


def test_overrides_for_a_service_that_this_one_does_not_know_are_told_with_the_nearest_name() -> None:
    variables = overridden("Leef", "trafic", "Elsewhere")
    known = "is no service that Leaf knows, nor a key of the configuration"

    assert environment.unknown_overrides("Leaf", variables) == (
        f"BENTOML_CONFIG_OVERRIDES: `services.Leef` {known}, did you mean `Leaf`?",
        f"BENTOML_CONFIG_OVERRIDES: `services.trafic` {known}, did you mean `traffic`?",
        f"BENTOML_CONFIG_OVERRIDES: `services.Elsewhere` {known}",
    )


def test_a_service_knows_those_that_it_calls_and_those_that_call_it() -> None:
    variables = overridden(
        "Leaf", "Top", "Root", "traffic", BENTOML_DEPENDENTS="Top", BENTOML_PEER_ROOT="http://root:3000"
    )

    assert environment.unknown_overrides("Leaf", variables) == ()
    assert environment.unknown_overrides("Leaf", {}) == ()


def test_what_a_service_declares_is_read_as_it_was_written() -> None:
    written = environment.declared_text("Leaf", {"threads": 2}, runs_command=True)
    expected = environment.Declared(name="Leaf", config={"threads": 2}, runs_command=True)

    assert environment.declared({"BENTOML_DECLARED": written}) == expected
    assert environment.declared({}) is None


@pytest.mark.parametrize(
    ("read", "variable", "text", "message"),
    [
        (environment.declared, "BENTOML_DECLARED", "{", "not JSON: "),
        (environment.declared, "BENTOML_DECLARED", "[]", "expected a JSON object, found list"),
        (environment.declared, "BENTOML_DECLARED", '{"name": 1}', "expected `name` and `config`, found name"),
        (
            lambda environ: environment.with_overrides("Leaf", {}, environ),
            "BENTOML_CONFIG_OVERRIDES",
            '{"services": []}',
            "`services` is no object of service names",
        ),
        (
            lambda environ: environment.with_overrides("Leaf", {}, environ),
            "BENTOML_CONFIG_OVERRIDES",
            '{"services": {"Leaf": 1}}',
            "`services.Leaf` is no object",
        ),
        (
            lambda environ: environment.with_overrides("Leaf", {}, environ),
            "BENTOML_CONFIG_OVERRIDES",
            '{"services": {"wrokers": 2}}',
            "`services.wrokers` is no object, did you mean `workers`?",
        ),
        (
            lambda environ: environment.with_overrides("Leaf", {}, environ),
            "BENTOML_CONFIG_OVERRIDES",
            '{"service": {"Leaf": {}}}',
            'expected `{"services": {"Leaf": {...}}}`, found the keys service',
        ),
        (
            lambda environ: environment.peer_addresses("Leaf", environ),
            "BENTOML_RUNNER_MAP",
            "x",
            "not JSON: ",
        ),
    ],
)
def test_a_variable_that_cannot_be_read_is_named(
    read: Callable[[dict[str, str]], object], variable: str, text: str, message: str
) -> None:
    with pytest.raises(BentoMLConfigException) as caught:
        read({variable: text})

    assert str(caught.value).startswith(f"{variable}: {message}")


def test_names_are_separated_by_commas() -> None:
    assert environment.names("X", {"X": "torch, cv2,"}) == {"torch", "cv2"}
    assert environment.names("X", {}) == frozenset()


def test_the_service_to_run_has_an_older_name_too() -> None:
    assert environment.service_name({"BENTOML_SERVICE": "a:B", "BENTOML_SERVE_SERVICE_NAME": "C"}) == "a:B"
    assert environment.service_name({"BENTOML_SERVE_SERVICE_NAME": "C"}) == "C"


def test_variables_that_others_read_and_this_runtime_does_not_are_known() -> None:
    assert environment.ignored({"BENTOML_CONFIG": "x.yaml", "BENTOML_CONFIG_OPTIONS": ""}) == (
        "BENTOML_CONFIG",
    )


def test_a_services_variables_have_values_where_nobody_set_them() -> None:
    envs = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "C", "stage": "build"}]

    assert environment.missing_values(envs, {"B": "3"}) == {"A": "1"}


def test_variables_that_must_be_set_are_told_all_at_once() -> None:
    envs = [{"name": "TOKEN"}, {"name": "KEY", "value": ""}, {"name": "SET"}]

    with pytest.raises(BentoMLConfigException, match=r"the service needs it: TOKEN, KEY$"):
        environment.missing_values(envs, {"SET": "x"})
