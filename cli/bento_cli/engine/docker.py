"""Docker: queries through its API, builds through buildx, the rest through Compose."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import docker
import docker.errors
import requests
from docker.context import ContextAPI
from docker.models.containers import Container as DockerContainer

from bento_cli.engine import (
    BuildOptions,
    BuildProgress,
    Built,
    Container,
    EngineFacts,
    Image,
    ImageBuild,
)
from bento_cli.engine._bake import BakeLog, bake_arguments, bake_file, digests, targets
from bento_cli.engine._failures import build_failure, compose_failure
from bento_cli.errors import EngineError

# HEALTHCHECK knows `--start-interval` from this version on.
MINIMUM_ENGINE: Final = (25, 0)
# `devices: !reset []` and `include` behave as the compose files here need them from this version on.
MINIMUM_COMPOSE: Final = (2, 24)

# `--progress rawjson` is there from this version on.
MINIMUM_BUILDX: Final = (0, 13)

# From this version on buildx asks before a bake reads folders other than the current one.
ASKS_FOR_FOLDERS: Final = (0, 19)

_NO_ENGINE_HINT = (
    "start Docker, or point DOCKER_HOST or `docker context use` at an engine; `docker info` must answer"
)


class DockerEngine:
    """A Docker Engine, with the `docker` command and its buildx and compose plug-ins."""

    def check(self) -> EngineFacts:
        """Find out, before anything is started, that the engine answers and can build and compose."""
        with ThreadPoolExecutor() as pool:
            compose, buildx = (pool.submit(self._plugin_version, name) for name in ("compose", "buildx"))
            with _api_errors():
                info = self._client.info()
            _require_version("Docker Engine", _version(str(info.get("ServerVersion"))), MINIMUM_ENGINE)
            _require_version("Docker Compose", compose.result(), MINIMUM_COMPOSE)
            _require_version("Docker buildx", buildx.result(), MINIMUM_BUILDX)
        return EngineFacts(version=str(info.get("ServerVersion")), has_gpu=_has_gpu(info))

    def build(
        self, images: Sequence[ImageBuild], progress: BuildProgress, options: BuildOptions
    ) -> dict[str, Built]:
        """Build all images in one bake, so that what they share is made once; how each went, by its name."""
        command = ["docker", "buildx", "bake", "--file", "-", "--progress", "rawjson"]
        command += bake_arguments(options)
        if (self._plugin_version("buildx") or (0, 0)) >= ASKS_FOR_FOLDERS:
            command += _allowed(images)
        log = BakeLog(targets(images), progress)
        with tempfile.TemporaryDirectory(prefix="bento-") as folder:
            metadata = Path(folder, "metadata.json")
            with _started([*command, "--metadata-file", str(metadata)]) as process:
                assert process.stdin is not None  # noqa: S101  # both are pipes
                assert process.stderr is not None  # noqa: S101
                process.stdin.write(bake_file(images))
                process.stdin.close()
                for line in process.stderr:
                    log.read(line)
            if process.returncode != 0:
                raise build_failure(log.failure())
            return log.built(digests(metadata.read_text(encoding="utf-8")))

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
            pushed_digest=_pushed_digest(reference, found.attrs.get("RepoDigests") or ()),
        )

    def has_image(self, labels: Mapping[str, str]) -> bool:
        """Whether there is an image with these labels, whatever it is called."""
        filters = {"label": [f"{name}={value}" for name, value in labels.items()]}
        with _api_errors():
            return bool(self._client.api.images(filters=filters, quiet=True))

    def file(self, image: Image, path: str) -> bytes | None:
        """What a file of an image holds, None when there is none; read from a container that never starts."""
        with _api_errors():
            container = self._client.containers.create(image.identifier, network_mode="none")
            try:
                chunks, _ = container.get_archive(path)
                archive = io.BytesIO(b"".join(chunks))
            except docker.errors.NotFound:
                return None
            finally:
                container.remove(force=True)
        with tarfile.open(fileobj=archive) as files:
            member = files.next()
            held = files.extractfile(member) if member is not None else None
            return held.read() if held is not None else None

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


def _pushed_digest(reference: str, digests: Sequence[str]) -> str | None:
    """The digest under which the registry of a reference holds the image."""
    repository = reference.rpartition(":")[0]
    return next((d.rpartition("@")[2] for d in digests if d.rpartition("@")[0] == repository), None)


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
            command,
            text=True,
            errors="replace",
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Attestations hold the time of the build: the same image would have another digest each time.
            env={
                "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
                "BUILDX_METADATA_PROVENANCE": "disabled",
                **os.environ,
            },
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
