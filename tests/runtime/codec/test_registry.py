from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from tests.runtime.codec.frames import encoded, named, round_trip

from bentoml import codec
from bentoml.codec import _encoder, _registry
from bentoml.exceptions import BadInput


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_registry, "_by_kind", {})
    monkeypatch.setattr(_registry, "_by_name", {})
    yield
    _encoder.forget_kinds()


class Mesh:
    def __init__(self, points: Any) -> None:
        self.points = points


class Solid(Mesh):
    pass


def mesh_of(value: Any) -> Mesh:
    if not isinstance(value, dict):
        raise KeyError("points")
    return Mesh(value["points"])


def register_mesh(kind: type[Mesh] = Mesh, name: str = "mesh") -> None:
    codec.register(kind, name=name, encode=lambda mesh: {"points": mesh.points}, decode=mesh_of)


def test_a_type_that_was_taught_arrives_as_itself() -> None:
    register_mesh()
    arrived = round_trip({"meshes": [(Mesh(np.arange(2000)), {1: Mesh([])})]})["meshes"][0]

    assert type(arrived[0]) is Mesh
    assert arrived[0].points.tolist() == list(range(2000))
    assert arrived[1][1].points == []


def test_a_type_that_was_sent_in_vain_can_be_taught_then() -> None:
    with pytest.raises(codec.EncodeError):
        codec.encode(Mesh([]))
    register_mesh()

    assert type(round_trip(Mesh([]))) is Mesh


def test_a_derived_type_travels_as_the_nearest_one_that_was_taught() -> None:
    register_mesh()

    assert type(round_trip(Solid([]))) is Mesh


def test_a_taught_type_goes_before_what_it_is_made_of() -> None:
    @dataclass
    class Point:
        x: int

    codec.register(Point, name="geometry:point", encode=lambda point: point.x, decode=Point)

    assert round_trip([Point(1)]) == [Point(1)]


def test_a_name_that_the_receiver_does_not_know_is_refused() -> None:
    register_mesh()

    with pytest.raises(BadInput, match="frame: no codec is registered here as 'voxels'; registered: mesh"):
        codec.decode(named("voxels", 1))


@pytest.mark.parametrize("value", [None, {}, {"other": 1}])
def test_what_the_receiver_cannot_make_one_of_is_refused(value: object) -> None:
    register_mesh()

    with pytest.raises(BadInput, match="frame: 'points'"):
        codec.decode(named("mesh", value))


def test_what_goes_wrong_in_a_projects_own_function_is_told_with_its_path() -> None:
    register_mesh()
    mesh = Mesh([])
    del mesh.points

    with pytest.raises(
        codec.EncodeError, match=r"^`value\[0\]` is a .*Mesh.*: 'Mesh' object has no"
    ) as caught:
        codec.encode([mesh])
    assert isinstance(caught.value.__cause__, AttributeError)


def test_what_cannot_travel_inside_of_a_taught_type_is_told_with_its_path() -> None:
    register_mesh()

    with pytest.raises(
        codec.EncodeError, match=r"^`value\[0\]\['points'\]` is an object, which cannot travel"
    ):
        codec.encode([Mesh(object())])


@pytest.mark.parametrize("name", ["", "two words", "x" * 65, "ünïcode", "1st", "a\n"])
def test_a_name_is_a_short_word(name: str) -> None:
    with pytest.raises(ValueError, match="is no name for a codec"):
        register_mesh(name=name)


@pytest.mark.parametrize("name", ["exception", "pandas.DataFrame"])
def test_the_names_of_what_travels_anyhow_are_taken(name: str) -> None:
    with pytest.raises(ValueError, match="is taken"):
        register_mesh(name=name)


def test_a_name_stands_for_one_type() -> None:
    register_mesh()

    with pytest.raises(ValueError, match=r"the codec 'mesh' is that of .*\.Mesh"):
        register_mesh(Solid)


def test_a_type_whose_module_is_loaded_again_takes_its_name_along() -> None:
    register_mesh()
    again = type("Mesh", (Mesh,), {"__module__": Mesh.__module__})
    register_mesh(again)

    assert len(encoded(again([]))) == len(encoded(again([])))
    assert _registry.names() == ["mesh"]
