"""podman, buildah and nerdctl: the same Dockerfiles, built one after the other."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bento_cli.engine import BuildOptions, BuildProgress, Built, EngineFacts, Image, ImageBuild
from bento_cli.engine._bake import shortened
from bento_cli.engine._failures import build_failure, push_hint
from bento_cli.engine._versions import Version, require_version, version_in
from bento_cli.errors import EngineError

_EPOCH: Final = "SOURCE_DATE_EPOCH"
_KEPT_LINES: Final = 200

# `STEP 2/6: RUN …`, and BuildKit's `#7 [packages 2/6] RUN …`.
_STEP: Final = re.compile(r"(?:(?:\[\d+/\d+\] )?STEP \d+/\d+: |#\d+ \[(?:[^\]]* )?\d+/\d+\] )(.*)")
_CACHED: Final = re.compile(r"--> Using cache |#\d+ CACHED$")


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program that builds images, and what sets it apart from the others.

    Args:
        build: its options beside those that all of them take.
        is_buildkit: whether it has BuildKit build; else an option tells it what times to write, not an
            argument of the build, and it knows no `--start-interval` of a HEALTHCHECK.
        inspect: what shows an image, before its name.
        runs: whether it makes containers, from which files can be copied; else it mounts images.
        least: the oldest version that takes all of it.
    """

    name: str
    build: tuple[str, ...]
    is_buildkit: bool
    inspect: tuple[str, ...]
    runs: bool
    least: Version


# In Docker's format an image may have a HEALTHCHECK, in OCI's it has none.
PODMAN: Final = Program(
    name="podman",
    build=("--format", "docker", "--layers"),
    is_buildkit=False,
    inspect=("image", "inspect"),
    runs=True,
    least=(4, 2),
)
BUILDAH: Final = Program(
    name="buildah",
    build=("--format", "docker", "--layers"),
    is_buildkit=False,
    inspect=("inspect", "--type", "image"),
    runs=False,
    least=(1, 27),
)
NERDCTL: Final = Program(
    name="nerdctl",
    build=("--progress", "plain"),
    is_buildkit=True,
    inspect=("image", "inspect"),
    runs=True,
    least=(1, 7),
)


class PlainBuilder:
    """A program that builds one image at a time."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def check(self) -> EngineFacts:
        """Find out, before anything is started, that the program is there and new enough."""
        name = self._program.name
        version = version_in(self._run("--version").stdout)
        require_version(name, version, self._program.least, install=_install_hint(name))
        return EngineFacts(version=".".join(map(str, version or ())), has_gpu=False)

    def build(
        self, images: Sequence[ImageBuild], progress: BuildProgress, options: BuildOptions
    ) -> dict[str, Built]:
        """Build the images in their order, and push each where that is asked for."""
        _require_plain(self._program, options)
        return {image.name: self._build_one(image, progress, options) for image in images}

    def image(self, reference: str) -> Image | None:
        """A built image, None when there is none."""
        result = self._run(*self._program.inspect, reference)
        return image_in(reference, result.stdout) if result.returncode == 0 else None

    def has_image(self, labels: Mapping[str, str]) -> bool:
        """Whether there is an image with these labels, whatever it is called."""
        filters = [f"--filter=label={name}={value}" for name, value in labels.items()]
        return bool(self._run("images", "--quiet", *filters).stdout.strip())

    def file(self, image: Image, path: str) -> bytes | None:
        """What a file of an image holds; None when there is none, or the user may not look into images."""
        with tempfile.TemporaryDirectory(prefix="bento-") as folder:
            if self._program.runs:
                found = Path(folder, "file")
                container = self._run("create", image.identifier).stdout.strip()
                self._run("cp", f"{container}:{path}", str(found))
            else:
                container = self._run("from", "--pull=never", image.identifier).stdout.strip()
                mounted = Path(self._run("mount", container).stdout.strip() or folder).resolve()
                found = (mounted / path.lstrip("/")).resolve()
                if not found.is_relative_to(mounted):
                    found = Path(folder, "none")
            try:
                return found.read_bytes() if found.is_file() else None
            finally:
                if container:
                    self._run("rm", container)

    def _build_one(self, image: ImageBuild, progress: BuildProgress, options: BuildOptions) -> Built:
        started = time.monotonic()
        log = StepLog(image.name, progress)
        with tempfile.TemporaryDirectory(prefix="bento-") as folder:
            identifier, pushed = Path(folder, "id"), Path(folder, "digest")
            dockerfile = image.context / image.dockerfile
            if not self._program.is_buildkit:
                dockerfile = Path(folder, "Dockerfile")
                text = (image.context / image.dockerfile).read_text(encoding="utf-8")
                dockerfile.write_text(without_start_interval(text), encoding="utf-8")
            arguments = build_arguments(self._program, image, options, dockerfile, identifier)
            with self._started(arguments) as process:
                assert process.stdout is not None  # noqa: S101  # it is a pipe
                for line in process.stdout:
                    log.read(line.rstrip("\n"))
            if process.returncode != 0:
                raise build_failure(log.text())
            log.done()
            for tag in image.tags if options.push else ():
                self._push(tag, pushed)
            digest = (pushed if pushed.is_file() else identifier).read_text(encoding="utf-8").strip()
        seconds = time.monotonic() - started
        progress.done(image.name, seconds)
        return Built(digest=digest, seconds=seconds, is_cached=log.is_cached)

    def _push(self, tag: str, digest: Path) -> None:
        """Push an image; what the registry calls it is in `digest` afterwards, where the program tells."""
        options = () if self._program.is_buildkit else ("--digestfile", str(digest))
        result = self._run("push", *options, tag)
        if result.returncode != 0:
            message = f"{self._program.name} could not push {tag}"
            raise EngineError(message, hint=push_hint(result.stderr), details=result.stderr)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [self._program.name, *arguments]
        try:
            return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        except FileNotFoundError:
            raise _no_command(self._program.name) from None

    @contextmanager
    def _started(self, arguments: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
        try:
            process = subprocess.Popen(
                [self._program.name, *arguments],
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except FileNotFoundError:
            raise _no_command(self._program.name) from None
        with process:
            try:
                yield process
            except BaseException:
                process.terminate()
                raise


def build_arguments(
    program: Program, image: ImageBuild, options: BuildOptions, dockerfile: Path, identifier: Path
) -> list[str]:
    """What a program is told to build an image.

    Args:
        dockerfile: the one to build, which may lie elsewhere than the image's own.
        identifier: where it writes what names the image.
    """
    given = dict(image.arguments)
    epoch = None if program.is_buildkit else given.pop(_EPOCH, None)
    arguments = ["build", *program.build, f"--file={dockerfile}", f"--iidfile={identifier}"]
    arguments += [f"--tag={tag}" for tag in image.tags]
    arguments += [f"--label={name}={value}" for name, value in image.labels.items()]
    arguments += [f"--build-arg={name}={value}" for name, value in given.items()]
    arguments += [f"--build-context={old}=docker-image://{new}" for old, new in image.base_images.items()]
    arguments += [f"--secret=id={name},env={name}" for name in image.secrets]
    arguments += [f"--platform={platform}" for platform in options.platforms]
    arguments += [f"--timestamp={epoch}"] if epoch is not None else []
    arguments += [] if options.use_cache else ["--no-cache"]
    # Left to themselves, some of them ask a registry for each base image that they have.
    arguments += [f"--pull={str(options.pull).lower()}"]
    return [*arguments, str(image.context)]


def without_start_interval(dockerfile: str) -> str:
    """The Dockerfile without what makes the first checks of a container's health frequent."""
    return re.sub(r"(?m)^(HEALTHCHECK .*?) --start-interval=\S+", r"\1", dockerfile)


def image_in(reference: str, inspected: str) -> Image | None:
    """The image that a program shows as JSON; None when it is none of ours."""
    try:
        shown = json.loads(inspected)
    except ValueError:
        return None
    found: dict[str, Any] = next(iter(shown), {}) if isinstance(shown, list) else shown
    # Of buildah's two, `Config` is a text.
    config = (found.get("Docker") or {}).get("config") or found.get("Config") or {}
    identifier = found.get("Id") or found.get("FromImageID")
    if not identifier:
        return None
    return Image(
        reference=reference,
        identifier=f"sha256:{str(identifier).removeprefix('sha256:')}",
        size=found.get("Size"),
        labels=config.get("Labels") or {},
    )


class StepLog:
    """What a build writes, line by line: told to a `BuildProgress`, and the last step kept for a failure."""

    def __init__(self, image: str, progress: BuildProgress) -> None:
        self._image = image
        self._progress = progress
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._step: str | None = None
        self._since = time.monotonic()
        self._steps = 0
        self._cached = 0

    def read(self, line: str) -> None:
        """Take one line."""
        step = _STEP.match(line)
        if step is not None:
            self.done()
            self._lines.clear()
            self._step = shortened(step[1])
            self._since = time.monotonic()
            self._steps += not step[1].startswith("FROM ")
            self._progress.step(self._image, self._step)
        elif _CACHED.match(line):
            self._cached += 1
            self._step = None
        else:
            self._progress.output(self._image, line)
        self._lines.append(line)

    def done(self) -> None:
        """The step before is over."""
        if self._step is not None:
            self._progress.step_done(self._image, self._step, time.monotonic() - self._since)
            self._step = None

    def text(self) -> str:
        """The last step, and what it wrote."""
        return "\n".join(self._lines)

    @property
    def is_cached(self) -> bool:
        """Whether every step had been done before."""
        return self._cached >= self._steps


def _require_plain(program: Program, options: BuildOptions) -> None:
    """Refuse what only BuildKit's bake does."""
    if len(options.platforms) > 1:
        raise EngineError(
            f"{program.name} builds for one platform at a time here",
            hint="give one `--platform`, or build with `--backend docker`",
        )
    if options.sbom is not None or options.provenance is not None:
        raise EngineError(
            f"{program.name} attests nothing: `--sbom` and `--provenance` go with `--backend docker`",
            hint="`bento get TAG --sbom SERVICE` prints what the lock of a service holds",
        )


def _no_command(name: str) -> EngineError:
    return EngineError(f"the `{name}` command is missing", hint=_install_hint(name))


def _install_hint(name: str) -> str:
    return f"install {name}, or build with another program: `--backend docker`"
