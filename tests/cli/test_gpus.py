from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bento_cli.errors import BentoError
from bento_cli.gpus import deal_gpus, gpu_table
from bentoml._config import load_config
from bentoml._gpus import Share


def dealt(gpu_count: int, **services: Mapping[str, Any]) -> dict[str, tuple[Share, ...]]:
    """The shares of services with these configurations, on a machine with so many GPUs."""
    return deal_gpus({name: load_config(name, config) for name, config in services.items()}, gpu_count)


def gpus_of(shares: Mapping[str, tuple[Share, ...]]) -> dict[str, list[tuple[int, ...]]]:
    return {service: [share.gpus for share in own] for service, own in shares.items()}


def test_services_have_gpus_of_their_own() -> None:
    shares = dealt(4, Front={"resources": {"gpu": 1}}, Leaf={"resources": {"gpu": 2}, "workers": 8})

    assert gpus_of(shares) == {"Front": [(0,)], "Leaf": [(1, 2)]}


def test_fractions_of_several_services_share_a_gpu_as_long_as_they_fit() -> None:
    half = {"resources": {"gpu": 0.5}}

    assert gpus_of(dealt(2, A=half, B=half, C=half)) == {"A": [(0,)], "B": [(0,)], "C": [(1,)]}


def test_a_fraction_takes_what_another_service_has_left_beside_its_whole_gpus() -> None:
    shares = dealt(2, A={"workers": [{"gpu": 1}, {"gpu": 0.5}]}, B={"resources": {"gpu": 0.5}})

    assert gpus_of(shares) == {"A": [(0,), (1,)], "B": [(1,)]}


@pytest.mark.parametrize("config", [{}, {"workers": [{}, {}]}, {"workers": "cpu_count"}])
def test_a_service_that_asks_for_no_gpu_has_no_share(config: dict[str, Any]) -> None:
    assert list(dealt(1, Front=config, Leaf={"resources": {"gpu": 1}})) == ["Leaf"]


def test_a_worker_that_asks_for_none_has_an_empty_share_beside_one_that_does() -> None:
    assert gpus_of(dealt(1, Front={"workers": [{"gpu": 1}, {}]})) == {"Front": [(0,), ()]}


def test_where_there_are_no_gpus_none_are_dealt() -> None:
    assert dealt(0, Front={"resources": {"gpu": 1}}) == {}


def test_who_has_which_gpus_can_be_read() -> None:
    shares = dealt(
        3, Front={"resources": {"gpu": 1}, "workers": 2}, Leaf={"workers": [{"gpu": 1}, {}, {"gpu": 0.5}]}
    )

    assert gpu_table(shares, "gets").splitlines() == [
        "  service  worker  wants  gets",
        "  Front    all     1      0",
        "  Leaf     0       1      1",
        "  Leaf     1       none",
        "  Leaf     2       0.5    2",
    ]


def test_more_than_there_are_is_refused_with_who_wants_what() -> None:
    with pytest.raises(BentoError) as caught:
        dealt(2, Front={"resources": {"gpu": 1}}, Quiet={}, Leaf={"workers": [{"gpu": 1}, {"gpu": 2}]})

    assert caught.value.message.splitlines() == [
        "the services want 4 GPUs, this machine has 2:",
        "  service  worker  wants  would get",
        "  Front    all     1      0",
        "  Leaf     0       1      1",
        "  Leaf     1       2      2,3",
    ]
