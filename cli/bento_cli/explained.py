"""Where each value of a service's configuration comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from bento_cli.errors import NotFoundError, nearest
from bentoml._config import load_config

DEFAULT: Final = "default"

# What is shown to more people than it is for.
_SECRET: Final = frozenset({"keyfile_password", "headers"})
_HIDDEN: Final = "********"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one place says of a service's configuration.

    Args:
        source: what people call the place; told which key is meant, as a file has a line for each.
    """

    source: Callable[[Sequence[str]], str]
    values: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Explained:
    """One value.

    Args:
        key: with dots, as `traffic.timeout`.
        value: what it comes to, as JSON has it.
        source: the place that has the last word on it.
        over: what other places say that it stands over, the nearest first.
    """

    key: str
    value: object
    source: str
    over: tuple[str, ...] = ()


def explain(service: str, layers: Sequence[Layer]) -> list[Explained]:
    """Every value of a configuration that layers add up to, each over the one before.

    Raises:
        BentoMLConfigException: names every value that is not valid.
    """
    config = load_config(service, *(layer.values for layer in layers))
    dumped = config.model_dump(mode="json")
    return [_explained(path, dumped, layers) for path in _paths(config)]


def below(values: Sequence[Explained], key: str) -> list[Explained]:
    """The value of a key, or those of a section.

    Raises:
        NotFoundError: there is neither; names the nearest.
    """
    found = [value for value in values if value.key == key or value.key.startswith(f"{key}.")]
    if not found:
        known = [value.key for value in values]
        sections = {name.rpartition(".")[0] for name in known} - {""}
        raise NotFoundError(f"no key {key!r}{nearest(key, [*known, *sorted(sections)], 'keys')}")
    return found


def _explained(path: tuple[str, ...], dumped: Mapping[str, object], layers: Sequence[Layer]) -> Explained:
    said = [layer.source(path) for layer in reversed(layers) if _says(layer.values, path)]
    value: object = dumped
    for part in path:
        value = value[part] if isinstance(value, Mapping) else None
    is_secret = bool(value) and not _SECRET.isdisjoint(path)
    return Explained(
        key=".".join(path),
        value=_HIDDEN if is_secret else value,
        source=said[0] if said else DEFAULT,
        over=tuple(said[1:]),
    )


def _says(values: object, path: Sequence[str]) -> bool:
    """Whether a layer has a word on a key: a section of None says that all of it is as by default."""
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
        if values is None:
            return True
    return True


def _paths(model: BaseModel, section: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _paths(value, (*section, name))
        else:
            yield (*section, name)
