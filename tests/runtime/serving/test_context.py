"""What an endpoint learns of its request, and says of its response."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.responses import Response
from tests.runtime.conftest import Call

import bentoml

left_behind: list[Path] = []
done_later: list[str] = []


@bentoml.service
class Talks:
    @bentoml.api
    def greet(self, name: str, ctx: bentoml.Context) -> str:
        ctx.response.status_code = 202
        ctx.response.headers["x-name"] = name
        ctx.response.set_cookie("name", name, max_age=60, httponly=True)
        return f"{name} asked {ctx.request.headers['x-asked']}"

    @bentoml.api
    async def body(self, context, size: int = 0):  # type: ignore[no-untyped-def]  # as projects may write it
        return [(await context.request.body()).decode(), size]

    @bentoml.api
    def scratch(self, context: bentoml.Context) -> bool:
        left_behind.append(Path(context.temp_dir))
        return left_behind[-1].is_dir()

    @bentoml.api
    def count(self, any_name: bentoml.Context) -> int:
        any_name.state["count"] = any_name.state.get("count", 0) + 1
        return int(any_name.state["count"])

    @bentoml.api
    def later(self, ctx: bentoml.Context) -> None:
        ctx.response.background = lambda: done_later.append("done")

    @bentoml.api
    def by_hand(self, ctx: bentoml.Context) -> Response:
        ctx.response.headers["x-more"] = "yes"
        return Response("<p>", 203, media_type="text/html")

    @bentoml.api
    def whoami(self) -> list[object]:
        return [bentoml.server_context.service_name, bentoml.server_context.service_type]


def test_status_headers_and_cookies_are_those_of_the_context(call: Call) -> None:
    response = call(Talks, "/greet", json={"name": "ann"}, headers={"x-asked": "twice"})

    assert (response.status_code, response.text, response.headers["x-name"]) == (
        202,
        "ann asked twice",
        "ann",
    )
    assert response.headers["set-cookie"] == "name=ann; HttpOnly; Max-Age=60; Path=/; SameSite=lax"


def test_a_context_needs_no_annotation(call: Call) -> None:
    assert call(Talks, "/body", content=b'{"size": 3}').json() == ['{"size": 3}', 3]


def test_the_folder_of_a_request_is_gone_afterwards(call: Call) -> None:
    assert call(Talks, "/scratch").json() is True
    assert not left_behind[-1].exists()


def test_a_context_is_no_field_of_the_request(call: Call) -> None:
    routes = call(Talks, "/schema.json", method="GET").json()["routes"]

    assert {route["name"]: list(route["input"]["properties"]) for route in routes}["greet"] == ["name"]


def test_state_is_shared_by_the_requests_of_a_worker(call: Call) -> None:
    assert call(Talks, "/count").json() == 1


def test_what_is_left_for_later_runs_after_the_response(call: Call) -> None:
    assert call(Talks, "/later").status_code == 200
    assert done_later == ["done"]


def test_a_response_of_ones_own_keeps_what_the_context_adds(call: Call) -> None:
    response = call(Talks, "/by_hand")

    assert (response.status_code, response.text, response.headers["x-more"]) == (203, "<p>", "yes")


@pytest.mark.parametrize(("dependents", "kind"), [("", "entry_service"), ("Top", "service")])
def test_a_service_knows_what_it_is(call: Call, dependents: str, kind: str) -> None:
    assert call(Talks, "/whoami", environ={"BENTOML_DEPENDENTS": dependents}).json() == ["Talks", kind]


def test_a_response_names_its_service_and_request(call: Call) -> None:
    response = call(Talks, "/whoami", config={"http": {"response": {"trace_id": True}}})

    assert response.headers["server"] == "BentoML Service/Talks"
    assert len(bytes.fromhex(response.headers["x-bentoml-request-id"])) == 8
    assert len(bytes.fromhex(response.headers["x-bentoml-trace-id"])) == 16
