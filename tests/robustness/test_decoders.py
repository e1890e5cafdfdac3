"""Requests that nobody would send on purpose: each is answered, none is the service's own failure."""

from __future__ import annotations

import itertools
import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.robustness.conftest import Ask

from bentoml import codec

PATHS = ["/add", "/order", "/array", "/image", "/file", "/blob", "/options", "/whole", "/text", "/numbers"]

# The same examples each time, so that a gate fails for a change and for nothing else; `make fuzz` takes new
# ones, as many as the variable says.
bounded = settings(
    derandomize="BENTO_FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=int(os.environ.get("BENTO_FUZZ_EXAMPLES", "150")),
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(
    ["a", "b", "order", "spans", "value", "image", "file", "blob", "args", "kwargs", "count"]
)
media_types = st.sampled_from(
    [
        b"application/json", b"", b"text/plain", b"multipart/form-data", b"multipart/form-data; boundary=x",
        b"application/x-www-form-urlencoded", codec.MEDIA_TYPE.encode(), b"application/json; charset=utf-16",
    ]
)  # fmt: skip


def pieces_of(body: bytes, cuts: list[int]) -> list[bytes]:
    """The body in pieces, as a network may deliver it."""
    places = sorted({cut % (len(body) + 1) for cut in cuts} | {0, len(body)})
    return [body[start:stop] for start, stop in itertools.pairwise(places)]


def assert_is_answered(answer: tuple[int, bytes]) -> None:
    status, body = answer
    assert status == 200 or 400 <= status < 500, (status, body)
    if status != 200:
        assert json.loads(body)["error"]


@bounded
@given(
    path=st.sampled_from(PATHS),
    kind=media_types,
    body=st.binary(max_size=400),
    cuts=st.lists(st.integers(0, 400)),
)
def test_any_bytes_of_any_type_are_answered(
    ask: Ask, path: str, kind: bytes, body: bytes, cuts: list[int]
) -> None:
    assert_is_answered(ask(path, [(b"content-type", kind)], pieces_of(body, cuts)))


@bounded
@given(path=st.sampled_from(PATHS), value=st.dictionaries(names, anything, max_size=5) | anything)
def test_any_json_is_answered(ask: Ask, path: str, value: Any) -> None:
    body = json.dumps(value).encode("utf-8", "surrogatepass")

    assert_is_answered(ask(path, [(b"content-type", b"application/json")], [body]))


@bounded
@given(
    path=st.sampled_from(PATHS),
    parts=st.lists(st.tuples(names | st.text(max_size=5), st.binary(max_size=60), st.booleans()), max_size=5),
    damage=st.none() | st.tuples(st.integers(0, 10_000), st.binary(max_size=4)),
)
def test_any_form_is_answered(
    ask: Ask, path: str, parts: list[tuple[str, bytes, bool]], damage: tuple[int, bytes] | None
) -> None:
    body = bytearray()
    for name, content, is_file in parts:
        file_name = '; filename="x.png"' if is_file else ""
        head = f'--x\r\nContent-Disposition: form-data; name="{name}"{file_name}\r\n\r\n'
        body += head.encode("utf-8", "replace") + content + b"\r\n"
    body += b"--x--\r\n"
    if damage is not None:
        at = damage[0] % len(body)
        body[at : at + len(damage[1])] = damage[1]

    assert_is_answered(ask(path, [(b"content-type", b"multipart/form-data; boundary=x")], [bytes(body)]))


@bounded
@given(
    path=st.sampled_from(PATHS),
    call=st.tuples(st.lists(anything, max_size=3), st.dictionaries(names, anything, max_size=3)),
    damage=st.none() | st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=4)),
)
def test_any_frame_is_answered(
    ask: Ask, path: str, call: tuple[list[Any], dict[str, Any]], damage: tuple[int, bytes] | None
) -> None:
    try:
        body = bytearray(b"".join(codec.encode(list(call))))
    except codec.EncodeError:
        return  # text that is no Unicode cannot be sent in the first place
    if damage is not None:
        at = damage[0] % len(body)
        body[at : at + len(damage[1])] = damage[1]
    status, answer = ask(path, [(b"content-type", codec.MEDIA_TYPE.encode())], [bytes(body)])

    assert status == 200 or 400 <= status < 500, (status, answer)


@pytest.mark.parametrize("count", [999, 1001, 10_000])
def test_very_many_parts_are_read_or_refused(ask: Ask, count: int) -> None:
    body = b"".join(b'--x\r\nContent-Disposition: form-data; name="args"\r\n\r\n1\r\n' for _ in range(count))
    status, answer = ask(
        "/options", [(b"content-type", b"multipart/form-data; boundary=x")], [body + b"--x--\r\n"]
    )

    assert (status == 200) == (count <= 1000), answer


@pytest.mark.parametrize("depth", [100, 10_000, 1_000_000])
@pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_very_deep_json_is_refused(ask: Ask, depth: int, start: bytes, end: bytes) -> None:
    body = b'{"kwargs": {"x": ' + start * depth + b"1" + end * depth + b"}}"
    status, answer = ask("/add", [(b"content-type", b"application/json")], [body])

    assert status == 400, answer


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-type", b"multipart/form-data; boundary=" + b"x" * 100_000)],
        [(b"content-type", b"\xff\xfe\x00")],
        [(b"content-type", b"application/json"), (b"content-type", b"multipart/form-data")],
        [(b"content-length", b"99999999999999999999")],
        [(b"content-length", b"-1")],
        [(b"traceparent", b"\xff" * 1000)],
    ],
)
def test_odd_headers_are_answered(ask: Ask, headers: list[tuple[bytes, bytes]]) -> None:
    assert_is_answered(ask("/add", headers, [b'{"a": 1}']))


@pytest.mark.parametrize("cut", [3, 20, 60, 61])
def test_a_form_that_breaks_off_is_refused(ask: Ask, cut: int) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%d\r\n'
    whole = part % (b"a", 7) + part % (b"b", 100) + b"--x--\r\n"
    headers = [(b"content-type", b"multipart/form-data; boundary=x")]

    assert ask("/add", headers, [whole])[0] == 200
    assert ask("/add", headers, [whole[:-cut]])[0] == 400
