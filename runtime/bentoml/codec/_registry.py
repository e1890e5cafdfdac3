"""Types that a project has taught the codec, by the names under which their values travel."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

_NAME: Final = re.compile(r"[A-Za-z][\w.:-]{0,63}", re.ASCII)


# Under which the codec's own types travel.
_TAKEN: Final = re.compile(r"exception|pandas\..*")


@dataclass(frozen=True)
class Registration:
    """How the values of one type travel.

    Attributes:
        encode: makes a value that a frame can carry of one of the type.
        decode: the reverse.
    """

    kind: type
    name: str
    encode: Callable[[Any], object]
    decode: Callable[[Any], object]


_by_kind: dict[type, Registration] = {}
_by_name: dict[str, Registration] = {}


def add(registration: Registration) -> None:
    """Raises ValueError where the name is none, or stands for another type."""
    name, kind = registration.name, registration.kind
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no name for a codec: letters, digits and `_.:-`, at most 64 of them")
    if _TAKEN.fullmatch(name):
        raise ValueError(f"the name {name!r} is taken by a type that travels anyhow")
    holder = _by_name.get(name)
    # A module that is loaded again makes its classes again, under their old names.
    if holder is not None and _full_name(holder.kind) != _full_name(kind):
        raise ValueError(f"the codec {name!r} is that of {_full_name(holder.kind)}")
    if holder is not None:
        del _by_kind[holder.kind]
    earlier = _by_kind.get(kind)
    if earlier is not None:
        del _by_name[earlier.name]
    _by_kind[kind] = _by_name[name] = registration


def named(name: str) -> Registration | None:
    """What a frame means by a name."""
    return _by_name.get(name)


def of_kind(kind: type) -> Registration | None:
    """How values of a type travel; those of its nearest base that is known where itself is not."""
    return next((_by_kind[base] for base in kind.__mro__ if base in _by_kind), None)


def names() -> list[str]:
    return sorted(_by_name)


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
