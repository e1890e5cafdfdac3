"""The page at `/`: small, complete, and with nothing from elsewhere."""

from __future__ import annotations

import re

import httpx
import pytest
from tests.runtime.conftest import Call

import bentoml

FILES = ["/v1/", "/v1/docs.js", "/v1/docs.css"]


@bentoml.service(name="Tom & <b>Co</b>", path_prefix="/v1")
class Shop:
    @bentoml.api
    def sell(self, what: str) -> str:
        return what


def get(call: Call, path: str) -> httpx.Response:
    return call(Shop, path, method="GET")


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("/v1/", "text/html"), ("/v1/docs.js", "text/javascript"), ("/v1/docs.css", "text/css")],
)
def test_the_page_has_a_script_and_a_style_of_its_own(call: Call, path: str, media_type: str) -> None:
    response = get(call, path)

    assert (response.status_code, response.headers["content-type"]) == (200, f"{media_type}; charset=utf-8")


def test_it_stands_below_the_prefix_and_names_the_service(call: Call) -> None:
    page = get(call, "/v1/").text

    assert '<html lang="en" data-prefix="/v1">' in page
    assert "<title>Tom &amp; &lt;b&gt;Co&lt;/b&gt;</title>" in page


def test_whatever_it_refers_to_is_there(call: Call) -> None:
    named = re.findall(r'(?:href|src)="([^":]+)"', get(call, "/v1/").text)

    assert {*named} == {"docs.json", "docs.css", "docs.js"}
    assert {get(call, f"/v1/{name}").status_code for name in named} == {200}


@pytest.mark.parametrize("path", FILES)
def test_nothing_comes_from_another_server(call: Call, path: str) -> None:
    assert not re.search(r"https?:|[\"'(]//", get(call, path).text)


def test_a_browser_is_told_to_run_only_its_own_script(call: Call) -> None:
    page = get(call, "/v1/")

    assert (
        "default-src 'none'; script-src 'self'; style-src 'self'" in page.headers["content-security-policy"]
    )
    assert not re.search(r"<style|<script>|\son\w+=|\sstyle=|javascript:", page.text)


def test_what_a_service_says_never_becomes_markup(call: Call) -> None:
    script = get(call, "/v1/docs.js").text

    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|new Function", script)


def test_it_is_small(call: Call) -> None:
    assert sum(len(get(call, path).content) for path in FILES) < 24_000
