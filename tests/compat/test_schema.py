"""`/schema.json`, entry by entry, beside what theirs answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest
from tests.compat.answers import Json
from tests.compat.servers import OURS, THEIRS

pytestmark = pytest.mark.reference

Addresses: TypeAlias = Mapping[str, Mapping[str, str]]
Schema: TypeAlias = dict[str, Any]

GOLDEN = Path(__file__).parent / "reference_schema.json"
RECORDED: Schema = json.loads(GOLDEN.read_text(encoding="utf-8"))
ENDPOINTS = [route["name"] for route in RECORDED["routes"]]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Keys of ours that are others on purpose; with None there is no such key."""

    why: str
    input: Mapping[str, Json] | None = None
    output: Mapping[str, Json] | None = None


_ITEM: Json = {
    "properties": {
        "name": {"title": "Name", "type": "string"},
        "price": {"default": 1.5, "title": "Price", "type": "number"},
    },
    "required": ["name"],
    "title": "Item",
    "type": "object",
}
DIFFERENCES = {
    "models": Difference(why="nothing is left to look up", output={"$defs": None, "items": _ITEM}),
    "options": Difference(
        why="`**options` may be none, and have any name",
        input={"required": None, "additionalProperties": True},
    ),
    "positional": Difference(why="`*values` may be none", input={"required": None}),
    "stream_plain": Difference(why="its items are strings", output={"type": "string", "items": None}),
}


@pytest.fixture(scope="module")
def schemas(addresses: Addresses) -> Mapping[str, Schema]:
    return {by.name: _schema(addresses[by.name]["service"]) for by in (THEIRS, OURS)}


def _schema(address: str) -> Schema:
    schema: Schema = httpx.get(f"{address}/schema.json", trust_env=False).json()
    return schema


def test_theirs_is_still_what_was_recorded(
    schemas: Mapping[str, Schema], request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(
            json.dumps(schemas[THEIRS.name], indent=4, ensure_ascii=False) + "\n", encoding="utf-8"
        )

    assert schemas[THEIRS.name] == json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_endpoint_is_described_as_theirs_is(schemas: Mapping[str, Schema], endpoint: str) -> None:
    theirs, ours = (_route(schemas[by.name], endpoint) for by in (THEIRS, OURS))
    difference = DIFFERENCES.get(endpoint)

    if difference is not None:
        assert ours != theirs, f"no difference any more, strike it: {difference.why}"
        theirs = _changed(theirs, difference)
    assert ours == theirs


def _route(schema: Schema, endpoint: str) -> Schema:
    route = next(route for route in schema["routes"] if route["name"] == endpoint)
    # The name of a class that theirs makes of the user's.
    renamed: Schema = json.loads(json.dumps(route).replace("OrderIODescriptor", "Order"))
    return renamed


def _changed(route: Schema, difference: Difference) -> Schema:
    changes = {"input": difference.input or {}, "output": difference.output or {}}
    changed = {side: {**route[side], **keys} for side, keys in changes.items()}
    present = {
        side: {key: item for key, item in keys.items() if item is not None} for side, keys in changed.items()
    }
    return {**route, **present}


def test_the_endpoints_come_in_the_same_order(schemas: Mapping[str, Schema]) -> None:
    assert [route["name"] for route in schemas[OURS.name]["routes"]] == ENDPOINTS


@pytest.mark.parametrize("key", sorted(RECORDED.keys() - {"routes"}))
def test_the_service_is_described_as_theirs_is(schemas: Mapping[str, Schema], key: str) -> None:
    assert schemas[OURS.name][key] == schemas[THEIRS.name][key]


def test_a_service_below_a_path_is_described_as_theirs_is(addresses: Addresses) -> None:
    ours, theirs = (_schema(addresses[by.name]["prefixed"]) for by in (OURS, THEIRS))

    assert ours == theirs


def test_every_difference_is_one_of_an_endpoint() -> None:
    assert DIFFERENCES.keys() <= set(ENDPOINTS)
