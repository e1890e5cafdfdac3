"""Names that a service and a Bento have elsewhere: image references, compose services, files."""

from __future__ import annotations

import re
from typing import Final

# Valid as one path component of an image reference, which may also repeat `_` and `-`.
_NAME: Final = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_VERSION: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
# Of a label in DNS, which a container's name is as well.
MAX_LENGTH: Final = 63
BENTO_NAME_RULE: Final = (
    f"at most {MAX_LENGTH} lower-case letters and digits, with single `.`, `_` or `-` between them"
)
BENTO_VERSION_RULE: Final = (
    f"at most {MAX_LENGTH} lower-case letters and digits, with `.`, `_` or `-` between them, not `latest`"
)


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


def compose_project(name: str) -> str:
    """A Bento's name as Compose allows it for a project: `my.bento` → `my-bento`."""
    return name.replace(".", "-")


def is_bento_name(text: str) -> bool:
    """Whether `text` can name a Bento, and so is valid as one component of an image's name."""
    return len(text) <= MAX_LENGTH and _NAME.fullmatch(text) is not None


def is_bento_version(text: str) -> bool:
    """Whether `text` can be a Bento's version: an image's tag, a folder's name, and no other word."""
    return len(text) <= MAX_LENGTH and _VERSION.fullmatch(text) is not None and text != "latest"
