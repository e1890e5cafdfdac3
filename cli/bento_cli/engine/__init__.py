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
        arguments: build arguments.
        base_images: what stands in for images that the Dockerfile names.
        secrets: variables of this process that its steps may read, and that the image does not hold.
    """

    name: str
    context: Path
    dockerfile: str
    tags: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    base_images: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How images are built, all alike.

    Args:
        platforms: such as `linux/arm64`; the engine's own when empty.
        push: to the registries that the tags name.
        use_cache: of steps that were done before.
        pull: look for newer base images first.
        sbom: what BuildKit takes as `--sbom`, so for `provenance`.
    """

    platforms: tuple[str, ...] = ()
    push: bool = False
    use_cache: bool = True
    pull: bool = False
    sbom: str | None = None
    provenance: str | None = None


@dataclass(frozen=True, kw_only=True)
class Built:
    """How the build of one image went.

    Args:
        digest: as the registry or the engine knows the image.
        is_cached: whether every step had been done before.
    """

    digest: str
    seconds: float
    is_cached: bool


@dataclass(frozen=True, kw_only=True)
class Image:
    """A built image.

    Args:
        size: in bytes, unpacked; None where the engine has pushed it and kept nothing, or does not tell.
        pushed_digest: as the registry of `reference` knows it; None where it was not pushed there.
    """

    reference: str
    identifier: str
    size: int | None
    labels: Mapping[str, str]
    pushed_digest: str | None = None

    @property
    def digest(self) -> str:
        """What names this very image, where it was pushed to as well."""
        return self.pushed_digest or self.identifier


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
    """What an engine is and offers: CPUs and bytes of memory of its machine among it."""

    version: str
    has_gpu: bool
    cpus: float | None = None
    memory: int | None = None


class BuildProgress(Protocol):
    """Hears of images while they are built."""

    def step(self, image: str, text: str, /) -> None:
        """The image is at this step now."""
        ...

    def step_done(self, image: str, text: str, seconds: float, /) -> None:
        """A step that was not done before is done."""
        ...

    def output(self, image: str, line: str, /) -> None:
        """A step of the image wrote this line."""
        ...

    def done(self, image: str, seconds: float, /) -> None:
        """The image is built."""
        ...


class Builder(Protocol):
    """Builds images and knows which there are. Every method raises EngineError when the engine fails."""

    def check(self) -> EngineFacts:
        """Find out, before anything is started, that the engine answers and can do what it is asked for."""
        ...

    def build(
        self, images: Sequence[ImageBuild], progress: BuildProgress, options: BuildOptions
    ) -> dict[str, Built]:
        """Build all images in one go; how each went, by its name."""
        ...

    def image(self, reference: str) -> Image | None:
        """A built image, None when there is none."""
        ...

    def has_image(self, labels: Mapping[str, str]) -> bool:
        """Whether there is an image with these labels, whatever it is called."""
        ...

    def file(self, image: Image, path: str) -> bytes | None:
        """What a file of an image holds, None when there is none."""
        ...


class Engine(Builder, Protocol):
    """Knows what runs, too."""

    def containers(self, labels: Mapping[str, str | None]) -> list[Container]:
        """All containers with these labels, stopped ones too; None stands for any value."""
        ...

    def log_tail(self, container: str, lines: int) -> str:
        """The last lines that a container wrote; named by its identifier, as everywhere below."""
        ...

    def read_file(self, container: str, path: str) -> bytes | None:
        """What a file of a container holds, None when there is none."""
        ...

    def write_file(self, container: str, path: str, content: bytes) -> None:
        """Put a file that everybody may read into a container, in place of what is there."""
        ...

    def signal(self, container: str, name: str) -> None:
        """Send a signal to a container that runs."""
        ...

    def remove_containers(self, containers: Sequence[str]) -> None:
        """Stop containers, all at once, each within its own grace period, and remove them."""
        ...

    def ensure_network(self, name: str) -> None:
        """Have a network of this name."""
        ...

    def compose(self, folder: Path, *arguments: str) -> None:
        """Run `docker compose` in a folder."""
        ...

    def show(self, folder: Path, *arguments: str) -> None:
        """The same, with all that it writes shown to whoever runs this."""
        ...
