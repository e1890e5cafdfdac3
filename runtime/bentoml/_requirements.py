"""Which of the distribution's requirements the runtime itself needs: what every image installs."""

from __future__ import annotations

from typing import Final

RUNTIME_REQUIREMENTS: Final = frozenset(
    {
        "anyio",
        "fastapi",
        "httptools",
        "httpx",
        "ormsgpack",
        "prometheus-client",
        "pydantic",
        "python-multipart",
        "uvicorn",
        "uvloop",
        "websockets",
    }
)
"""Names of distributions, normalised. Their version ranges stand in `pyproject.toml` alone."""
