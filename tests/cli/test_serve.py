from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bento_cli.errors import BentoError
from bento_cli.serve import plan_serve
from bentoml._graph import Edge, ServiceGraph, ServiceNode

GRAPH = ServiceGraph(
    entry="Front",
    services={
        "Front": ServiceNode(
            name="Front", target="service:Front", dependencies=(Edge(attribute="leaf", service="Leaf"),)
        ),
        "Leaf": ServiceNode(name="Leaf", target="service:Leaf"),
    },
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_services_find_their_peers_through_the_variables_of_production(tmp_path: Path) -> None:
    port = free_port()

    leaf, front = plan_serve(GRAPH, tmp_path, {"Front": {"A": "1"}, "Leaf": {}}, port=port)

    assert front.environ["BENTOML_PEER_LEAF"] == leaf.address
    assert front.environ["BENTOML_SERVICE"] == "service:Front"
    assert front.environ["A"] == "1"
    assert (front.address, front.environ["BENTOML_PORT"]) == (f"http://127.0.0.1:{port}", str(port))


def test_no_two_processes_share_a_port(tmp_path: Path) -> None:
    services = plan_serve(GRAPH, tmp_path, {"Front": {}, "Leaf": {}}, port=free_port())

    ports = [s.environ[name] for s in services for name in ("BENTOML_PORT", "BENTOML_MANAGEMENT_PORT")]
    assert len(set(ports)) == 4


def test_only_the_entry_listens_beyond_this_machine(tmp_path: Path) -> None:
    leaf, front = plan_serve(GRAPH, tmp_path, {"Front": {}, "Leaf": {}}, host="0.0.0.0", port=free_port())

    assert (leaf.environ["BENTOML_HOST"], front.environ["BENTOML_HOST"]) == ("127.0.0.1", "0.0.0.0")


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(BentoError, match="is in use"):
        plan_serve(GRAPH, tmp_path, {"Front": {}, "Leaf": {}}, port=server.getsockname()[1])
