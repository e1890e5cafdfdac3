"""Names that a service and a Bento have elsewhere: image references, compose services, files."""

from __future__ import annotations

import re
from typing import Final

# One path component of an image reference, as the OCI distribution specification has it, and a tag.
_REPOSITORY: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_IMAGE_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def words(name: str) -> list[str]:
    """The words of a name in CamelCase or any other: `SDXLControlNet` → `sdxl`, `control`, `net`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return [word.lower() for word in re.split(r"[^A-Za-z0-9]+", spaced) if word]


def kebab_case(name: str) -> str:
    """`SDXLControlNetService` → `sdxl-control-net-service`."""
    return "-".join(words(name))


def snake_case(name: str) -> str:
    """`ControlNet` → `control_net`."""
    return "_".join(words(name))


def is_repository(text: str) -> bool:
    """Whether `text` is valid as one component of an image's name."""
    return _REPOSITORY.fullmatch(text) is not None


def is_image_tag(text: str) -> bool:
    """Whether `text` is valid behind the colon of an image reference."""
    return _IMAGE_TAG.fullmatch(text) is not None
