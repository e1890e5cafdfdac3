"""The models of each service: those that its code names, and what the bentofile says of them."""

from __future__ import annotations

import ast
import fnmatch
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from bento_cli.errors import InputError, Problem, nearest
from bento_cli.project.bentofile import (
    FILE_NAME,
    ModelEntry,
    ModelStage,
    ModelTagText,
    OneLine,
    hub_model_id,
    hub_revision,
)
from bento_cli.project.definitions import Definition, definition_of, is_service, lineage, own_code
from bento_cli.project.literals import literal
from bento_cli.project.source import Module, Project, Symbol
from bento_cli.yaml_file import YamlFile, in_words
from bentoml._environment import ModelPlace
from bentoml._model_store import ModelTag

FOLDER: Final = "/opt/bento/models"
"""Where an image has its models."""

HUB_VARIABLES: Final = ("HF_TOKEN", "HF_ENDPOINT")
"""What whoever builds may say of the hub: who they are, and where it is."""

HUB_CLIENT: Final = "huggingface-hub>=0.25"

_PARAMETERS: Final = {
    "bentoml.models.HuggingFaceModel": ("model_id", "revision", "endpoint", "include", "exclude"),
    "bentoml.models.BentoModel": ("tag",),
    "bentoml.models.get": ("tag",),
}


def is_commit(text: str) -> bool:
    """Whether a revision of the hub is a commit, which stays what it is."""
    return re.fullmatch(r"[0-9a-f]{40}", text) is not None


def _commit(text: str) -> str:
    if not is_commit(text):
        raise ValueError(f"{text!r}: expected a commit, 40 hexadecimal digits")
    return text


def _version(text: str) -> str:
    ModelTag.parse(f"name:{text}")
    return text


class HubModel(BaseModel):
    """A model of the Hugging Face hub.

    Args:
        include: patterns of the files to have; all when there are none.
        commit: what the revision was when the Bento was built; None where nobody could be asked.
        known_as: what code calls it besides, where the bentofile says another revision.
    """

    model_config = ConfigDict(frozen=True)

    model_id: Annotated[str, AfterValidator(hub_model_id)]
    revision: Annotated[str, AfterValidator(hub_revision)] = "main"
    commit: Annotated[str, AfterValidator(_commit)] | None = None
    endpoint: OneLine | None = None
    include: tuple[OneLine, ...] | None = None
    exclude: tuple[OneLine, ...] | None = None
    stage: ModelStage = "build"
    known_as: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the running service knows it by."""
        return f"{self.model_id}@{self.revision}"

    @property
    def pinned(self) -> str:
        """Its commit, where that is known."""
        return self.commit or self.revision

    def __str__(self) -> str:
        return f"{self.model_id} at {self.pinned}"

    @property
    def summary(self) -> str:
        """Which it is and when it comes, in a few words."""
        return f"{self.model_id} {self.pinned[:12]}{'' if self.stage == 'build' else ' at start'}"

    @property
    def folder(self) -> str:
        """Where an image has it."""
        parts = (self.model_id, self.pinned)
        return f"{FOLDER}/hub/" + "/".join(part.replace("/", "--") for part in parts)

    @property
    def is_of_hub(self) -> bool:
        return True

    @property
    def secrets(self) -> tuple[str, ...]:
        """Variables of whoever builds that its builder may read."""
        return HUB_VARIABLES

    @property
    def content(self) -> str:
        """What stands for its files among those of an image."""
        return self.request

    @property
    def request(self) -> str:
        """What `bentoml._fetch_model` is asked, as JSON."""
        asked = {
            "repo_id": self.model_id,
            "revision": self.pinned,
            "endpoint": self.endpoint,
            "allow_patterns": self.include,
            "ignore_patterns": self.exclude,
        }
        text = json.dumps({key: value for key, value in asked.items() if value is not None})
        # A Dockerfile takes `<<` for the beginning of a text that follows.
        return text.replace("<", "\\u003c")

    @property
    def places(self) -> dict[str, ModelPlace]:
        """Where the running service finds it, by the names that code calls it by."""
        is_held = self.stage == "build"
        return self.at(ModelPlace(path=self.folder) if is_held else ModelPlace(revision=self.pinned))

    def at(self, place: ModelPlace) -> dict[str, ModelPlace]:
        """A place by all names that code calls it by."""
        return dict.fromkeys((self.name, *self.known_as), place)


class LocalModel(BaseModel):
    """A model of the store of whoever builds.

    Args:
        version: the one that the store has for the tag; None while nobody has looked.
        digest: stands for its files.
        known_as: what code calls it besides.
    """

    model_config = ConfigDict(frozen=True)

    tag: ModelTagText
    version: Annotated[str, AfterValidator(_version)] | None = None
    digest: str | None = None
    stage: ModelStage = "build"
    known_as: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the running service knows it by."""
        return str(ModelTag.parse(self.tag))

    def __str__(self) -> str:
        return self.pinned

    @property
    def found(self) -> ModelTag:
        """Its tag with the version, where one is known."""
        tag = ModelTag.parse(self.tag)
        return ModelTag(tag.name, self.version or tag.version)

    @property
    def summary(self) -> str:
        """Which it is and when it comes, in a few words."""
        return f"{self.pinned}{'' if self.stage == 'build' else ' at start'}"

    @property
    def is_of_hub(self) -> bool:
        return False

    @property
    def pinned(self) -> str:
        """Its tag, with the version where one is known."""
        return str(self.found)

    @property
    def content(self) -> str:
        """What stands for its files among those of an image."""
        return self.path

    @property
    def path(self) -> str:
        """Where a Bento has it."""
        return f"models/{self.found.name}/{self.found.version or 'latest'}"

    @property
    def folder(self) -> str:
        """Where an image has it."""
        return f"{FOLDER}/store/{self.found.name}/{self.found.version or 'latest'}"

    @property
    def places(self) -> dict[str, ModelPlace]:
        """Where the running service finds it, by the names that code calls it by."""
        is_held = self.stage == "build"
        return self.at(ModelPlace(path=self.folder) if is_held else ModelPlace(revision=self.pinned))

    def at(self, place: ModelPlace) -> dict[str, ModelPlace]:
        """A place by all names that code calls it by."""
        return dict.fromkeys((self.name, self.pinned, *self.known_as), place)


ServiceModel: TypeAlias = HubModel | LocalModel


@dataclass(frozen=True, kw_only=True)
class Models:
    """The models of all services.

    Args:
        by_service: those that images hold, or services get when they start.
        asking_hub: services whose code names more of the hub than anybody can read from it.
        notes: what a person should know and that stops nothing.
    """

    by_service: Mapping[str, tuple[ServiceModel, ...]]
    asking_hub: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DeclaredModels:
    """What the code of one service says of its models.

    Args:
        named: the models, by what the code calls them.
        computed: a problem for each call whose model only the running service knows.
        asks_hub: whether one of these is of the hub.
    """

    named: Mapping[str, ServiceModel]
    computed: tuple[Problem, ...] = ()
    asks_hub: bool = False


def service_models(
    project: Project, definitions: Mapping[str, Definition], entries: Sequence[ModelEntry], file: YamlFile
) -> Models:
    """What the services' code and the bentofile say.

    Args:
        definitions: of the services, by name.
        entries: what `models` of the bentofile says.

    Raises:
        InputError: everything that is wrong with what names them.
    """
    declared: dict[str, DeclaredModels] = {}
    problems: list[Problem] = []
    for service, definition in definitions.items():
        try:
            declared[service] = declared_models(project, definition)
        except InputError as error:
            declared[service] = DeclaredModels(named={})
            problems += error.problems
    models, notes = _with_entries(declared, entries, file, problems)
    if problems:
        raise InputError(dict.fromkeys(problems))
    asking = (
        service
        for service, own in declared.items()
        if own.asks_hub
        and not any(models[service][name].is_of_hub for name in models[service].keys() - own.named.keys())
    )
    computed = dict.fromkeys(problem for own in declared.values() for problem in own.computed)
    return Models(
        by_service={service: tuple(own[name] for name in sorted(own)) for service, own in models.items()},
        asking_hub=frozenset(asking),
        notes=(*map(str, computed), *notes),
    )


def declared_models(project: Project, definition: Definition) -> DeclaredModels:
    """The models that a service's code names.

    Its code is its class, what that inherits, and whatever of the project these name.

    Raises:
        InputError: names that no model can have.
    """
    named: dict[str, ServiceModel] = {}
    computed: list[Problem] = []
    problems: list[Problem] = []
    asks_hub = False
    for module, call in _calls(project, definition):
        symbol = project.resolve(module, call.func)
        parameters = _PARAMETERS.get(symbol.dotted if symbol else "")
        if parameters is None:
            continue
        model_type = LocalModel if "tag" in parameters else HubModel
        try:
            model = model_type.model_validate(_given(project, module, call, parameters))
        except ValidationError as error:
            words = (in_words(item, model_type) for item in error.errors())
            problems += [module.problem(call, text) for text in words]
        except ValueError:
            asks_hub |= model_type is HubModel
            what = f"`{ast.unparse(call)}` is computed"
            text = f"{what}: no image holds that model, unless `models` of {FILE_NAME} names it"
            computed.append(module.problem(call, text))
        else:
            named[model.name] = _merged(named[model.name], model) if model.name in named else model
    if problems:
        raise InputError(problems)
    return DeclaredModels(named=named, computed=tuple(computed), asks_hub=asks_hub)


def _calls(project: Project, definition: Definition) -> Iterator[tuple[Module, ast.Call]]:
    """All calls in a service's code, each with the module that it stands in."""
    seen: set[Symbol] = set()
    waiting: list[tuple[Module, Iterable[ast.AST]]] = [
        (owner.module, own_code(project, owner)) for owner in lineage(project, definition)
    ]
    while waiting:
        module, nodes = waiting.pop()
        for node in nodes:
            if isinstance(node, ast.Call):
                yield module, node
            symbol = project.resolve(module, node) if isinstance(node, ast.Name | ast.Attribute) else None
            home = project.module(symbol.module) if symbol else None
            if symbol is None or home is None or symbol in seen:
                continue
            seen.add(symbol)
            other = definition_of(project, symbol)
            if other is None or not is_service(project, other):
                waiting += [(home, ast.walk(statement)) for statement in home.binding(symbol.name)]


def _given(project: Project, module: Module, call: ast.Call, parameters: Sequence[str]) -> dict[str, object]:
    """The arguments of a call that are there, by their names.

    Raises:
        ValueError: one of them is computed.
    """
    named = dict(zip(parameters, call.args, strict=False))
    named.update({keyword.arg or "**": keyword.value for keyword in call.keywords})
    given = {name: literal(project, module, node) for name, node in named.items()}
    if not given.keys() <= set(parameters):
        raise ValueError("takes other arguments")
    return {name: value for name, value in given.items() if value is not None}


def _merged(one: ServiceModel, other: ServiceModel) -> ServiceModel:
    """A model with the files of both, where two places of a service's code name one."""
    if not isinstance(one, HubModel) or not isinstance(other, HubModel):
        return one
    include = None
    if one.include is not None and other.include is not None:
        include = tuple(dict.fromkeys((*one.include, *other.include)))
    exclude = tuple(pattern for pattern in one.exclude or () if pattern in (other.exclude or ()))
    return one.model_copy(update={"include": include, "exclude": exclude or None})


def _with_entries(
    declared: Mapping[str, DeclaredModels],
    entries: Sequence[ModelEntry],
    file: YamlFile,
    problems: list[Problem],
) -> tuple[dict[str, dict[str, ServiceModel]], list[str]]:
    """The models of each service with what the bentofile says of them; and notes for a person.

    An entry is about every model that it fits, and later ones win. One that fits none is one more model: of
    the services that it names, else of those that compute which ones they have, else of all.
    """
    models = {service: dict(own.named) for service, own in declared.items()}
    computing = [service for service, own in declared.items() if own.computed]
    notes: list[str] = []
    for index, entry in enumerate(entries):
        at = ("models", str(index))
        unknown = [name for name in entry.services if name not in models]
        if unknown:
            text = f"no service {unknown[0]!r}{nearest(unknown[0], models, 'services')}"
            problems.append(file.problem((*at, "services"), text))
            continue
        fitting = [
            (service, model)
            for service in entry.services or models
            for model in models[service].values()
            if _fits(entry, model)
        ]
        for service, model in fitting:
            models[service][model.name] = _told(model, entry)
        if not fitting and entry.is_pattern:
            known = sorted({name for own in models.values() for name in own})
            text = f"no service has a model {entry}; there are: {', '.join(known) or 'none'}"
            problems.append(file.problem(at, text))
        elif not fitting:
            model = _new(entry)
            for service in entry.services or computing or models:
                models[service][model.name] = model
            if len(models) > 1 and not (entry.services or computing):
                what = f"no service's code names the model {entry}"
                notes.append(f"{what}: all have it; `services` beside it says who does")
    return models, notes


def _fits(entry: ModelEntry, model: ServiceModel) -> bool:
    if isinstance(model, HubModel):
        return entry.model_id is not None and (
            fnmatch.fnmatchcase(model.model_id, entry.model_id)
            and (entry.revision in (None, model.revision) or model.revision == "main")
        )
    tag = ModelTag.parse(model.tag)
    wanted = ModelTag.parse(entry.tag) if entry.tag is not None else None
    return (
        wanted is not None
        and tag.name == wanted.name
        and (None in (tag.version, wanted.version) or tag.version == wanted.version)
    )


def _told(model: ServiceModel, entry: ModelEntry) -> ServiceModel:
    """A model as an entry says that it is."""
    update: dict[str, object] = {"stage": entry.stage}
    if isinstance(model, HubModel) and entry.revision not in (None, model.revision):
        update |= {"revision": entry.revision, "known_as": (*model.known_as, model.name)}
    if isinstance(model, LocalModel) and entry.tag is not None:
        update["version"] = ModelTag.parse(entry.tag).version
    if entry.alias is not None:
        update["known_as"] = (*model.known_as, entry.alias)
    return model.model_copy(update=update)


def _new(entry: ModelEntry) -> ServiceModel:
    """A model that the bentofile alone names."""
    known_as = (entry.alias,) if entry.alias is not None else ()
    if entry.tag is not None:
        return LocalModel(tag=entry.tag, stage=entry.stage, known_as=known_as)
    assert entry.model_id is not None  # noqa: S101  # an entry has one of the two
    return HubModel(
        model_id=entry.model_id, revision=entry.revision or "main", stage=entry.stage, known_as=known_as
    )
