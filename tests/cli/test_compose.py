"""Compose files, read again as Compose reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from bento_cli.compose import ComposeService, compose_files, peer_environment, reservations, whole_gpus
from bentoml._config import load_config
from bentoml._graph import Edge, ServiceGraph, ServiceNode


class _Loader(yaml.SafeLoader):
    """Knows Compose's `!reset`, which takes back what another file says."""


_Loader.add_constructor("!reset", lambda _loader, node: f"!reset {node.value}")


def service(name: str = "Entry", **fields: Any) -> ComposeService:
    known: dict[str, Any] = {
        "name": name,
        "container": name.lower(),
        "image": f"demo/{name.lower()}:1",
        "peers": (),
        "environment": {},
        "cache_folder": None,
        "published_port": 3000 if name == "Entry" else None,
    }
    return ComposeService(**{**known, **fields})


def files_of(*services: ComposeService) -> dict[str, str]:
    return compose_files("demo:1", "demo", "Entry", services)


def parsed(text: str) -> Any:
    return yaml.load(text, _Loader)


def part_of(entry: ComposeService) -> dict[str, Any]:
    """The section of one service in its own file."""
    file = parsed(files_of(entry)["services/Entry/compose.yaml"])
    section: dict[str, Any] = file["services"][entry.container]
    return section


def as_compose_reads(value: str) -> str:
    """A value after Compose has replaced variables; none of them is set here."""
    return re.sub(r"\$(\$|\{[^}]*\}|\w*)", lambda found: "$" if found[1] == "$" else "", value)


def test_all_services_are_included_dependencies_first() -> None:
    file = parsed(files_of(service("Leaf"), service(peers=("Leaf",)))["compose.yaml"])

    assert file["include"] == ["services/Leaf/compose.yaml", "services/Entry/compose.yaml"]
    assert file["name"] == "demo"


def test_a_services_file_brings_those_that_it_calls() -> None:
    text = files_of(service("Leaf"), service(peers=("Leaf",)))["services/Entry/compose.yaml"]

    assert parsed(text)["include"] == ["../Leaf/compose.yaml"]
    assert parsed(text)["services"]["entry"]["depends_on"] == ["leaf"]


def test_a_service_that_calls_none_includes_none() -> None:
    assert parsed(files_of(service())["services/Entry/compose.yaml"]).keys() == {"services"}


def test_an_image_is_built_where_its_sources_are_and_never_pulled_elsewhere() -> None:
    with_sources, without = part_of(service()), part_of(service(has_sources=False))

    assert with_sources["build"] == {"context": "../..", "dockerfile": "services/Entry/Dockerfile"}
    assert without["pull_policy"] == "never"
    assert "build" not in without


def test_only_the_entry_is_published_and_on_this_machine_only() -> None:
    files = files_of(service("Leaf"), service(published_port=8080))

    entry = parsed(files["services/Entry/compose.yaml"])["services"]["entry"]
    leaf = parsed(files["services/Leaf/compose.yaml"])["services"]["leaf"]
    assert entry["ports"] == ["127.0.0.1:${BENTOML_PUBLISHED_PORT:-8080}:3000"]
    assert "ports" not in leaf


HOSTILE = [
    *("$HOME", "${HOME}", "$$", "a$", "{{ x }}", "yes", "1e3", "", " ", "a: b", "#x", "'\"", "\\n", "\n"),
    *("é😀", "\x85\u2028", "\x00\x07\x7f", "\ufeff"),
]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_comes_through_as_it_is(value: str) -> None:
    section = part_of(service(environment={"VALUE": value}, labels={"label": value}))

    assert as_compose_reads(section["environment"]["VALUE"]) == value
    assert as_compose_reads(section["labels"]["label"]) == value


@pytest.mark.parametrize("key", [*HOSTILE, "on", "null", "12", "~", "org.example.a-b"])
def test_a_key_comes_through_as_it_is(key: str) -> None:
    # Compose replaces no variables in keys.
    assert part_of(service(labels={key: "x"}))["labels"] == {key: "x"}


def test_gpus_are_reserved() -> None:
    section = part_of(service(gpus=2, reservations={"cpus": "0.4", "memory": "1024b"}))

    assert section["deploy"]["resources"]["reservations"] == {
        "cpus": "0.4",
        "memory": "1024b",
        "devices": [{"driver": "nvidia", "count": 2, "capabilities": ["gpu"]}],
    }


def test_a_machine_without_a_gpu_gets_a_file_that_takes_them_back() -> None:
    files = files_of(service("Leaf", gpus=1), service())

    assert parsed(files["compose.cpu.yaml"])["services"] == {
        "leaf": {"deploy": {"resources": {"reservations": {"devices": "!reset []"}}}}
    }


def test_where_nothing_asks_for_a_gpu_there_is_no_such_file() -> None:
    files = files_of(service())

    assert "compose.cpu.yaml" not in files
    assert "GPU" not in files["compose.yaml"]


def test_replicas_stand_in_the_file() -> None:
    assert part_of(service(replicas=3))["deploy"] == {"replicas": 3}


def test_a_service_that_asks_for_nothing_has_no_deploy_section() -> None:
    assert "deploy" not in part_of(service())


def test_results_of_tasks_are_kept_in_a_volume_of_the_service() -> None:
    file = parsed(files_of(service(tasks_folder="/tasks"))["services/Entry/compose.yaml"])

    section = file["services"]["entry"]
    assert section["volumes"] == ["entry-tasks:/tasks"]
    assert section["environment"] == {"BENTOML_RESULT_STORE": "/tasks/results.db"}
    assert file["volumes"] == {"entry-tasks": None}


def test_results_and_models_are_kept_in_two_volumes() -> None:
    file = parsed(
        files_of(service(tasks_folder="/tasks", cache_folder="/models"))["services/Entry/compose.yaml"]
    )

    assert file["services"]["entry"]["volumes"] == [
        "${BENTOML_HF_CACHE_DIR:-huggingface}:/models",
        "entry-tasks:/tasks",
    ]
    assert file["volumes"] == {"huggingface": None, "entry-tasks": None}


@pytest.mark.parametrize(("scheme", "url"), [("http", "http://127"), ("https", "https://127")])
def test_the_file_says_where_the_entry_answers(scheme: str, url: str) -> None:
    assert f"answers on {url}" in files_of(service(scheme=scheme))["compose.yaml"]


def test_models_are_kept_in_a_volume() -> None:
    file = parsed(files_of(service(cache_folder="/models"))["services/Entry/compose.yaml"])

    assert file["services"]["entry"]["volumes"] == ["${BENTOML_HF_CACHE_DIR:-huggingface}:/models"]
    assert file["volumes"] == {"huggingface": None}


def test_models_are_kept_in_a_folder_of_this_machine() -> None:
    section = part_of(service(cache_folder="/models", cache_bind="/home/a $b/models"))

    assert section["volumes"] == [{"type": "bind", "source": "/home/a $$b/models", "target": "/models"}]


def test_a_container_is_locked_down() -> None:
    section = part_of(service())

    assert (section["read_only"], section["cap_drop"]) == (True, ["ALL"])
    assert section["security_opt"] == ["no-new-privileges:true"]


def graph(**peers: tuple[str, ...]) -> ServiceGraph:
    nodes = {
        name: ServiceNode(
            name=name,
            target=f"service:{name}",
            dependencies=tuple(Edge(attribute=peer.lower(), service=peer) for peer in others),
        )
        for name, others in peers.items()
    }
    return ServiceGraph(entry="Entry", services=nodes)


def test_peers_are_found_under_the_names_of_their_containers() -> None:
    found = peer_environment(graph(Entry=("SDXLNet", "leaf_2"), SDXLNet=(), leaf_2=()), "Entry")

    assert found == {
        "BENTOML_PEER_SDXLNET": "http://sdxl-net:3000",
        "BENTOML_PEER_LEAF_2": "http://leaf-2:3000",
    }


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, {}),
        ({"cpu": "400m"}, {"cpus": "0.4"}),
        ({"cpu": 2, "memory": "1Gi"}, {"cpus": "2", "memory": "1073741824b"}),
    ],
)
def test_resources_are_written_as_compose_has_them(
    resources: Mapping[str, object], expected: dict[str, str]
) -> None:
    assert reservations(load_config("Entry", {"resources": resources})) == expected


def test_a_part_of_a_gpu_takes_a_whole_one() -> None:
    assert whole_gpus(load_config("Entry", {"resources": {"gpu": 0.5}})) == 1


def test_what_a_deployment_gives_is_not_asked_of_the_shell_as_well() -> None:
    entry = service(environment={"HF_TOKEN": "x"}, cache_folder="/cache", open_variables=("HF_ENDPOINT",))

    assert entry.passed_on == ["HF_ENDPOINT", "HF_HUB_OFFLINE"]
