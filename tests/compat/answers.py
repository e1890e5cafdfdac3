"""What a server answered, in a form in which both implementations can be compared."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import urlsplit

import httpx
from tests.compat.exchanges import Exchange

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

# Compared wherever theirs has them.
_HEADERS = ("content-disposition", "location", "set-cookie", "x-name", "x-hand", "server")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer.

    Args:
        body: JSON is written in one way, so that blanks do not count and `1` is not `1.0`.
        content: the body as it came, for who looks for words in it.
        is_whole: False where the connection ended before the body did.
    """

    status: int
    media_type: str
    body: bytes | str
    content: bytes = field(compare=False, repr=False)
    headers: dict[str, str]
    has_request_id: bool
    is_whole: bool = True


def answer_of(client: httpx.Client, exchange: Exchange) -> Answer:
    """Send the request and take what comes."""
    request = client.build_request(
        exchange.method,
        exchange.path,
        headers=exchange.headers,
        content=exchange.content or None,
        data=exchange.fields or None,
        files=exchange.files or None,
    )
    response = client.send(request, stream=True)
    is_whole = True
    content = b""
    try:
        for chunk in response.iter_bytes():
            content += chunk
    except httpx.RemoteProtocolError:
        is_whole = False
    finally:
        response.close()
    return Answer(
        status=response.status_code,
        media_type=response.headers.get("content-type", ""),
        body=_comparable(content, response),
        content=content,
        headers={name: _value(name, response) for name in _HEADERS if name in response.headers},
        has_request_id="x-bentoml-request-id" in response.headers,
        is_whole=is_whole,
    )


def _value(name: str, response: httpx.Response) -> str:
    value: str = response.headers[name]
    return urlsplit(value).path if name == "location" else value


def _comparable(content: bytes, response: httpx.Response) -> bytes | str:
    if response.headers.get("content-type") != "application/json":
        return content
    try:
        value: Json = json.loads(content)
    except ValueError:
        return content
    return json.dumps(value if response.is_success else _error(value))


def _error(value: Json) -> Json:
    """An error without what ours says more, and what each says in its own words."""
    match value:
        case [{"error": _} as only]:  # theirs puts some errors in a list of one
            return _error(only)
        case {"error": str(text), "detail": [*problems]}:
            return {"error": _number_of_errors(text), "detail": [_problem(problem) for problem in problems]}
        case {"error": error}:
            return {"error": error}
    return value


def _number_of_errors(text: str) -> str:
    # `1 validation error for Input`; what comes after `for` is the name of a class of its own.
    return re.sub(r" errors? for .*", "", text)


def _problem(problem: Json) -> Json:
    match problem:
        case {"type": str(kind), "loc": [*path], "msg": str(text)}:
            # `root` is a field of a model that theirs makes around a value which is the whole body, and that
            # value it parses before it validates: then pydantic says "list".
            path = [step for step in path if step != "root"]
            text = "in its own words" if kind == "value_error" else text.replace("valid array", "valid list")
            return {"type": kind, "loc": path, "msg": text}
    return problem
