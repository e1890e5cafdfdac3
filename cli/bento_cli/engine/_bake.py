"""One bake of several images: the file that asks for it, and what BuildKit says while it goes on."""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import re
import textwrap
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bento_cli.engine import BuildOptions, BuildProgress, Built, ImageBuild

# Of a step that failed, and of what the builder says outside of steps.
_KEPT_LINES: Final = 200


def targets(images: Sequence[ImageBuild]) -> dict[str, ImageBuild]:
    """The images by the name of their target: of characters that any version of the builder takes."""
    return {f"image-{index}": image for index, image in enumerate(images)}


def bake_file(images: Sequence[ImageBuild]) -> str:
    """What a bake reads: JSON, in which each value is data but for `${}`, which is doubled."""
    described = {
        name: {
            "context": str(image.context),
            "dockerfile": image.dockerfile,
            "tags": list(image.tags),
            "labels": dict(image.labels),
            "args": dict(image.arguments),
            "contexts": {old: f"docker-image://{new}" for old, new in image.base_images.items()},
            "secret": [f"id={secret},env={secret}" for secret in image.secrets],
        }
        for name, image in targets(images).items()
    }
    return json.dumps({"group": {"default": {"targets": list(described)}}, "target": _literal(described)})


def bake_arguments(options: BuildOptions) -> list[str]:
    """The options of `docker buildx bake` that say how."""
    arguments = ["--push" if options.push else "--load"]
    if options.platforms:
        arguments.append(f"--set=*.platform={','.join(options.platforms)}")
    if not options.use_cache:
        arguments.append("--no-cache")
    if options.pull:
        arguments.append("--pull")
    for name, value in (("sbom", options.sbom), ("provenance", options.provenance)):
        if value is not None:
            arguments.append(f"--{name}={value}")
    return arguments


def _literal(value: object) -> object:
    """The value, written so that bake, which reads texts as templates of HCL, takes each as it is."""
    match value:
        case str():
            return value.replace("${", "$${").replace("%{", "%%{")
        case dict():
            return {_literal(key): _literal(item) for key, item in value.items()}
        case list():
            return [_literal(item) for item in value]
        case _:
            return value


@dataclass
class _Step:
    """A vertex of BuildKit's graph that belongs to an image."""

    image: str
    text: str
    started: datetime.datetime | None = None
    is_done: bool = False
    output: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))


class BakeLog:
    """What `--progress rawjson` says, line by line, told to a `BuildProgress` and kept for a failure."""

    def __init__(self, images: Mapping[str, ImageBuild], progress: BuildProgress) -> None:
        self._names = {target: image.name for target, image in images.items()}
        self._progress = progress
        self._steps: dict[str, _Step] = {}
        self._failed: dict[str, _Step] = {}
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)
        self._started: dict[str, datetime.datetime] = {}
        self._seconds: dict[str, float] = {}
        self._with_work: set[str] = set()

    def read(self, line: str) -> None:
        """Take one line of the builder's output."""
        try:
            event = json.loads(line) if line.startswith("{") else None
        except json.JSONDecodeError:
            event = None
        if not isinstance(event, dict):
            self._said.append(line.rstrip("\n"))
            return
        for vertex in event.get("vertexes") or ():
            self._vertex(vertex)
        for log in event.get("logs") or ():
            self._output(log)

    def failure(self) -> str:
        """The steps that failed with what they wrote, and what the builder says of them."""
        lines: list[str] = []
        for step in self._failed.values():
            lines += [f"{step.image}: {step.text}", *(f"  {line}" for line in step.output)]
        return "\n".join([*lines, *map(self._with_names, self._said)])

    def built(self, digests: Mapping[str, str]) -> dict[str, Built]:
        """How the builds went, by the images' names.

        Args:
            digests: of the images, by the names of their targets.
        """
        return {
            name: Built(
                digest=digests.get(target, ""),
                seconds=self._seconds.get(name, 0),
                is_cached=name not in self._with_work,
            )
            for target, name in self._names.items()
        }

    def _vertex(self, vertex: Mapping[str, Any]) -> None:
        named = re.fullmatch(r"(?:\[([^\]]*)\] )?(.*)", str(vertex.get("name")), re.DOTALL)
        place = (named[1] or "").split() if named else []
        image = self._image_at(place)
        is_export = named is not None and named[2].startswith("exporting to ")
        if named is None or image is None or not (is_export or _is_step(place)):
            return
        started, completed = _time(vertex.get("started")), _time(vertex.get("completed"))
        step = self._steps.setdefault(vertex["digest"], _Step(image, shortened(named[2])))
        if vertex.get("error"):
            # One that was only stopped, because another failed, is none of the reasons.
            if "context canceled" not in str(vertex["error"]):
                self._failed.setdefault(vertex["digest"], step)
            return
        if started is None:
            return
        self._started[image] = min(started, self._started.get(image, started))
        if step.started is None and not vertex.get("cached"):
            step.started = started
            self._progress.step(step.image, step.text)
        if completed is None or step.is_done:
            return
        step.is_done = True
        if is_export:
            self._seconds[image] = (completed - self._started[image]).total_seconds()
            self._progress.done(image, self._seconds[image])
        elif not vertex.get("cached") and not named[2].startswith("FROM "):
            self._with_work.add(image)
            self._progress.step_done(step.image, step.text, (completed - started).total_seconds())

    def _image_at(self, place: Sequence[str]) -> str | None:
        """The image that the words before a step speak of; they do not name it where it is the only one."""
        if len(self._names) == 1:
            return next(iter(self._names.values()))
        return self._names.get(place[0]) if place else None

    def _output(self, log: Mapping[str, Any]) -> None:
        step = self._steps.get(str(log.get("vertex")))
        if step is None:
            return
        for line in _decoded(log.get("data")).splitlines():
            step.output.append(line)
            self._progress.output(step.image, line)

    def _with_names(self, line: str) -> str:
        return re.sub(r"\bimage-\d+\b", lambda found: self._names.get(found[0], found[0]), line)


def _is_step(place: Sequence[str]) -> bool:
    """Whether words such as `image-0 packages 2/3` stand before an instruction."""
    return bool(place) and re.fullmatch(r"\d+/\d+", place[-1]) is not None


def digests(metadata: str) -> dict[str, str]:
    """The images' digests in what a bake writes with `--metadata-file`, by the names of their targets."""
    found = json.loads(metadata or "{}")
    return dict(_digests(found)) if isinstance(found, dict) else {}


def _digests(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for target, described in metadata.items():
        if isinstance(described, dict) and "containerimage.digest" in described:
            yield target, str(described["containerimage.digest"])


def shortened(step: str) -> str:
    """A step on one line of a terminal: its commands without mounts and what follows the first ones."""
    words = [word for word in step.split() if not word.startswith("--mount=")]
    return textwrap.shorten(" ".join(words), width=90, placeholder=" …")


def _time(text: object) -> datetime.datetime | None:
    """A time of the log: RFC 3339 with up to nine digits, of which Python takes six."""
    if not isinstance(text, str):
        return None
    match = re.fullmatch(r"(.{19})(\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if match is None:
        return None
    fraction = (match[2] or ".0")[1:7].ljust(6, "0")
    return datetime.datetime.fromisoformat(f"{match[1]}.{fraction}{match[3].replace('Z', '+00:00')}")


def _decoded(data: object) -> str:
    try:
        return base64.b64decode(str(data)).decode(errors="replace")
    except binascii.Error:
        return ""
