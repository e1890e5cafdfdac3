"""What a failure of a peer is to those who call it, over three hops, and what it is not to the public."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from tests.runtime.conftest import free_port, service_of
from tests.runtime.peers.graph import LIMITS, SECRET, Served, addresses_of, peers_of, served

import bentoml
from bentoml import _environment as environment
from bentoml import codec
from bentoml._environment import peer_variable
from bentoml._peers.dependencies import connect_peers
from bentoml._peers.failure import failure_of
from bentoml._wire import TOKEN_HEADER
from bentoml.exceptions import (
    InternalServerError,
    InvalidArgument,
    NotFound,
    RemoteException,
    ServiceUnavailable,
)


class Odd(Exception):
    def __init__(self, size: int, *, cause: str) -> None:
        super().__init__(size)
        self.cause = cause


def fail(kind: str) -> NoReturn:
    class Local(Exception):
        """One that no other process can find."""

    if kind == "chained":
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error
    raise {
        "builtin": ValueError("bad", 3),
        "system": FileNotFoundError(2, "No such file", "weights.bin"),
        "bentoml": NotFound("no such flower"),
        "project": Odd(4, cause="the moon"),
        "unknown": Local("nobody knows"),
        "exit": SystemExit(3),
    }[kind]


@bentoml.service
class Leaf:
    @bentoml.api
    async def fail(self, kind: str) -> None:
        fail(kind)

    @bentoml.api
    def fail_in_a_thread(self, kind: str) -> None:
        fail(kind)

    @bentoml.api
    async def break_off(self, kind: str) -> AsyncIterator[int]:
        yield 1
        fail(kind)

    @bentoml.api
    async def begin_never(self, kind: str) -> AsyncIterator[int]:
        if kind:
            fail(kind)
        yield 1

    @bentoml.api
    async def double(self, x: int) -> int:
        return 2 * x

    @bentoml.api
    async def halve(self, x: int, ctx: bentoml.Context) -> float:
        return x / 2

    @bentoml.task
    async def grow(self, x: int) -> int:
        return x + 1


@bentoml.service
class Middle:
    leaf = bentoml.depends(Leaf)

    @bentoml.api
    async def fail(self, kind: str) -> None:
        await self.leaf.fail(kind)

    @bentoml.api
    async def break_off(self, kind: str) -> AsyncIterator[int]:
        async for number in self.leaf.break_off(kind):
            yield number


@bentoml.service
class Upper:
    middle = bentoml.depends(Middle)
    leaf: Any = bentoml.depends(Leaf)

    @bentoml.api
    async def fail(self, kind: str) -> None:
        await self.middle.fail(kind)

    @bentoml.api
    async def break_off(self, kind: str) -> AsyncIterator[int]:
        async for number in self.middle.break_off(kind):
            yield number

    @bentoml.api
    async def wrong_keyword(self) -> int:
        doubled: int = await self.leaf.double(y=1)
        return doubled

    @bentoml.api
    async def bad_value(self) -> int:
        doubled: int = await self.leaf.double("a")
        return doubled


@bentoml.service
class Top:
    upper = bentoml.depends(Upper)
    leaf = bentoml.depends(Leaf)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    results = str(tmp_path_factory.mktemp("tasks") / "results.db")
    with served(Top, variables={environment.RESULT_STORE: results}) as graph:
        yield graph


@pytest.fixture(scope="module")
def top(graph: dict[str, Served]) -> Iterator[Any]:
    """What an instance of Top has."""
    with peers_of(Top, addresses_of(graph)) as peers:
        yield peers


@pytest.mark.parametrize(
    ("kind", "type_", "args"),
    [
        ("builtin", ValueError, ("bad", 3)),
        ("system", FileNotFoundError, (2, "No such file")),
        ("bentoml", NotFound, ("no such flower",)),
        ("project", Odd, (4,)),
    ],
)
def test_an_exception_arrives_as_its_own_type_over_three_hops(
    top: Any, kind: str, type_: type[Exception], args: tuple[object, ...]
) -> None:
    with pytest.raises(type_) as caught:
        top.upper.to_sync.fail(kind)

    assert (type(caught.value), caught.value.args) == (type_, args)


def test_an_exception_of_the_project_keeps_what_it_holds(top: Any) -> None:
    with pytest.raises(Odd) as caught:
        top.leaf.fail_in_a_thread("project")

    assert vars(caught.value)["cause"] == "the moon"


def test_an_exception_keeps_its_cause(top: Any) -> None:
    with pytest.raises(ValueError, match="outer") as caught:
        top.leaf.to_sync.fail("chained")

    assert repr(caught.value.__cause__) == "KeyError('inner')"


@pytest.mark.parametrize(("kind", "words"), [("unknown", "Local: nobody knows"), ("exit", "SystemExit: 3")])
def test_what_cannot_be_the_callers_own_is_named(top: Any, kind: str, words: str) -> None:
    with pytest.raises(RemoteException) as caught:
        top.leaf.to_sync.fail(kind)

    assert words in str(caught.value)


def test_every_hop_adds_its_traceback(top: Any) -> None:
    with pytest.raises(ValueError, match="bad") as caught:
        top.upper.to_sync.fail("builtin")

    notes: list[str] = vars(caught.value)["__notes__"]
    assert [note.partition(" (most recent")[0] for note in notes] == [
        "Traceback in Leaf/fail", "Traceback in Middle/fail", "Traceback in Upper/fail"
    ]  # fmt: skip
    assert "in fail\n    fail(kind)" in notes[0]


def test_a_hop_that_has_no_traceback_is_named_all_the_same() -> None:
    limit = codec.exception_as_data(TimeoutError("1 second is over"))

    error = failure_of(b"".join(codec.encode(limit)), "Leaf/double")

    assert (type(error), vars(error)["__notes__"]) == (TimeoutError, ["In Leaf/double"])


def test_a_stream_that_breaks_off_raises_behind_its_last_item(top: Any) -> None:
    items = top.upper.to_sync.break_off("project")

    assert next(items) == 1
    with pytest.raises(Odd) as caught:
        next(items)
    assert len(vars(caught.value)["__notes__"]) == 3


def test_a_stream_that_fails_before_its_first_item_raises_as_any_call(top: Any) -> None:
    with pytest.raises(Odd) as caught:
        next(top.leaf.to_sync.begin_never("project"))

    assert len(vars(caught.value)["__notes__"]) == 1


@pytest.mark.parametrize("secret", [None, "a guess"])
def test_without_the_secret_nothing_of_the_project_crosses(
    graph: dict[str, Served], secret: str | None
) -> None:
    with peers_of(Top, addresses_of(graph), secret=secret) as top:
        with pytest.raises(RemoteException) as caught:
            top.leaf.to_sync.fail("project")
        with pytest.raises(RemoteException) as broken:
            list(top.leaf.to_sync.break_off("project"))

    for error in caught.value, broken.value:
        assert "Odd" not in str(error)
        assert "moon" not in repr(vars(error))
        assert not hasattr(error, "__notes__")


def test_a_peer_without_the_secret_tells_nobody(tmp_path: Path) -> None:
    variables = {environment.RESULT_STORE: str(tmp_path / "results.db")}
    with served(Top, secret=None, variables=variables) as graph, peers_of(Top, addresses_of(graph)) as top:  # noqa: SIM117  # one line would be too long
        with pytest.raises(RemoteException) as caught:
            top.leaf.to_sync.fail("project")

    assert ("Odd" in str(caught.value), hasattr(caught.value, "__notes__")) == (False, False)


def test_without_the_secret_an_error_of_bentoml_is_known_by_its_status(graph: dict[str, Served]) -> None:
    with peers_of(Top, addresses_of(graph), secret=None) as top, pytest.raises(NotFound) as caught:
        top.leaf.to_sync.fail("bentoml")

    assert (str(caught.value), hasattr(caught.value, "__notes__")) == ("Leaf/fail: no such flower", False)


@pytest.mark.parametrize("token", [{}, {TOKEN_HEADER: SECRET}, {TOKEN_HEADER: "0" * 64}])
@pytest.mark.parametrize(
    "request_",
    [
        {"json": {"kind": "project"}},
        {"content": b"".join(codec.encode([["project"], {}])), "headers": {"content-type": codec.MEDIA_TYPE}},
    ],
    ids=["json", "frame"],
)
@pytest.mark.parametrize("path", ["/fail", "/break_off"])
def test_the_public_never_sees_what_a_peer_raised(
    graph: dict[str, Served], path: str, request_: dict[str, Any], token: dict[str, str]
) -> None:
    request = {**request_, "headers": {**request_.get("headers", {}), **token}}

    text = b""
    with (
        httpx.stream("POST", graph["Middle"].address + path, **request, trust_env=False) as response,
        suppress(httpx.RemoteProtocolError),  # a public stream that breaks off has no end
    ):
        for piece in response.iter_raw():
            text += piece

    assert text
    for secret in (b"Odd", b"moon", b"Traceback", b"test_failures"):
        assert secret not in text


def test_a_wrong_keyword_is_a_type_error_of_the_caller_and_none_of_the_publics(
    graph: dict[str, Served], top: Any
) -> None:
    with pytest.raises(TypeError, match=r"Leaf\.double: .*'y'") as caught:
        top.leaf.to_sync.double(y=1)

    assert graph["Upper"].post("/wrong_keyword", json={}).status_code == 500
    assert not isinstance(caught.value, InternalServerError)


def test_a_wrong_keyword_is_a_type_error_for_streams_and_tasks_too(top: Any) -> None:
    with pytest.raises(TypeError, match=r"Leaf\.break_off: .*'sort'"):
        next(top.leaf.to_sync.break_off(sort="builtin"))
    with pytest.raises(TypeError, match=r"Leaf\.grow: .*'y'"):
        top.leaf.to_sync.grow.submit(y=1)


def test_what_is_no_task_says_so_when_it_is_submitted(top: Any) -> None:
    with pytest.raises(TypeError, match=r"^Leaf/double is no task; `@bentoml.task` in place of"):
        top.leaf.double.submit(1)


def test_a_bad_value_is_refused_with_the_endpoint_and_its_parameter(graph: dict[str, Served]) -> None:
    response = graph["Upper"].post("/bad_value", json={})

    assert response.status_code == 400
    assert "Leaf/double" in response.json()["error"]
    assert "x: " in response.json()["error"]


def test_a_bad_value_is_an_invalid_argument_to_the_caller(top: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"Leaf/double: .*x: "):
        top.leaf.to_sync.double("a")


def test_a_missing_argument_is_a_type_error_that_names_it(top: Any) -> None:
    with pytest.raises(TypeError, match=r"Leaf\.double: .*'x'"):
        top.leaf.to_sync.double()


def test_the_context_of_the_peer_is_no_argument_of_a_call(top: Any) -> None:
    with pytest.raises(InvalidArgument, match="x: "):
        top.leaf.to_sync.halve("a")


def test_a_peer_that_is_down_is_named_with_its_addresses_and_variable() -> None:
    first, second = free_port(), free_port()
    environ = {
        peer_variable("Leaf"): f"http://127.0.0.1:{first},http://127.0.0.1:{second}",
        peer_variable("Upper"): "http://upper:3000",
    }
    peers = connect_peers(service_of(Top), service_of(Top).dependencies, LIMITS, environ)

    with pytest.raises(ServiceUnavailable) as caught:
        peers.by_attribute["leaf"].to_sync.double(1)

    asyncio.run(peers.close())
    assert str(caught.value) == (
        f"Leaf at http://127.0.0.1:{first}, http://127.0.0.1:{second} (BENTOML_PEER_LEAF) cannot be reached: "
        "Connection refused"
    )
