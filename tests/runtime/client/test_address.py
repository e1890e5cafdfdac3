from __future__ import annotations

import json
from collections.abc import Mapping

import httpx
import pytest

from bentoml._client.address import (
    CLOUD_ENDPOINT,
    CLOUD_KEY,
    Address,
    BearerToken,
    Get,
    Inquiry,
    Pause,
    Received,
    T,
    token_for,
)
from bentoml.exceptions import NotFound, RemoteException, ServiceUnavailable

SCHEMA = json.dumps({"routes": [{"name": "f", "route": "/f", "input": {}, "output": {}}]}).encode()


def answered(inquiry: Inquiry[T], replies: Mapping[str, int], asked: list[str] | None = None) -> T:
    """What an inquiry finds out where each URL has this status, and every other 404."""
    reply = None
    while True:
        try:
            step = next(inquiry) if reply is None else inquiry.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result
        reply = Received(0)
        if isinstance(step, Get):
            url = str(step.url)
            reply = Received(replies.get(url, 404), SCHEMA, "nobody there")
            if asked is not None:
                asked.append(url)


@pytest.mark.parametrize(
    "url", ["", "service:3000", "localhost", "ftp://service", "http://", "file:///socket"]
)
def test_an_address_is_a_url_of_http(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected an address such as `http://localhost:3000`"):
        Address(url)


def test_an_address_tells_no_password() -> None:
    assert str(Address("http://me:secret@service:3000/v1/?x=1#y")) == "http://service:3000/v1"


@pytest.mark.parametrize(
    ("url", "path", "whole"),
    [
        ("http://service", "/f", "http://service/f"),
        ("http://service/", "/f", "http://service/f"),
        ("http://proxy/models/a", "/f", "http://proxy/models/a/f"),
        ("http://service/v1", "/v1/f", "http://service/v1/f"),  # a prefix that the service knows of
        ("http://service/v1", "/v10/f", "http://service/v1/v10/f"),
    ],
)
def test_a_route_is_below_the_path_of_the_url(url: str, path: str, whole: str) -> None:
    assert str(Address(url).of(path)) == whole


@pytest.mark.parametrize(
    ("url", "replies", "is_ready"),
    [
        ("http://service", {"http://service/readyz": 200}, True),
        ("http://service", {"http://service/readyz": 503}, False),
        ("http://service", {"http://service/readyz": 0}, False),
        ("http://service", {}, False),
        ("http://service/v1", {"http://service/v1/readyz": 200}, True),
        ("http://service/v1", {"http://service/readyz": 200}, True),
        ("http://proxy/a", {"http://proxy/a/readyz": 503, "http://proxy/readyz": 200}, False),
        # The prefix is the service's own, and its server has no probe at the root.
        ("http://service", {"http://service/schema.json": 200}, True),
    ],
)
def test_a_service_is_ready_when_the_first_probe_that_exists_says_so(
    url: str, replies: Mapping[str, int], is_ready: bool
) -> None:
    assert answered(Address(url).is_ready(), replies) is is_ready


def test_waiting_asks_again_after_a_pause() -> None:
    steps = Address("http://service").wait_until_ready(30)

    assert isinstance(next(steps), Get)
    assert isinstance(steps.send(Received(503)), Pause)
    assert isinstance(steps.send(Received(0)), Get)
    with pytest.raises(StopIteration):
        steps.send(Received(200))


@pytest.mark.parametrize(
    ("status", "reason"), [(0, "nobody there"), (503, "nobody there"), (404, "nobody there")]
)
def test_a_service_that_is_not_ready_in_time_is_told(status: int, reason: str) -> None:
    steps = Address("http://service").wait_until_ready(0.01)

    with pytest.raises(
        ServiceUnavailable, match=rf"http://service was not ready within 0.01 seconds: {reason}"
    ):
        answered(steps, {"http://service/readyz": status})


@pytest.mark.parametrize("found", ["http://service/v1/schema.json", "http://service/schema.json"])
def test_the_schema_is_below_the_url_or_at_the_root(found: str) -> None:
    endpoints = answered(Address("http://service/v1").fetch_endpoints(), {found: 200})

    assert [endpoint.route for endpoint in endpoints.values()] == ["/f"]


def test_a_service_without_a_schema_is_told() -> None:
    with pytest.raises(NotFound, match=r"http://service has no schema: status 404 for /schema.json"):
        answered(Address("http://service").fetch_endpoints(), {})


def test_a_service_that_cannot_be_reached_is_told() -> None:
    with pytest.raises(ServiceUnavailable, match="http://service cannot be reached: nobody there"):
        answered(Address("http://service").fetch_endpoints(), {"http://service/schema.json": 0})


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"[" * 100_000])
def test_what_is_no_schema_is_told(body: bytes) -> None:
    inquiry = Address("http://service").fetch_endpoints()
    next(inquiry)

    with pytest.raises(RemoteException, match=r"http://service/schema.json: expected"):
        inquiry.send(Received(200, body))


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("https://service/f", "Bearer secret"),
        ("https://service:443/f", "Bearer secret"),
        ("http://service/f", None),
        ("https://service:8443/f", None),
        ("https://elsewhere/f", None),
        ("https://service.elsewhere/f", None),
    ],
)
def test_a_token_goes_to_its_own_service_only(url: str, token: str | None) -> None:
    auth = BearerToken("secret", Address("https://service/v1"))

    request = next(auth.auth_flow(httpx.Request("GET", url)))

    assert request.headers.get("authorization") == token


def test_a_token_that_a_request_brings_stays() -> None:
    auth = BearerToken("secret", Address("https://service"))
    brought = httpx.Request("GET", "https://service", headers={"Authorization": "Basic own"})

    assert next(auth.auth_flow(brought)).headers["authorization"] == "Basic own"


@pytest.mark.parametrize(
    ("url", "is_given"),
    [
        ("https://a-b.mt-guc1.bentoml.ai", True),
        ("https://cloud.bentoml.com", True),
        ("https://own.example.com:8443/x", True),
        ("https://sub.own.example.com", False),
        ("http://a-b.bentoml.ai", False),
        ("http://own.example.com", False),
        ("https://notbentoml.ai", False),
        ("https://bentoml.ai.example.com", False),
        ("https://service.example.com", False),
        ("http://localhost:3000", False),
    ],
)
def test_the_key_of_the_hosted_service_goes_to_nobody_else(url: str, is_given: bool) -> None:
    environ = {CLOUD_KEY: "key", CLOUD_ENDPOINT: "https://own.example.com"}

    assert token_for(Address(url), environ) == ("key" if is_given else None)


def test_without_an_endpoint_no_host_is_it() -> None:
    assert token_for(Address("https://service"), {CLOUD_KEY: "key"}) is None
