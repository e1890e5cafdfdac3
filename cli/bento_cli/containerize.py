"""Bento → images: one for each service, all built in one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bento_cli.bento import Bento
from bento_cli.engine import Engine, Image, ImageBuild, Progress
from bento_cli.errors import EngineError


@dataclass(frozen=True)
class ServiceImage:
    """The image of one service."""

    service: str
    image: Image


def plan_images(bento: Bento) -> list[ImageBuild]:
    """One build for each service, dependencies first."""
    return [
        ImageBuild(
            name=node.name,
            context=bento.path,
            dockerfile=f"services/{node.name}/Dockerfile",
            tags=(bento.tag.image(node.name),),
        )
        for node in bento.graph
    ]


def containerize(bento: Bento, engine: Engine, progress: Progress) -> list[ServiceImage]:
    """Build the images that the Bento's services run as.

    Raises:
        EngineError: a step failed; holds its output.
    """
    builds = plan_images(bento)
    engine.build(builds, progress)
    return list(_built(builds, engine))


def _built(builds: Sequence[ImageBuild], engine: Engine) -> Sequence[ServiceImage]:
    found = []
    for build in builds:
        image = engine.image(build.tags[0])
        if image is None:
            raise EngineError(
                f"{build.tags[0]} was built and is not there", hint="does the builder load its images?"
            )
        found.append(ServiceImage(build.name, image))
    return found
