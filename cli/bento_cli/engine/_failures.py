"""The one place that reads meaning out of an engine's messages."""

from __future__ import annotations

import re

from bento_cli.errors import EngineError


def build_failure(log: str) -> EngineError:
    """What is said of a build that failed.

    Args:
        log: the steps that failed with their output, and what the builder says at the end.
    """
    hint = None
    if "Multi-platform build is not supported" in log or "exporting manifest lists" in log:
        hint = "images for several platforms are pushed, by a builder that `docker buildx create --use` makes"
    elif "RUN python -m bentoml._process.describe" in log:
        hint = "its image lacks what it imports; `bento containerize --no-import` builds without trying"
    elif "Attestation is not supported" in log:
        hint = "turn on the containerd image store, or make a builder: `docker buildx create --use`"
    elif missing := re.search(r"failed to resolve source metadata for (\S+): |(\S+): not found$", log, re.M):
        # As a Dockerfile writes it: without what every image of Docker's own registry begins with.
        name = re.sub(r"^docker\.io/(library/)?", "", missing[1] or missing[2])
        hint = f"is {name} in reach? `--base-image-map {name}=IMAGE` takes another in its place"
    return EngineError("the engine could not build the images", hint=hint, details=log)


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
