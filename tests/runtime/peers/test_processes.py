"""Peers in processes of their own that are killed, stopped, drained, restarted and cut off."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from tests.runtime.conftest import DEADLINE_S, ServiceProcess, until
from tests.runtime.peers.graph import SECRET, peers_of

import bentoml
from bentoml import _environment as environment
from bentoml._deadline import TIMEOUT_HEADER
from bentoml._peers.remote_endpoint import Limits
from bentoml.exceptions import DeadlineExceeded, ServiceUnavailable

PROJECT = Path(__file__).parents[2] / "projects/peers-in-trouble"


class Graph:
    """Processes of a project's services, each started when a test wants it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[ServiceProcess] = []

    def start(self, service: str, *, port: int | None = None, **peers: str) -> ServiceProcess:
        """A service, not ready yet.

        Args:
            port: that of another one that was stopped.
            peers: where those are that it depends on, by name.
        """
        variables = {environment.peer_variable(name): address for name, address in peers.items()}
        variables[environment.DEPLOYMENT_SECRET] = SECRET
        variables[environment.DEPENDENTS] = {"Leaf": "Middle", "Middle": "Top"}.get(service, "")
        if port is not None:
            variables[environment.PORT] = str(port)
        process = ServiceProcess(f"service:{service}", self.folder, (), variables)
        process.port = port or process.port
        self._started.append(process)
        return process

    def file(self, name: str) -> Path:
        return self.folder / name

    def pid_in(self, name: str) -> int:
        """What a call has written there, once it runs."""
        return int(until(lambda: self.file(name).exists() and self.file(name).read_text(), f"{name} runs"))

    def kill_all(self) -> None:
        for process in self._started:
            process.kill_all()


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    folder = tmp_path_factory.mktemp("project") / "graph"
    shutil.copytree(PROJECT, folder)
    graph = Graph(folder)
    yield graph
    graph.kill_all()


@pytest.fixture(scope="module")
def three(graph: Graph) -> SimpleNamespace:
    """Top, the Middle that it calls, and the two replicas of the Leaf that this calls."""
    leaves = [graph.start("Leaf"), graph.start("Leaf")]
    middle = graph.start("Middle", Leaf=",".join(leaf.address for leaf in leaves))
    top = graph.start("Top", Middle=middle.address)
    for process in (*leaves, middle, top):
        process.wait_until_ready()
    words = f"Leaf at {', '.join(leaf.address for leaf in leaves)}"
    return SimpleNamespace(top=top, middle=middle, leaves=leaves, leaf_words=words)


def posts(service: ServiceProcess, path: str, **arguments: object) -> httpx.Response:
    return service.post(path, json=arguments)


@pytest.mark.parametrize(
    ("with_known", "error"),
    [(True, ["Known", "('as ever', 1)"]), (False, ["RemoteException", "rare.Rare: never before"])],
)
def test_only_classes_that_the_caller_has_loaded_are_made_again(
    three: SimpleNamespace, with_known: bool, error: list[str]
) -> None:
    assert posts(three.top, "/fail", with_known=with_known).json() == [
        *error, "Traceback in Leaf/fail (most recent call last):",
        "Traceback in Middle/fail (most recent call last):",
    ]  # fmt: skip


def test_a_worker_that_is_killed_ends_its_calls_at_once_and_the_next_one_works(
    graph: Graph, three: SimpleNamespace
) -> None:
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(posts, three.top, "/wait", name="killed")
        os.kill(graph.pid_in("killed"), signal.SIGKILL)
        ended = call.result(DEADLINE_S)

    assert (ended.status_code, posts(three.top, "/pid").status_code) == (500, 200)


def test_a_caller_that_is_killed_cancels_its_calls(graph: Graph, three: SimpleNamespace) -> None:
    top = graph.start("Top", Middle=three.middle.address).wait_until_ready()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(posts, top, "/wait", name="orphan")
        graph.pid_in("orphan")
        top.kill_all()
        assert isinstance(call.exception(DEADLINE_S), httpx.TransportError)

    until(graph.file("orphan-cancelled").exists, "the call was cancelled")


def test_a_replica_drains_and_returns_without_one_failed_call(graph: Graph, three: SimpleNamespace) -> None:
    is_over = threading.Event()
    statuses: list[int] = []

    def call_on() -> None:
        while not is_over.is_set():
            statuses.append(posts(three.top, "/work").status_code)

    first, second = three.leaves
    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(call_on) for _ in range(8)]
        try:
            assert first.stop() == 0
            returned = graph.start("Leaf", port=first.port).wait_until_ready()
            assert second.stop() == 0
            until(lambda: posts(three.top, "/pid").json() in returned.processes(), "it gets calls again")
        finally:
            is_over.set()
        for caller in callers:
            caller.result(DEADLINE_S)

    three.leaves[:] = [returned]
    assert set(statuses) == {200}


def test_peers_that_are_stopped_are_waited_for_as_long_as_the_caller_waits(three: SimpleNamespace) -> None:
    stopped = [pid for leaf in three.leaves for pid in leaf.processes()]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        late = three.top.post("/pid", json={}, headers={TIMEOUT_HEADER: "500"})
        probes = three.top.probe("/readyz"), three.middle.probe("/readyz"), three.middle.probe("/livez")
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)

    assert (late.status_code, probes) == (504, (200, 200, 200))
    assert posts(three.top, "/pid").status_code == 200


def test_a_peer_that_is_down_makes_its_callers_neither_unready_nor_slow(
    graph: Graph, three: SimpleNamespace
) -> None:
    for leaf in three.leaves:
        leaf.kill_all()

    kind, words, *_ = posts(three.top, "/fail", with_known=True).json()

    assert (kind, words) == (
        "ServiceUnavailable",
        f"{three.leaf_words} (BENTOML_PEER_LEAF) cannot be reached: Connection refused",
    )
    assert posts(three.top, "/pid").status_code == 503
    assert (three.top.probe("/readyz"), three.middle.probe("/readyz")) == (200, 200)

    three.leaves[:] = [graph.start("Leaf", port=three.leaves[0].port).wait_until_ready()]
    until(lambda: posts(three.top, "/pid").status_code == 200, "it is called again once it is there again")


@bentoml.service
class Leaf:
    """That of the project, as its callers know it."""

    @bentoml.api
    def pid(self) -> int:
        raise NotImplementedError

    @bentoml.api
    def wait(self, name: str) -> None:
        raise NotImplementedError


@bentoml.service
class Caller:
    leaf = bentoml.depends(Leaf)


class Cable:
    """A network namespace, joined to the one of the tests by a pair of devices."""

    def __init__(self, number: int) -> None:
        self.namespace = f"bento-{number}"
        self.near, self.far = f"bento-{number}a", f"bento-{number}b"
        third, fourth = divmod(number % 2**14 * 4, 256)
        self.here, self.there = (f"10.213.{third}.{fourth + end}" for end in (1, 2))

    def lay(self, stack: ExitStack) -> None:
        """Make it; the stack takes it away again."""
        self._ip("netns", "add", self.namespace)
        stack.callback(self._ip, "netns", "delete", self.namespace)
        self._ip("link", "add", self.near, "type", "veth", "peer", "name", self.far, "netns", self.namespace)
        # By itself it would stay for as long as the namespace has connections that wait for their other end.
        stack.callback(self._ip, "link", "delete", self.near)
        self._ip("address", "add", f"{self.here}/30", "dev", self.near)
        self._ip("link", "set", self.near, "up")
        self._ip("-n", self.namespace, "address", "add", f"{self.there}/30", "dev", self.far)
        self._ip("-n", self.namespace, "link", "set", "lo", "up")
        self.join()

    def join(self) -> None:
        self._ip("-n", self.namespace, "link", "set", self.far, "up")

    def cut(self) -> None:
        self._ip("-n", self.namespace, "link", "set", self.far, "down")

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)


@pytest.fixture
def cable() -> Iterator[Cable]:
    cable = Cable(os.getpid())
    with ExitStack() as stack:
        cable.lay(stack)
        yield cable


@pytest.mark.docker  # where containers run, a network can be made
def test_a_peer_that_is_cut_off_is_given_up_in_time_and_found_again(graph: Graph, cable: Cable) -> None:
    variables = {
        environment.SERVICE: "service:Leaf",
        environment.HOST: cable.there,
        environment.DEPENDENTS: "Caller",
    }
    inside = ["ip", "netns", "exec", cable.namespace, sys.executable, "-m", "bentoml"]
    process = subprocess.Popen(
        inside, cwd=graph.folder, env={**os.environ, **variables}, start_new_session=True
    )
    address = {"Leaf": f"http://{cable.there}:{environment.DEFAULT_PORT}"}
    try:
        with (
            peers_of(Caller, address) as patient,
            peers_of(Caller, address, limits=Limits(answer_s=0.5, item_s=0.5)) as caller,
        ):
            until(lambda: answers(patient.leaf), "it is ready")
            with ThreadPoolExecutor(1) as pool:
                call = pool.submit(caller.leaf.wait, "cut-off")
                graph.pid_in("cut-off")
                cable.cut()
                assert isinstance(call.exception(DEADLINE_S), DeadlineExceeded)
            with pytest.raises(DeadlineExceeded):
                caller.leaf.pid()
            cable.join()
            assert patient.leaf.pid() > 0
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(leaf: Any) -> bool:
    try:
        return bool(leaf.pid())
    except ServiceUnavailable:
        return False
