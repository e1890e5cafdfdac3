"""The page at `/`: endpoints to be read and tried, with nothing that another server has to bring."""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FOLDER: Final = Path(__file__).parent
# Nothing of the page stands in its markup but text, and nothing comes from elsewhere; results may be shown.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; media-src blob:; base-uri 'none'; form-action 'none'"
)


def page_routes(prefix: str, title: str) -> list[Route]:
    """The page at `prefix`, and its style and script beside it.

    Args:
        title: the service's name.
    """
    said = {"{prefix}": html.escape(prefix), "{title}": html.escape(title)}

    async def page(request: Request) -> Response:
        text = _text("index.html")
        for name, value in said.items():
            text = text.replace(name, value)
        return Response(text, media_type="text/html", headers={"content-security-policy": _POLICY})

    return [
        Route(f"{prefix}/", page, methods=["GET"]),
        Route(f"{prefix}/docs.css", _file("docs.css", "text/css"), methods=["GET"]),
        Route(f"{prefix}/docs.js", _file("docs.js", "text/javascript"), methods=["GET"]),
    ]


def _file(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def file(request: Request) -> Response:
        # The next version's page must not meet this one's script.
        return Response(_text(name), media_type=media_type, headers={"cache-control": "no-cache"})

    return file


@cache
def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
