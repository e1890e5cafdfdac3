"""Docker: queries through its API, builds through buildx, the rest through Compose."""

from __future__ import annotations

import json
import os
import re
import subprocess
import textwrap
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import docker
import docker.errors
import requests
from docker.context import ContextAPI
from docker.models.containers import Container as DockerContainer

from bento_cli.engine import Container, EngineFacts, Image, ImageBuild, Progress
from bento_cli.engine._failures import compose_failure, failing_step
from bento_cli.errors import EngineError

# HEALTHCHECK knows `--start-interval` from this version on.
MINIMUM_ENGINE: Final = (25, 0)
# `devices: !reset []` and `include` behave as the compose files here need them from this version on.
MINIMUM_COMPOSE: Final = (2, 24)

# From this version on buildx asks before a bake reads folders other than the current one.
ASKS_FOR_FOLDERS: Final = (0, 19)

_NO_ENGINE_HINT = (
    "start Docker, or point DOCKER_HOST or `docker context use` at an engine; `docker info` must answer"
)


class DockerEngine:
    """A Docker Engine, with the `docker` command and its buildx and compose plug-ins."""

    def check(self) -> EngineFacts:
        """Find out, before anything is started, that the engine answers and can build and compose."""
        with _api_errors():
            info = self._client.info()
        _require_version("Docker Engine", _version(str(info.get("ServerVersion"))), MINIMUM_ENGINE)
        _require_version("Docker Compose", self._plugin_version("compose"), MINIMUM_COMPOSE)
        _require_version("Docker buildx", self._plugin_version("buildx"), (0, 0))
        return EngineFacts(version=str(info.get("ServerVersion")), has_gpu=_has_gpu(info))

    def build(self, images: Sequence[ImageBuild], progress: Progress) -> None:
        """Build all images in one bake, so that what they share is made once."""
        targets = {
            f"image-{index}": {
                "context": str(image.context),
                "dockerfile": image.dockerfile,
                "tags": list(image.tags),
                "labels": dict(image.labels),
            }
            for index, image in enumerate(images)
        }
        names = {f"image-{index}": image.name for index, image in enumerate(images)}
        bake = json.dumps({"group": {"default": {"targets": list(targets)}}, "target": targets})
        command = [
            "docker",
            "buildx",
            "bake",
            "--file",
            "-",
            "--load",
            "--progress",
            "plain",
        ]
        if (self._plugin_version("buildx") or (0, 0)) >= ASKS_FOR_FOLDERS:
            command += _allowed(images)
        log: deque[str] = deque(maxlen=2000)
        with _started(command) as process:
            assert process.stdin is not None  # noqa: S101  # both are pipes
            assert process.stderr is not None  # noqa: S101
            process.stdin.write(bake)
            process.stdin.close()
            for line in _follow(process.stderr, names, progress):
                log.append(line)
        if process.returncode != 0:
            text = "".join(log)
            for target, name in names.items():
                text = re.sub(rf"\b{target}\b", name, text)
            raise EngineError("the engine could not build the images", details=failing_step(text))

    def image(self, reference: str) -> Image | None:
        """A built image, None when there is none."""
        try:
            with _api_errors():
                found = self._client.images.get(reference)
        except docker.errors.ImageNotFound:
            return None
        return Image(
            reference=reference,
            identifier=str(found.id),
            size=int(found.attrs["Size"]),
            labels=found.labels,
        )

    def containers(self, labels: Mapping[str, str]) -> list[Container]:
        """All containers with these labels, stopped ones too."""
        filters: dict[str, str | list[str] | bool] = {
            "label": [f"{name}={value}" for name, value in labels.items()]
        }
        with _api_errors():
            found = self._client.containers.list(all=True, filters=filters, ignore_removed=True)
            return [_container(container) for container in found]

    def log_tail(self, container: Container, lines: int) -> str:
        """The last lines that a container wrote."""
        with _api_errors():
            raw: bytes = self._client.containers.get(container.identifier).logs(tail=lines)
        return raw.decode(errors="replace")

    def compose(self, folder: Path, *arguments: str) -> None:
        """Run `docker compose` in a folder; its progress is shown only when it fails."""
        command = ["docker", "compose", "--progress", "plain", *arguments]
        try:
            result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise _no_command() from None
        if result.returncode != 0:
            message, hint = compose_failure(result.stderr)
            raise EngineError(message, hint=hint, details=result.stderr)

    @cached_property
    def _client(self) -> docker.DockerClient:
        with _api_errors():
            # DOCKER_HOST wins over the context, as it does for the `docker` command.
            context = None if os.environ.get("DOCKER_HOST") else ContextAPI.get_current_context()
            if context is None or context.Host is None or context.name == "default":
                return docker.from_env()
            return docker.DockerClient(base_url=context.Host, tls=context.TLSConfig or False)

    def _plugin_version(self, plugin: str) -> tuple[int, int] | None:
        try:
            result = subprocess.run(
                ["docker", plugin, "version"], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            raise _no_command() from None
        return _version(result.stdout) if result.returncode == 0 else None


def _version(text: str) -> tuple[int, int] | None:
    match = re.search(r"v?(\d+)\.(\d+)\.\d+", text)
    return (int(match[1]), int(match[2])) if match else None


def _require_version(what: str, found: tuple[int, int] | None, least: tuple[int, int]) -> None:
    if found is None:
        raise EngineError(
            f"{what} is missing", hint="install Docker's command line with its buildx and compose plug-ins"
        )
    if found < least:
        texts = [".".join(map(str, version)) for version in (found, least)]
        raise EngineError(f"{what} {texts[0]} is too old, {texts[1]} is needed", hint=f"update {what}")


def _follow(lines: Iterable[str], names: Mapping[str, str], progress: Progress) -> Iterator[str]:
    """Pass BuildKit's plain log on, telling of the steps that it speaks of."""
    steps: dict[str, str] = {}
    for line in lines:
        yield line
        if started := re.match(r"#(\d+) \[(image-\d+) (?!internal)(.+?)\] (.*)", line):
            steps[started[1]] = f"{names[started[2]]}: {_shortened(started[4])}"
            progress.at(steps[started[1]])
        elif (
            (ended := re.match(r"#(\d+) DONE ([\d.]+)s", line)) and ended[1] in steps and float(ended[2]) >= 1
        ):
            progress.done(f"{steps[ended[1]]} ({ended[2]} s)")


def _shortened(step: str) -> str:
    """A step on one line of a terminal: its commands without mounts and what follows the first ones."""
    words = [word for word in step.split() if not word.startswith("--mount=")]
    return textwrap.shorten(" ".join(words), width=90, placeholder=" …")


def _has_gpu(info: Mapping[str, Any]) -> bool:
    """Whether the engine knows the NVIDIA runtime, or devices through the Container Device Interface."""
    devices = info.get("DiscoveredDevices") or []
    return "nvidia" in (info.get("Runtimes") or {}) or any("nvidia.com/gpu" in str(d) for d in devices)


def _container(container: DockerContainer) -> Container:
    state = container.attrs["State"]
    health = state.get("Health")
    return Container(
        identifier=str(container.id),
        name=str(container.name),
        state=state["Status"],
        health=health["Status"] if health else None,
        restarts=container.attrs.get("RestartCount", 0),
        labels=container.labels,
    )


def _allowed(images: Sequence[ImageBuild]) -> Iterator[str]:
    """Folders that a bake may read: newer builders ask before they leave the working directory."""
    for folder in sorted({str(image.context) for image in images}):
        yield f"--allow=fs.read={folder}"


@contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        process = subprocess.Popen(
            command, text=True, errors="replace", stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except FileNotFoundError:
        raise _no_command() from None
    with process:
        try:
            yield process
        except BaseException:
            process.terminate()
            raise


def _no_command() -> EngineError:
    return EngineError(
        "the `docker` command is missing", hint="install Docker's command line with buildx and compose"
    )


@contextmanager
def _api_errors() -> Iterator[None]:
    try:
        yield
    except docker.errors.ImageNotFound:
        raise
    except docker.errors.APIError as error:
        raise EngineError(f"the engine refused: {error.explanation or error}") from error
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise EngineError(
            f"no container engine answers: {_root_cause(error)}", hint=_NO_ENGINE_HINT
        ) from error


def _root_cause(error: BaseException) -> str:
    match = re.search(r"(No such file or directory|Permission denied|Connection refused)", str(error))
    return match[1] if match else str(error)
