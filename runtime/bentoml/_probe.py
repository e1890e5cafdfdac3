"""`python -m bentoml._probe`: asks this container's supervisor whether the service is ready.

An image's HEALTHCHECK runs this, so it needs no curl and loads next to nothing. Exit code 0 is ready.
"""

from __future__ import annotations

import socket
import sys

from bentoml._environment import management_port


def is_ready(port: int, timeout_s: float = 3.0) -> bool:
    """Whether `GET /readyz` on the management port of this machine answers 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if is_ready(management_port()) else 1)
