"""Tasks of a peer that fail: what who submitted them is told, and what anyone else is."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from tests.runtime.conftest import until
from tests.runtime.peers.graph import SECRET, Served, addresses_of, peers_of, served

import bentoml
from bentoml.exceptions import RemoteException


class Unreadable(Exception):
    pass


@bentoml.service
class Renderer:
    @bentoml.task
    def render(self, scene: str) -> str:
        raise Unreadable(scene)


@bentoml.service
class Studio:
    renderer = bentoml.depends(Renderer)


@pytest.fixture(scope="module")
def graph() -> Iterator[dict[str, Served]]:
    with served(Studio) as services:
        yield services


def failure_of(graph: dict[str, Served], secret: str = SECRET) -> tuple[str, BaseException]:
    """The id of a task that has failed, and what its submitter is told."""
    with peers_of(Studio, addresses_of(graph), secret=secret) as studio:
        task = studio.renderer.render.submit("a")
        until(lambda: task.get_status().is_final, "the task has ended")
        with pytest.raises(Exception) as caught:  # noqa: PT011  # which one is what the tests are about
            task.get()
        return task.id, caught.value


def test_a_task_that_fails_raises_what_its_method_raised(graph: dict[str, Served]) -> None:
    _, error = failure_of(graph)

    assert (type(error), error.args) == (Unreadable, ("a",))


def test_a_peer_with_another_secret_is_told_no_more_than_the_public(graph: dict[str, Served]) -> None:
    _, error = failure_of(graph, secret="another")

    assert type(error) is RemoteException
    assert "Unreadable" not in str(error)


def test_the_failure_of_a_peers_task_is_not_for_the_public(graph: dict[str, Served]) -> None:
    task_id, _ = failure_of(graph)

    response = httpx.get(f"{graph['Renderer'].address}/render/get?task_id={task_id}", trust_env=False)

    assert response.status_code == 500
    assert response.json() == {"error": "An unexpected error has occurred, please check the server log."}
