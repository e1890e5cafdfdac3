"""What a service's decorator says, checked."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from bento_cli.errors import Problem
from bento_cli.project.bentofile import Env, LabelKey, OneLine
from bento_cli.project.definitions import Arguments, Definition, arguments_of
from bento_cli.project.literals import image
from bento_cli.project.source import Project
from bento_cli.yaml_file import in_words, location_of
from bentoml._config import ServiceConfig
from bentoml._config_problems import ConfigProblem, config_problems
from bentoml._environment import declared_text
from bentoml._layers import merge
from bentoml.exceptions import BentoMLConfigException
from bentoml.images import Image

_OWN_ARGUMENTS: Final = frozenset(
    {"name", "image", "description", "path_prefix", "envs", "labels", "cmd", "service_class"}
)
# Arguments that only the running service acts on: nobody needs to know them before.
_AT_RUN_TIME: Final = frozenset({"description", "path_prefix", "cmd", "service_class"})


def _path(text: str) -> str:
    if text and not text.startswith("/"):
        raise ValueError(f"{text!r}: expected a path that starts with `/`")
    return text


def _command(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words:
        raise ValueError("expected a program and its arguments")
    return words


class _Own(BaseModel):
    """What a decorator says beside the configuration."""

    model_config = ConfigDict(extra="ignore")

    name: str | None = None
    description: str | None = None
    path_prefix: Annotated[str, AfterValidator(_path)] | None = None
    envs: tuple[Env, ...] = ()
    labels: dict[LabelKey, OneLine] = {}
    cmd: Annotated[tuple[str, ...], AfterValidator(_command)] | None = None


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """One service's decorator, as far as the source says what it is given.

    Args:
        config: its configuration as it is written, and `checked` where nothing is wrong with it.
        image: what `image=` declares, where the source says so outright.
        problems: what does not fit.
        unknown: what nobody knows before the service starts.
        leaves_open: whether that is something of its configuration.
    """

    arguments: Arguments
    name: str
    description: str | None
    envs: tuple[Env, ...]
    labels: Mapping[str, str]
    config: Mapping[str, object]
    checked: ServiceConfig | None
    image: Image | None
    problems: tuple[Problem, ...]
    unknown: tuple[Problem, ...]
    leaves_open: bool


def declaration_of(project: Project, definition: Definition) -> Declaration:
    """What the decorator of a service says, with everything that is wrong with it."""
    reader = _Reader(project, arguments_of(project, definition))
    own = reader.own(definition.name)
    name = own.name or definition.name
    reader.note_computed(name)
    values = reader.arguments.values
    config = {key: value for key, value in values.items() if key not in _OWN_ARGUMENTS}
    return Declaration(
        arguments=reader.arguments,
        name=name,
        description=own.description,
        envs=own.envs,
        labels=own.labels,
        config=config,
        checked=reader.checked(name, config),
        image=reader.image(name),
        problems=tuple(reader.problems),
        unknown=tuple(reader.unknown),
        leaves_open=bool(reader.arguments.computed.keys() - _OWN_ARGUMENTS),
    )


def checked_config(config: Mapping[str, object]) -> tuple[ServiceConfig | None, list[ConfigProblem]]:
    """A configuration, or what is wrong with it."""
    try:
        checked = ServiceConfig.model_validate(merge(config))
    except ValidationError as error:
        return None, config_problems(error, ServiceConfig)
    try:
        declared_text("", config)
    except (TypeError, ValueError) as error:
        return None, [ConfigProblem((), f"its configuration cannot be written as JSON: {error}")]
    return checked, []


@dataclass
class _Reader:
    project: Project
    arguments: Arguments
    problems: list[Problem] = field(default_factory=list)
    unknown: list[Problem] = field(default_factory=list)

    def own(self, name: str) -> _Own:
        values = self.arguments.values
        try:
            return _Own.model_validate(values)
        except ValidationError as error:
            for item in error.errors():
                self._problem(location_of(item), name, in_words(item, _Own))
            wrong = {item["loc"][0] for item in error.errors()}
            return _Own.model_validate({key: value for key, value in values.items() if key not in wrong})

    def note_computed(self, name: str) -> None:
        """Say which arguments nobody knows before the service starts; its name cannot be one of them."""
        module = self.arguments.module
        for key, node in self.arguments.computed.items():
            if key == "name":
                message = f"`name` of {name} must be a literal: files and variables are named after it"
                self.problems.append(module.problem(node, message))
            elif key != "image" and key not in _AT_RUN_TIME:
                message = f"`{key}` of {name} is not known before the service starts"
                self.unknown.append(module.problem(node, message))

    def checked(self, name: str, config: Mapping[str, object]) -> ServiceConfig | None:
        checked, problems = checked_config(config)
        for problem in problems:
            self._problem(problem.location, name, problem.reason)
        return checked

    def image(self, name: str) -> Image | None:
        node = self.arguments.computed.get("image")
        if node is None:
            return None
        try:
            return image(self.project, self.arguments.module, node)
        except ValueError as error:
            message = f"`image` of {name} is not known before the service starts, as {error}: write it out"
            self.problems.append(self.arguments.module.problem(node, message))
            return None
        except (TypeError, BentoMLConfigException) as error:
            self.problems.append(self.arguments.module.problem(node, f"`image` of {name}: {error}"))
            return None

    def _problem(self, location: Sequence[str | int], name: str, reason: str) -> None:
        place = self.arguments.mark
        if location:
            place = _part_of(self.arguments.places[str(location[0])], location[1:])
            reason = f"`{'.'.join(map(str, location))}` of {name}: {reason}"
        else:
            reason = f"{name}: {reason}"
        self.problems.append(self.arguments.module.problem(place, reason))


def _part_of(node: ast.expr, location: Sequence[str | int]) -> ast.expr:
    """What stands at a location of a value, as far as the value is written out."""
    for part in location:
        found = next((value for key, value in _written(node) if key == part), None)
        if found is None:
            break
        node = found
    return node


def _written(node: ast.expr) -> Iterator[tuple[object, ast.expr]]:
    match node:
        case ast.Dict(keys=keys, values=values):
            yield from (
                (k.value, v) for k, v in zip(keys, values, strict=True) if isinstance(k, ast.Constant)
            )
        case ast.Call(func=ast.Name(id="dict"), keywords=keywords):
            yield from ((keyword.arg, keyword.value) for keyword in keywords)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            if not any(isinstance(item, ast.Starred) for item in items):
                yield from enumerate(items)
