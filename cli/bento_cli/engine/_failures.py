"""The one place that reads meaning out of an engine's messages."""

from __future__ import annotations

import re
from typing import Final

from bento_cli.errors import EngineError

# A base image that nobody has, in the words of BuildKit, and of podman and buildah.
_MISSING_BASE: Final = (
    r"failed to resolve source metadata for (\S+): |(\S+): not found$"
    r"|initializing source docker://(\S+): |COPY --from=(\S+): no stage or image found"
)


# The step that imports a service, and what frameworks say in it where it asks for a GPU: a build has none.
_IMPORT: Final = "bentoml._process.describe"
_NO_GPU: Final = re.compile(
    r"no NVIDIA driver|not compiled with CUDA|no CUDA GPUs|no CUDA-capable device|CUDA_ERROR_NO_DEVICE"
    r"|CUDA driver version is insufficient|lib(?:cuda|nvidia-ml)\.so|Unable to initialize backend 'cuda'"
    r"|NVML Shared Library Not Found|Failed to infer device type",
    re.IGNORECASE,
)


# What registries say to those whom they do not know, or do not let write.
_DENIED: Final = re.compile(
    r"401 Unauthorized|403 Forbidden|authorization failed|authentication required|no basic auth credentials"
    r"|requested access to the resource|insufficient_scope|unauthorized: "
)


def build_failure(log: str) -> EngineError:
    """What is said of a build that failed.

    Args:
        log: the steps that failed with their output, and what the builder says at the end.
    """
    message, hint = "the engine could not build the images", None
    if "Multi-platform build is not supported" in log or "exporting manifest lists" in log:
        hint = "images for several platforms are pushed, by a builder that `docker buildx create --use` makes"
    elif _IMPORT in log and _NO_GPU.search(log):
        message = "a service asks for a GPU while it is imported, and a build has none"
        hint = (
            "ask for it in `__init__` or in a method, which run where the GPU is; or build without trying: "
            "`bento containerize --no-import`, `bento deploy --no-import`"
        )
    elif _IMPORT in log:
        hint = "its image lacks what it imports; `bento containerize --no-import` builds without trying"
    elif "exec format error" in log:
        hint = (
            "this machine runs no programs of that platform: use a builder that does, or let it: "
            "`docker run --privileged --rm tonistiigi/binfmt --install all`"
        )
    elif "Attestation is not supported" in log:
        hint = "turn on the containerd image store, or make a builder: `docker buildx create --use`"
    elif missing := re.search(_MISSING_BASE, log, re.MULTILINE):
        # As a Dockerfile writes it: without what every image of Docker's own registry begins with.
        name = re.sub(r"^docker\.io/(library/)?", "", next(filter(None, missing.groups())))
        hint = f"is {name} in reach? `--base-image-map {name}=IMAGE` takes another in its place"
    elif hint := push_hint(log):
        message = "the images are built and could not be pushed"
    return EngineError(message, hint=hint, details=log)


# Where a registry was asked, in the words of BuildKit, and of podman and buildah.
_REGISTRY: Final = r"(?:Get|Head|Post|Put) \"?https?://([^/\"]+)/v2/|registry ([^\s:/]+(?::\d+)?): "


def push_hint(log: str) -> str | None:
    """What to do about a registry that did not take an image; None where its words are not known."""
    if _DENIED.search(log):
        return "`docker login REGISTRY` first, or its like, as somebody who may push there"
    registry = re.search(_REGISTRY, log)
    if registry is None:
        return None
    return f"does a registry answer at {registry[1] or registry[2]}?"


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
