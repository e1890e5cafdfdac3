from __future__ import annotations

import pytest

from bentoml._graph import Edge, ServiceGraph, ServiceNode, as_text, find_cycle


def graph(**peers: str) -> ServiceGraph:
    """A graph written as `Top="Left Right"`; the first service is the entry."""
    return ServiceGraph(
        entry=next(iter(peers)),
        services={
            name: ServiceNode(
                name=name,
                target=f"service:{name}",
                dependencies=tuple(Edge(attribute=peer.lower(), service=peer) for peer in called.split()),
            )
            for name, called in peers.items()
        },
    )


DIAMOND = graph(Top="Left Right", Left="Leaf", Right="Leaf", Leaf="")
CHAIN = graph(**{f"S{number}": f"S{number + 1}" for number in range(5000)}, S5000="")


def names(services: ServiceGraph) -> list[str]:
    return [node.name for node in services]


def test_dependencies_come_before_those_that_need_them() -> None:
    assert names(graph(Top="B A", A="C", B="", C="")) == ["B", "C", "A", "Top"]


def test_a_diamonds_leaf_comes_once() -> None:
    assert names(DIAMOND) == ["Leaf", "Left", "Right", "Top"]


def test_a_leaf_that_the_entry_calls_itself_comes_first_all_the_same() -> None:
    assert names(graph(Top="Leaf Left", Left="Deep", Deep="Leaf", Leaf="")) == ["Leaf", "Deep", "Left", "Top"]


def test_a_chain_may_be_longer_than_pythons_stack() -> None:
    assert names(CHAIN) == [f"S{number}" for number in range(5000, -1, -1)]


def test_walking_a_circle_comes_to_an_end() -> None:
    assert names(graph(A="B", B="A")) == ["B", "A"]


def test_peers_are_told_once_and_in_order_without_external_ones() -> None:
    node = ServiceNode(
        name="Top",
        target="service:Top",
        dependencies=(
            Edge(attribute="b", service="B"),
            Edge(attribute="a", service="A"),
            Edge(attribute="b_again", service="B"),
            Edge(attribute="c", service="C", url="http://c"),
            Edge(attribute="d", deployment="d"),
        ),
    )

    assert ServiceGraph(entry="Top", services={"Top": node}).peers("Top") == ("B", "A")


def test_dependents_are_those_that_call_a_service() -> None:
    assert DIAMOND.dependents("Leaf") == ("Left", "Right")
    assert DIAMOND.dependents("Top") == ()


@pytest.mark.parametrize(
    ("peers", "cycle"),
    [
        ({}, None),
        ({"A": ("B",), "B": ()}, None),
        ({"A": ("B", "C"), "B": ("D",), "C": ("D",), "D": ()}, None),
        ({"A": ("A",)}, ("A", "A")),
        ({"A": ("B",), "B": ("A",)}, ("A", "B", "A")),
        ({"A": ("B",), "B": ("C",), "C": ("D",), "D": ("B",)}, ("B", "C", "D", "B")),
        ({"A": (), "B": ("C",), "C": ("B",)}, ("B", "C", "B")),
        ({"A": ("elsewhere",)}, None),
    ],
)
def test_the_first_circle_is_found_and_closed(
    peers: dict[str, tuple[str, ...]], cycle: tuple[str, ...] | None
) -> None:
    assert find_cycle(peers) == cycle


def test_a_circle_is_found_at_the_end_of_a_long_chain() -> None:
    peers = {f"S{number}": (f"S{number + 1}",) for number in range(5000)}

    assert find_cycle({**peers, "S5000": ("S4999",)}) == ("S4999", "S5000", "S4999")


def test_a_graph_as_text_is_a_tree() -> None:
    services = graph(Top="Left Right", Left="Leaf Other", Right="Leaf", Leaf="Deep", Deep="", Other="")

    assert as_text(services).splitlines() == [
        "Top",
        "├── Left",
        "│   ├── Leaf",
        "│   │   └── Deep",
        "│   └── Other",
        "└── Right",
        "    └── Leaf (above)",
    ]


def test_external_dependencies_are_told_apart() -> None:
    node = ServiceNode(
        name="Top",
        target="service:Top",
        dependencies=(
            Edge(attribute="a", url="http://a"),
            Edge(attribute="b", service="B", deployment="b-1", cluster="eu"),
        ),
    )

    assert as_text(ServiceGraph(entry="Top", services={"Top": node})).splitlines() == [
        "Top",
        "├── http://a (external)",
        "└── B at b-1 in eu (external)",
    ]


def test_a_long_chain_as_text_has_a_line_for_each_service() -> None:
    assert as_text(CHAIN).count("\n") == 5000
