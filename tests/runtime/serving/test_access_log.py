"""The access log: what a line holds, and what a caller cannot make it hold."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from bentoml._logging import LogLines
from bentoml._serving.access_log import AccessLog
from bentoml._trace import TraceContext

CONTEXT = TraceContext("a" * 32, "b" * 16, flags=1)

Written = Callable[..., str]


def scope(path: str = "/classify", headers: dict[str, str] | None = None) -> dict[str, Any]:
    given = {"content-type": "application/json", "content-length": "12"} if headers is None else headers
    return {
        "type": "http",
        "client": ("127.0.0.1", 5),
        "scheme": "http",
        "method": "POST",
        "path": path,
        "query_string": b"token=secret",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
    }


@pytest.fixture
def written() -> Written:
    """What a log writes for one request, without the time."""

    def written(request: dict[str, Any], *, is_json: bool = False, **options: Any) -> str:
        stream = io.StringIO()
        log = AccessLog("Iris", lines=LogLines(stream, "Iris:1", is_json=is_json), **options)
        log.write(
            request, 200, [(b"content-type", b"text/plain"), (b"content-length", b"7")], 0.007546, CONTEXT
        )
        return stream.getvalue() if is_json else stream.getvalue().partition(" ")[2]

    return written


def test_a_line_says_who_asked_what_was_answered_and_in_which_trace(written: Written) -> None:
    assert written(scope()) == (
        "INFO [Iris:1] 127.0.0.1:5 (scheme=http,method=POST,path=/classify,type=application/json,length=12) "
        "(status=200,type=text/plain,length=7) 7.546ms "
        f"(trace={'a' * 32},span={'b' * 16},sampled=1,service.name=Iris)\n"
    )


def test_a_json_line_is_one_object_with_numbers_as_numbers(written: Written) -> None:
    record = json.loads(written(scope(), is_json=True))

    assert record.pop("time").startswith("20")
    assert record == {
        "level": "INFO",
        "process": "Iris:1",
        "logger": "bentoml.access",
        "message": "POST /classify 200",
        "service": "Iris",
        "client": "127.0.0.1:5",
        "scheme": "http",
        "method": "POST",
        "path": "/classify",
        "request_type": "application/json",
        "request_length": 12,
        "status": 200,
        "response_type": "text/plain",
        "response_length": 7,
        "duration_ms": 7.546,
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
        "sampled": True,
    }


@pytest.mark.parametrize("is_json", [False, True], ids=["text", "json"])
def test_neither_the_query_nor_another_header_is_written(written: Written, is_json: bool) -> None:
    request = scope(headers={"authorization": "Bearer secret"})

    assert "secret" not in written(request, is_json=is_json)


@pytest.mark.parametrize(
    ("path", "logged"),
    [
        ("/a\n2026-11-24T07:07:21+0000 INFO forged", "path=/a%0A2026-11-24T07:07:21%2B0000%20INFO%20forged"),
        ("/a\x1b[31m", "path=/a%1B%5B31m"),
        ("/a) (status=500", "path=/a%29%20%28status%3D500"),
        ("/é", "path=/%C3%A9"),
        ("/%41", "path=/%2541"),
    ],
)
def test_a_path_cannot_look_like_anything_else(written: Written, path: str, logged: str) -> None:
    line = written(scope(path))

    assert f"{logged},type=" in line
    assert line.count("\n") == 1


def test_a_header_cannot_look_like_another_field(written: Written) -> None:
    line = written(scope(headers={"content-type": "text/a,length=9) (status=500\x85"}))

    assert "type=text/a%2Clength=9%29 %28status=500%C2%85)" in line


def test_a_json_line_keeps_a_path_with_line_breaks_on_one_line(written: Written) -> None:
    line = written(scope("/a\n\u2028b"), is_json=True)

    assert (line.count("\n"), json.loads(line)["path"]) == (1, "/a\n\u2028b")


def test_fields_can_be_left_out(written: Written) -> None:
    line = written(scope(), request_content_type=False, response_content_length=False)

    assert "path=/classify,length=12) (status=200,type=text/plain)" in line


def test_the_numbers_of_a_trace_are_written_as_the_format_says(written: Written) -> None:
    line = written(scope(), trace_id_format="d", span_id_format="X")

    assert f"(trace={int('a' * 32, 16)},span={'B' * 16}," in line


def test_probes_are_not_logged(written: Written) -> None:
    assert written(scope("/readyz")) == ""


def test_a_request_over_a_unix_socket_has_no_client(written: Written) -> None:
    assert "INFO [Iris:1] _ (scheme" in written({**scope(), "client": None})


def test_in_a_process_with_logging_of_its_own_lines_are_its_records(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "bentoml.access"):
        AccessLog("Iris").write(scope(), 200, [], 0.001, CONTEXT)

    assert caplog.messages == [
        "127.0.0.1:5 (scheme=http,method=POST,path=/classify,type=application/json,length=12) "
        f"(status=200) 1.000ms (trace={'a' * 32},span={'b' * 16},sampled=1,service.name=Iris)"
    ]
