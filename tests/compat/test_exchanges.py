"""Plain requests to both servers: the same status, media type, headers and body, or a reason why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import pytest
from tests.compat.answers import Answer, answer_of
from tests.compat.exchanges import EXCHANGES, Exchange
from tests.compat.servers import IMPLEMENTATIONS, OURS, THEIRS
from tests.runtime.conftest import until
from websockets.sync.client import connect

pytestmark = pytest.mark.reference

Clients = Mapping[str, Mapping[str, httpx.Client]]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An answer of ours that is another on purpose.

    Args:
        why: what is better about it.
        status: its status.
        says: what its body says.
    """

    why: str
    status: int
    says: bytes = b""


CALLERS_FAULT = "a request that cannot be served is the caller's fault, not the server's"
DIFFERENCES = {
    "an image that is none": Difference(why=CALLERS_FAULT, status=400, says=b"image"),
    "an image under a wrong type": Difference(why="the content says what it is", status=200),
    "pickle": Difference(why="no server of ours takes it", status=415, says=b"is taken from nobody"),
    "file with no name": Difference(why=CALLERS_FAULT, status=400, says=b"expected a file"),
    "words where a file is asked": Difference(why=CALLERS_FAULT, status=400, says=b"expected an image"),
    "an address inside the network": Difference(why=CALLERS_FAULT, status=400, says=b"URL"),
    "JSON where a form is asked": Difference(why=CALLERS_FAULT, status=400, says=b"expected an image"),
    "root image, not an image": Difference(why=CALLERS_FAULT, status=400, says=b"image"),
    "root image in a form": Difference(why="the one file of a form is the one value", status=200),
    "root file, an address inside": Difference(why=CALLERS_FAULT, status=400, says=b"URL"),
    "a form with no boundary": Difference(why=CALLERS_FAULT, status=400, says=b"boundary"),
    "image of another type": Difference(why="the declared media type is the one sent", status=200),
    "root text, empty": Difference(why="an empty text is no object", status=200),
    "anything, a string": Difference(why="bare text is not called JSON", status=200, says=b"text"),
    "positional": Difference(why="`*values` are the items, not the list", status=200, says=b"[1, 2]"),
    "options, flat": Difference(why="`**options` take other names", status=200, says=b'{"a": 1}'),
    "options, none": Difference(why="`**options` may be none", status=200, says=b"{}"),
    "NaN where a number is asked": Difference(why="NaN is not JSON", status=400, says=b"JSON"),
    "stream, items": Difference(why="one JSON document a line", status=200, says=b'{"x": 0, "y": 0}\n{"x"'),
    "stream, numbers": Difference(why="one JSON document a line", status=200, says=b"0\n1\n2\n"),
    "stream that fails later": Difference(why="what broke off does not look complete", status=200),
    "submit of a wrong argument": Difference(why="refused at once", status=400, says=b"int_parsing"),
    "submit of a missing argument": Difference(why="refused at once", status=400, says=b"missing"),
    "cancel of an unknown id": Difference(why="tasks can be cancelled", status=404, says=b"not found"),
    "below a path: /livez": Difference(why="probes answer at the root too", status=200),
    "below a path: /readyz": Difference(why="probes answer at the root too", status=200),
    "below a path: /healthz": Difference(why="probes answer at the root too", status=200),
    "below a path: /metrics": Difference(why="metrics are at the root too", status=200),
    "below a path: /v1/schema.json": Difference(why="the schema is below the path too", status=200),
}


@pytest.fixture(scope="module")
def clients(addresses: Mapping[str, Mapping[str, str]]) -> Iterator[Clients]:
    """A client of each server, by implementation and project."""
    with ExitStack() as opened:
        yield {
            name: {
                project: opened.enter_context(httpx.Client(base_url=url, trust_env=False, timeout=20))
                for project, url in projects.items()
            }
            for name, projects in addresses.items()
        }


@pytest.mark.parametrize("exchange", [pytest.param(each, id=each.name) for each in EXCHANGES])
def test_ours_answers_as_theirs_or_better(clients: Clients, exchange: Exchange) -> None:
    theirs = answer_of(clients[THEIRS.name][exchange.project], exchange)
    ours = answer_of(clients[OURS.name][exchange.project], exchange)
    difference = DIFFERENCES.get(exchange.name)

    if difference is None:
        assert _shared(ours, theirs) == theirs
    else:
        assert ours != theirs, f"no difference any more, strike it: {difference.why}"
        assert ours.status == difference.status
        assert difference.says in ours.content


def _shared(ours: Answer, theirs: Answer) -> Answer:
    """Ours, less the headers that theirs does not have."""
    headers = {name: value for name, value in ours.headers.items() if name in theirs.headers}
    return Answer(**{**vars(ours), "headers": headers})


def test_every_difference_is_one_of_an_exchange() -> None:
    assert DIFFERENCES.keys() <= {exchange.name for exchange in EXCHANGES}


@pytest.mark.parametrize("by", [each.name for each in IMPLEMENTATIONS])
def test_a_task_has_the_same_life_over_plain_http(clients: Clients, by: str) -> None:
    client = clients[by]["service"]

    submitted = client.post("/task/submit", json={"value": 3}).json()
    task = {"task_id": submitted["task_id"]}
    result = until(lambda: _result(client, task), "the task has ended")
    status = client.get("/task/status", params=task).json()
    again = client.post("/task/retry", params=task).json()

    assert submitted.keys() == again.keys() == {"task_id", "status"}
    assert (submitted["status"], again["status"]) == ("in_progress", "in_progress")
    assert status.keys() == {"task_id", "status", "created_at", "executed_at"}
    assert (status["status"], result.json()) == ("completed", {"value": 3, "square": 9})


def _result(client: httpx.Client, task: dict[str, str]) -> httpx.Response | None:
    answer = client.get("/task/get", params=task)
    return answer if answer.is_success else None


@pytest.mark.parametrize("by", [each.name for each in IMPLEMENTATIONS])
def test_a_websocket_reaches_the_mounted_application(
    addresses: Mapping[str, Mapping[str, str]], by: str
) -> None:
    url = addresses[by]["service"].replace("http://", "ws://")

    with connect(f"{url}/mounted/echo", proxy=None) as websocket:
        websocket.send("hello")
        answer = websocket.recv(timeout=20)

    assert answer == "echo hello"


@pytest.mark.parametrize(
    ("project", "path", "media_type"),
    [
        ("service", "/", "text/html"),
        ("service", "/docs.json", "application/json"),
        ("service", "/metrics", "text/plain"),
        ("prefixed", "/v1/", "text/html"),
        ("prefixed", "/v1/docs.json", "application/json"),
        ("prefixed", "/v1/metrics", "text/plain"),
    ],
)
def test_both_have_these_pages(clients: Clients, project: str, path: str, media_type: str) -> None:
    answers = [clients[by.name][project].get(path) for by in IMPLEMENTATIONS]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.headers["content-type"].partition(";")[0] for answer in answers] == [media_type] * 2


def test_the_openapi_documents_list_the_same_endpoints(clients: Clients) -> None:
    theirs, ours = (clients[by.name]["service"].get("/docs.json").json()["paths"] for by in IMPLEMENTATIONS)

    endpoints = [path for path, methods in theirs.items() if "post" in methods]
    assert [path for path in endpoints if "post" not in ours.get(path, {})] == []


def test_ours_counts_what_theirs_counts(clients: Clients) -> None:
    theirs, ours = (_metrics(clients[by.name]["service"].get("/metrics").text) for by in IMPLEMENTATIONS)

    assert theirs - ours == set()


def _metrics(text: str) -> set[str]:
    lines = [line for line in text.splitlines() if line.startswith("# TYPE bentoml_")]
    return {line.removeprefix("# TYPE ") for line in lines}
