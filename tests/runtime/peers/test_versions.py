"""A caller of one version of a project and a peer of another, as a rolling update has them side by side."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.runtime.conftest import ServiceProcess, until
from tests.runtime.peers.graph import peers_of

from bentoml import _environment as environment
from bentoml.exceptions import IncompatiblePeer

PROJECT = Path(__file__).parents[2] / "projects/two-versions"


class Pair(NamedTuple):
    """A caller, and the process of the other version that it calls."""

    leaf: Any
    process: ServiceProcess


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ServiceProcess]]:
    with ExitStack() as stack:
        started = {}
        for version in ("old", "new"):
            folder = tmp_path_factory.mktemp("project") / version
            shutil.copytree(PROJECT / version, folder)
            variables = {environment.DEPENDENTS: "Top"}
            started[version] = ServiceProcess("service:Leaf", folder, (), variables)
            stack.callback(started[version].kill_all)
        yield {version: process.wait_until_ready() for version, process in started.items()}


def called_from(version: str, process: ServiceProcess) -> Iterator[Pair]:
    spec = importlib.util.spec_from_file_location(f"{version}_service", PROJECT / version / "service.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with peers_of(module.Top, {"Leaf": process.address}) as peers:
        yield Pair(peers.leaf.to_sync, process)


@pytest.fixture
def to_new(processes: dict[str, ServiceProcess]) -> Iterator[Pair]:
    yield from called_from("old", processes["new"])


@pytest.fixture
def to_old(processes: dict[str, ServiceProcess]) -> Iterator[Pair]:
    yield from called_from("new", processes["old"])


def test_a_parameter_that_only_the_peer_has_and_that_has_a_default_is_left_to_it(to_new: Pair) -> None:
    assert (to_new.leaf.grown(2), to_new.leaf.grown(x=3)) == (2, 3)


def test_a_parameter_that_only_the_caller_has_may_be_left_out(to_old: Pair) -> None:
    assert (to_old.leaf.grown(2), to_old.leaf.grown(x=3)) == (2, 3)


def test_streams_go_both_ways_too(to_new: Pair, to_old: Pair) -> None:
    assert ([*to_new.leaf.streamed(2)], [*to_old.leaf.streamed(x=3)]) == ([2], [3])


@pytest.mark.parametrize(
    ("method", "args", "keywords", "change"),
    [
        ("renamed", (), {"x": 1}, "`number` is required there, and not known here; `x` is not known there"),
        ("retyped", (1,), {}, "`x` is `list[int]` there, and `int` here"),
        ("stricter", (1,), {}, "`seed` is required there, and not known here"),
        ("answered", (1,), {}, "the result is `str` there, and `int` here"),
    ],
)
def test_a_call_that_the_peers_version_would_break_is_refused_before_it_runs(
    to_new: Pair, method: str, args: tuple[object, ...], keywords: dict[str, object], change: str
) -> None:
    ran = to_new.leaf.how_many_ran()

    with pytest.raises(IncompatiblePeer) as caught:
        getattr(to_new.leaf, method)(*args, **keywords)

    assert str(caught.value) == f"Leaf/{method}: the peer runs another version of it: {change}"
    assert to_new.leaf.how_many_ran() == ran


def test_an_argument_that_the_peer_has_no_parameter_for_is_refused_before_it_runs(to_old: Pair) -> None:
    ran = to_old.leaf.how_many_ran()

    with pytest.raises(IncompatiblePeer, match="`scale` is not known there"):
        to_old.leaf.grown(2, scale=3)
    with pytest.raises(IncompatiblePeer, match="`scale` is not known there"):
        [*to_old.leaf.streamed(2, 3)]

    assert to_old.leaf.how_many_ran() == ran


def test_a_task_that_the_peers_version_would_break_on_is_not_taken(to_new: Pair) -> None:
    with pytest.raises(IncompatiblePeer, match=r"`x` is `list\[int\]` there, and `int` here$"):
        to_new.leaf.submitted.submit(1)


def statuses(process: ServiceProcess, path: str) -> list[str]:
    """Of all requests for a path so far, as the access log has them."""
    return re.findall(rf"path={path},.*?\(status=(\d+),", process.log)


def test_another_version_costs_one_request_more_and_only_once(to_new: Pair) -> None:
    before = len(statuses(to_new.process, "/grown"))

    for x in range(3):
        to_new.leaf.grown(x)

    asked = until(lambda: statuses(to_new.process, "/grown")[before + 3 :], "four requests are in the log")
    assert statuses(to_new.process, "/grown")[before:] == ["412", "200", "200", *asked]


def test_the_same_version_costs_nothing(to_new: Pair) -> None:
    to_new.leaf.same(1)

    assert until(lambda: statuses(to_new.process, "/same"), "it is in the log") == ["200"]
