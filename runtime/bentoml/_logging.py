"""Log lines of a service's processes: one line a record, to stderr."""

from __future__ import annotations

import logging
import sys


def configure_logging(process: str) -> None:
    """Send every record to stderr, with the time, the level and the process it comes from."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter(f"%(asctime)s %(levelname)s [{process}] %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in ("httpx", "httpcore", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
