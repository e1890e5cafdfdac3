"""The one place that reads meaning out of an engine's messages."""

from __future__ import annotations

import re


def failing_step(log: str) -> str:
    """What BuildKit shows of the step that failed: its output, and the lines of the Dockerfile."""
    start = re.search(r"^------\n > ", log, re.MULTILINE)
    if start:
        return log[start.start() :]
    errors = [line for line in log.splitlines() if "ERROR" in line or "error" in line.lower()]
    return "\n".join(errors[-10:] or log.splitlines()[-20:])


def compose_failure(stderr: str) -> tuple[str, str | None]:
    """A message and a hint for what `docker compose` could not do."""
    port = re.search(
        r"(?:Bind for|listen tcp4?|failed to bind host port for) ([\d.]+:\d+).*already (?:allocated|in use)",
        stderr,
    )
    if port:
        return f"port {port[1]} is in use", "stop what listens there, or choose another port with `--port`"
    if "could not select device driver" in stderr:
        return "this engine offers no GPU, and a service asks for one", "go on without: `--cpu`"
    lines = [line for line in stderr.splitlines() if line.strip()]
    return (lines[-1].strip() if lines else "docker compose failed"), None
