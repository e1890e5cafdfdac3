"""What the toolchain asks of a container engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class ImageBuild:
    """One image to build.

    Args:
        name: what messages call it.
        context: the folder that is sent to the builder.
        dockerfile: relative to `context`.
    """

    name: str
    context: Path
    dockerfile: str
    tags: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Image:
    """A built image; `size` is in bytes, unpacked."""

    reference: str
    identifier: str
    size: int
    labels: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container of a deployment, as the engine sees it.

    Args:
        state: `created`, `running`, `restarting`, `exited`, ...
        health: `healthy`, `unhealthy`, `starting`; None where it has no check.
    """

    identifier: str
    name: str
    state: str
    health: str | None
    restarts: int
    labels: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """What an engine is and offers."""

    version: str
    has_gpu: bool


class Progress(Protocol):
    """Hears of long work as it goes on."""

    def at(self, text: str, /) -> None:
        """The work is at something now."""
        ...

    def done(self, text: str, /) -> None:
        """A part of the work that took its time is done."""
        ...


class Engine(Protocol):
    """Builds images and knows what runs. Every method raises EngineError when the engine fails."""

    def check(self) -> EngineFacts:
        """Find out, before anything is started, that the engine answers and can build and compose."""
        ...

    def build(self, images: Sequence[ImageBuild], progress: Progress) -> None:
        """Build all images in one go."""
        ...

    def image(self, reference: str) -> Image | None:
        """A built image, None when there is none."""
        ...

    def containers(self, labels: Mapping[str, str]) -> list[Container]:
        """All containers with these labels, stopped ones too."""
        ...

    def log_tail(self, container: Container, lines: int) -> str:
        """The last lines that a container wrote."""
        ...

    def compose(self, folder: Path, *arguments: str) -> None:
        """Run `docker compose` in a folder."""
        ...
