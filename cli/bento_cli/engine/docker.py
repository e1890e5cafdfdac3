"""Docker: queries through its API, builds through buildx, the rest through Compose."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
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
from docker.context import Context, ContextAPI
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
from bento_cli.engine._versions import Version, require_version, version_in
from bento_cli.errors import EngineError, nearest

# HEALTHCHECK knows `--start-interval` from this version on.
MINIMUM_ENGINE: Final = (25, 0)
# `devices: !reset []` and `include` behave as the compose files here need them from this version on.
MINIMUM_COMPOSE: Final = (2, 24)

# `--progress rawjson` is there from this version on.
MINIMUM_BUILDX: Final = (0, 13)

# From this version on buildx asks before a bake reads folders other than the current one.
ASKS_FOR_FOLDERS: Final = (0, 19)

_GRACE_S: Final = 10
_INTERRUPTED: Final = 130

_INSTALL_HINT = "install Docker's command line with its buildx and compose plug-ins"

_NO_ENGINE_HINT = (
    "start Docker, or point DOCKER_HOST or `docker context use` at an engine; `docker info` must answer"
)


class DockerEngine:
    """A Docker Engine, with the `docker` command and its buildx and compose plug-ins.

    Args:
        context: of the `docker` command, in which the engine is reached; the current one when not given.
    """

    def __init__(self, context: str | None = None) -> None:
        self._context = context
        # A context that is named wins over DOCKER_HOST.
        self._docker = ["docker", *(["--context", context] if context is not None else [])]

    def check(self) -> EngineFacts:
        """Find out, before anything is started, that the engine answers and can build and compose."""
        with ThreadPoolExecutor() as pool:
            compose, buildx = (pool.submit(self._plugin_version, name) for name in ("compose", "buildx"))
            with _api_errors():
                info = self._client.info()
            for what, found, least in (
                ("Docker Engine", version_in(str(info.get("ServerVersion"))), MINIMUM_ENGINE),
                ("Docker Compose", compose.result(), MINIMUM_COMPOSE),
                ("Docker buildx", buildx.result(), MINIMUM_BUILDX),
            ):
                require_version(what, found, least, install=_INSTALL_HINT)
        return EngineFacts(
            version=str(info.get("ServerVersion")),
            has_gpu=_has_gpu(info),
            cpus=info.get("NCPU"),
            memory=info.get("MemTotal"),
        )

    def build(
        self, images: Sequence[ImageBuild], progress: BuildProgress, options: BuildOptions
    ) -> dict[str, Built]:
        """Build all images in one bake, so that what they share is made once; how each went, by its name."""
        command = [*self._docker, "buildx", "bake", "--file", "-", "--progress", "rawjson"]
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
                return _held(container, path)
            finally:
                container.remove(force=True)

    def containers(self, labels: Mapping[str, str | None]) -> list[Container]:
        """All containers with these labels, stopped ones too; None stands for any value."""
        filters: dict[str, str | list[str] | bool] = {
            "label": [name if value is None else f"{name}={value}" for name, value in labels.items()]
        }
        with _api_errors():
            found = self._client.containers.list(all=True, filters=filters, ignore_removed=True)
            return [_container(container) for container in found]

    def log_tail(self, container: str, lines: int) -> str:
        """The last lines that a container wrote."""
        with _api_errors():
            raw: bytes = self._client.containers.get(container).logs(tail=lines)
        return raw.decode(errors="replace")

    def read_file(self, container: str, path: str) -> bytes | None:
        """What a file of a container holds, None when there is none."""
        with _api_errors():
            return _held(self._client.containers.get(container), path)

    def write_file(self, container: str, path: str, content: bytes) -> None:
        """Put a file that everybody may read into a container, in place of what is there."""
        folder, _, name = path.rpartition("/")
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as files:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            files.addfile(member, io.BytesIO(content))
        with _api_errors():
            self._client.containers.get(container).put_archive(folder, archive.getvalue())

    def signal(self, container: str, name: str) -> None:
        """Send a signal to a container that runs."""
        with _api_errors():
            self._client.containers.get(container).kill(name)

    def remove_containers(self, containers: Sequence[str]) -> None:
        """Stop containers, all at once, each within its own grace period, and remove them."""
        with ThreadPoolExecutor(max_workers=max(1, len(containers))) as pool:
            list(pool.map(self._remove_container, containers))

    def _remove_container(self, identifier: str) -> None:
        with _api_errors():
            try:
                container = self._client.containers.get(identifier)
                grace_s = container.attrs["Config"].get("StopTimeout") or _GRACE_S
                # The API's own answer may come later than the time that its client has for one.
                self._client.api.stop(identifier, timeout=grace_s)
                container.remove(force=True)
            except docker.errors.NotFound:
                return  # somebody else removed it

    def ensure_network(self, name: str) -> None:
        """Have a network of this name."""
        with _api_errors():
            # The engine finds all whose names hold this one.
            if not any(network.name == name for network in self._client.networks.list(names=[name])):
                self._client.networks.create(name, driver="bridge", check_duplicate=True)

    def compose(self, folder: Path, *arguments: str) -> None:
        """Run `docker compose` in a folder; its progress is shown only when it fails."""
        command = [*self._docker, "compose", "--progress", "plain", *arguments]
        try:
            result = subprocess.run(
                command,
                cwd=folder,
                env=compose_environment(folder, os.environ),
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise _no_command() from None
        if result.returncode != 0:
            message, hint = compose_failure(result.stderr)
            raise EngineError(message, hint=hint, details=result.stderr)

    def show(self, folder: Path, *arguments: str) -> None:
        """Run `docker compose` in a folder, all that it writes going where this process writes."""
        command = [*self._docker, "compose", *arguments]
        sys.stdout.flush()
        try:
            environ = compose_environment(folder, os.environ)
            code = subprocess.run(command, cwd=folder, env=environ, check=False).returncode
        except FileNotFoundError:
            raise _no_command() from None
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        if code != 0:
            raise EngineError(f"`docker compose {' '.join(arguments)}` ended with {code}")

    @cached_property
    def _client(self) -> docker.DockerClient:
        with _api_errors():
            context: Context | None = None
            if self._context is not None:
                context = _named_context(self._context)
            elif not os.environ.get("DOCKER_HOST"):
                # DOCKER_HOST wins over the current context, as it does for the `docker` command.
                context = ContextAPI.get_current_context()
            if context is None or context.Host is None or context.name == "default":
                return docker.from_env()
            return docker.DockerClient(
                base_url=context.Host, tls=context.TLSConfig or False, use_ssh_client=True
            )

    def _plugin_version(self, plugin: str) -> Version | None:
        try:
            result = subprocess.run(
                [*self._docker, plugin, "version"], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            raise _no_command() from None
        return version_in(result.stdout) if result.returncode == 0 else None


def _named_context(name: str) -> Context:
    known = [context.name for context in ContextAPI.contexts()]
    if name not in known:
        raise EngineError(
            f"`docker` has no context {name!r}{nearest(name, known, 'contexts')}",
            hint=f"docker context create {name} --docker host=ssh://USER@HOST",
        )
    return ContextAPI.get_context(name)


def _pushed_digest(reference: str, digests: Sequence[str]) -> str | None:
    """The digest under which the registry of a reference holds the image."""
    repository = reference.rpartition(":")[0]
    return next((d.rpartition("@")[2] for d in digests if d.rpartition("@")[0] == repository), None)


def compose_environment(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """What Compose may take from a caller's shell: not which files it reads, nor what the folder says."""
    try:
        text = (folder / ".env").read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    own = set(re.findall(r"^([A-Za-z0-9_]+)=", text, re.MULTILINE))
    return {key: value for key, value in environ.items() if key not in own and not key.startswith("COMPOSE_")}


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


def _held(container: DockerContainer, path: str) -> bytes | None:
    """What a file of a container holds, None when there is none."""
    try:
        chunks, _ = container.get_archive(path)
    except docker.errors.NotFound:
        return None
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as files:
        member = files.next()
        held = files.extractfile(member) if member is not None else None
        return held.read() if held is not None else None


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
