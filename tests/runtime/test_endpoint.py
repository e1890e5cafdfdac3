from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import bentoml


class Iris:
    """A class that no decorator has seen."""

    @bentoml.api
    def predict(self, x: int) -> int:
        """Say what it is."""
        return x + 1

    @bentoml.api()
    async def wait(self) -> None: ...

    @bentoml.api(route="/v1/classify")
    def classify(self) -> str:
        return type(self).__name__

    @bentoml.api
    def count(self) -> Iterator[int]:
        yield 1

    @bentoml.api
    async def count_slowly(self) -> AsyncIterator[int]:
        yield 1


def endpoint(name: str) -> bentoml.Endpoint:
    found: Any = vars(Iris)[name]
    assert isinstance(found, bentoml.Endpoint)
    return found


@pytest.mark.parametrize(
    ("name", "route"), [("predict", "/predict"), ("wait", "/wait"), ("classify", "/v1/classify")]
)
def test_an_endpoint_has_its_methods_name_for_a_route_unless_it_is_given_one(name: str, route: str) -> None:
    assert endpoint(name).route == route


def test_an_instance_finds_the_plain_method() -> None:
    assert Iris().predict(1) == 2
    assert Iris().classify() == "Iris"


def test_the_class_finds_the_endpoint() -> None:
    assert Iris.predict is vars(Iris)["predict"]
    assert Iris.predict.__doc__ == "Say what it is."


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("predict", (False, False)),
        ("wait", (True, False)),
        ("count", (False, True)),
        ("count_slowly", (False, True)),
    ],
)
def test_an_endpoint_knows_how_its_method_runs(name: str, kinds: tuple[bool, bool]) -> None:
    assert (endpoint(name).is_async, endpoint(name).is_stream) == kinds


def test_a_name_with_two_underscores_cannot_be_served() -> None:
    def __hidden() -> None: ...

    with pytest.raises(
        ValueError, match="`__hidden` cannot be an endpoint: its name starts with two underscores"
    ):
        bentoml.api(__hidden)


def test_a_route_starts_with_a_slash() -> None:
    def classify() -> None: ...

    with pytest.raises(ValueError, match="route 'v1' of `classify`: expected a path that starts with `/`"):
        bentoml.api(route="v1")(classify)


def test_an_endpoint_shows_its_name_and_route() -> None:
    assert repr(Iris.classify) == "<Endpoint classify at /v1/classify>"
