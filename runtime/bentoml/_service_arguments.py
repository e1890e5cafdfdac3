"""What `@bentoml.service` is given besides the configuration, checked where it is written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

_ENV_KEYS: Final = ("name", "value", "stage")
_STAGES: Final = ("all", "build", "runtime")


def checked_envs(service: str, envs: Sequence[Mapping[str, str]]) -> tuple[dict[str, str], ...]:
    """The variables that a service needs; a key that is `None` is as good as none.

    Raises:
        ValueError: names every entry that is none, by its index.
    """
    _must_be_sequence(service, "envs", envs, of="mappings")
    problems = [f"`envs[{index}]`: {text}" for index, env in enumerate(envs) for text in _env_problems(env)]
    _raise(service, problems)
    return tuple({key: text for key, text in env.items() if text is not None} for env in envs)


def checked_labels(service: str, labels: object) -> dict[str, str]:
    """The labels of a service's images.

    Raises:
        ValueError: names every one that is no text.
    """
    if not isinstance(labels, Mapping):
        raise ValueError(f"{service}: `labels`: expected a mapping of names to texts, found {labels!r}")
    texts = {name: text for name, text in labels.items() if isinstance(name, str) and isinstance(text, str)}
    others = [
        f"`labels`: expected a text for each name, found {name!r}: {text!r}"
        for name, text in labels.items()
        if name not in texts
    ]
    _raise(service, others)
    return texts


def checked_command(service: str, command: Sequence[str]) -> tuple[str, ...]:
    """The command of an external HTTP server, a word for each of its arguments.

    Raises:
        ValueError: it is no list of words, or empty.
    """
    _must_be_sequence(service, "cmd", command, of="words")
    if not command or not all(isinstance(word, str) for word in command):
        _raise(service, [f"`cmd`: expected a list of words, found {command!r}"])
    return tuple(command)


def _env_problems(env: object) -> Iterator[str]:
    if not isinstance(env, Mapping):
        yield f'expected a mapping such as {{"name": "HF_TOKEN"}}, found {env!r}'
        return
    for key in env:
        if key not in _ENV_KEYS:
            near = difflib.get_close_matches(str(key), _ENV_KEYS, n=1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`?" if near else f"expected {', '.join(_ENV_KEYS)}"
            yield f"unknown key `{key}`, {hint}"
    name, text, stage = env.get("name"), env.get("value"), env.get("stage")
    if name is None:
        yield "needs a `name`"
    elif not isinstance(name, str) or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
        yield f"`name`: expected letters, digits and `_`, no digit first, found {name!r}"
    if text is not None and not isinstance(text, str):
        yield f"`value`: expected a text, found a value of type {type(text).__name__}"
    if stage is not None and stage not in _STAGES:
        yield f"`stage`: expected one of {', '.join(_STAGES)}, found {stage!r}"


def _must_be_sequence(service: str, argument: str, found: object, *, of: str) -> None:
    if isinstance(found, str) or not isinstance(found, Sequence):
        _raise(service, [f"`{argument}`: expected a list of {of}, found {found!r}"])


def _raise(service: str, problems: Sequence[str]) -> None:
    if len(problems) == 1:
        raise ValueError(f"{service}: {problems[0]}")
    if problems:
        raise ValueError("\n  ".join([f"{service}:", *problems]))
