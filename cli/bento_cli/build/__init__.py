"""Project → build plan: read and decided, with nothing of the project imported or run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from bento_cli.arguments import Arguments
from bento_cli.errors import BentoError, InputError, Problem, nearest
from bento_cli.image import ImageSpec, cuda_problem, plan_image
from bento_cli.image.declared import DeclaredImage, declared_image, unused_notes
from bento_cli.lock import Lock
from bento_cli.lock.uv import variables_in
from bento_cli.names import snake_case
from bento_cli.project.bentofile import FILE_NAME, Bentofile, ServiceBuild, read_bentofile
from bento_cli.project.discovery import Discovery, DiscoveryError, discover, discover_unimported
from bento_cli.project.files import IGNORE_FILE, project_files
from bento_cli.project.models import Models, service_models
from bento_cli.project.pyproject import BUILD_TABLE, PYPROJECT, has_build_table
from bento_cli.project.signatures import contract_digest, signatures
from bento_cli.project.slicing import Slice, slice_service
from bento_cli.project.source import Project
from bento_cli.requirements import (
    Override,
    Requirements,
    absent_modules,
    assign,
    runtime_requirements,
    service_overrides,
    with_image,
)
from bento_cli.requirements.forms import WHEELS_FOLDER, build_packages
from bento_cli.requirements.lists import Listed, image_requirements, project_requirements, with_images
from bento_cli.yaml_file import YamlFile, validate, without_problems
from bento_templates import TemplateValueError, label_key, one_line
from bentoml._config import ServiceConfig, not_used_note
from bentoml._environment import DEFAULT_PORT, arguments_text, deployment_variable
from bentoml._graph import ServiceGraph
from bentoml.images import Image

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """Everything that a Bento is made of, decided and not yet written.

    Args:
        file: what says how the project is built.
        listed: what the project lists, and `overrides` what it says of single services' packages.
        files: the project's files, relative to `root`.
        images: what each service's image holds, dependencies first.
        signatures: of each service's endpoints, as they are written, and `contracts` what stands for them.
        notes: what a person should know and that stops nothing.
        container_notes: the same of services in containers; those that run on this machine say it themselves.
        locks: of the services; none where versions are chosen when the images are built.
    """

    root: Path
    name: str
    file: YamlFile
    bentofile: Bentofile
    discovery: Discovery
    configs: Mapping[str, ServiceConfig]
    slices: Mapping[str, Slice]
    listed: Listed
    overrides: Mapping[str, Override]
    requirements: Requirements
    absent: Mapping[str, frozenset[str]]
    images: Mapping[str, ImageSpec]
    signatures: Mapping[str, Mapping[str, str]]
    contracts: Mapping[str, str]
    files: tuple[Path, ...]
    notes: tuple[str, ...]
    container_notes: tuple[str, ...]
    locks: Mapping[str, Lock] = field(default_factory=dict)

    @property
    def graph(self) -> ServiceGraph:
        return self.discovery.graph

    def declares_all(self, service: str) -> bool:
        """Whether the source says everything about a service's configuration."""
        return service not in self.discovery.computed


def plan_build(
    root: Path,
    *,
    file: YamlFile | None = None,
    name: str | None = None,
    labels: Mapping[str, str] | None = None,
    arguments: Arguments | None = None,
    leave_out: Sequence[Path] = (),
) -> BuildPlan:
    """Read a project and decide what its Bento holds.

    Args:
        file: what stands in place of the project's bentofile.
        name: of the Bento, over the bentofile's.
        labels: added to the bentofile's.
        arguments: added to the bentofile's `args`.
        leave_out: files of the project that are not part of it, such as a deployment's configuration.

    Raises:
        NotFoundError: there is no project.
        InputError: everything that is wrong with its files.
    """
    read = _read(root, file or read_bentofile(root), labels or {}, arguments or {})
    project, file, bentofile, discovery = read.project, read.file, read.bentofile, read.discovery
    listed, overrides, models = read.listed, read.overrides, read.models
    configs, graph = discovery.configs, discovery.graph
    slices = {node.name: slice_service(project, discovery, node.name) for node in graph}
    requirements = assign(listed.lines, list(slices.values()), overrides)
    absent = {
        name: absent_modules(part, requirements.by_service[name], overrides[name].exclude)
        for name, part in slices.items()
    }
    runtime = runtime_requirements()
    planned = {}
    for node in graph:
        held = requirements.by_service[node.name]
        image = plan_image(
            node,
            configs[node.name],
            bentofile,
            read.declared[node.name],
            requirements=held,
            index_options=listed.options,
            runtime=runtime,
            absent=absent[node.name],
            dependents=graph.dependents(node.name),
            declares_all=node.name not in discovery.computed,
        )
        image = _with_sources_of_packages(image, listed, held)
        planned[node.name] = image.with_models(
            models.by_service[node.name], asks_hub=node.name in models.asking_hub
        )
    others = {path.resolve() for path in leave_out}
    files = tuple(path for path in project_files(root, bentofile) if (root / path).resolve() not in others)
    missing = [*_missing_sources(root, slices, project, files), *_missing_wheels(listed, files)]
    if missing:
        raise InputError(missing)
    return BuildPlan(
        root=root,
        name=name or bentofile.name or snake_case(graph.entry),
        file=file,
        bentofile=bentofile,
        discovery=discovery,
        configs=configs,
        slices=slices,
        listed=listed,
        overrides=overrides,
        requirements=requirements,
        absent=absent,
        images=planned,
        signatures={name: signatures(project, found) for name, found in discovery.definitions.items()},
        contracts={name: contract_digest(project, found) for name, found in discovery.definitions.items()},
        files=files,
        notes=(
            *_passed_over(root, file),
            *map(str, discovery.unknown),
            *listed.notes,
            *requirements.notes,
            *models.notes,
        ),
        container_notes=(
            *_container_notes(graph, configs),
            *unused_notes(bentofile, has_gpu=any(image.gpus for image in planned.values())),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A project as its files say it: nothing of it is wrong, and nothing decided.

    Args:
        declared: what is said of each service's image.
    """

    project: Project
    file: YamlFile
    bentofile: Bentofile
    discovery: Discovery
    listed: Listed
    overrides: Mapping[str, Override]
    declared: Mapping[str, DeclaredImage]
    models: Models


def _read(root: Path, file: YamlFile, labels: Mapping[str, str], arguments: Arguments) -> _Read:
    """Read all of it; everything that is wrong is raised together."""
    for key, value in labels.items():
        _require_label(key, value)
    problems: list[Problem] = []
    said = _checked(file, problems)
    bentofile = Bentofile.model_validate({"service": "unknown", **said})
    bentofile = bentofile.model_copy(
        update={
            "labels": {**bentofile.labels, **labels},
            "args": {**bentofile.args, **arguments},
            "envs": (*bentofile.docker.env, *bentofile.envs),
        }
    )
    project = Project(root, bentofile.args)
    problems += _argument_problems(bentofile, file)
    discovery = _discovered(project, bentofile, file, problems) if "service" in said else None
    images = discovery.images if discovery else {}
    images_list = any(image.lists_packages for image in images.values())
    listed = _collected(
        problems, lambda: project_requirements(root, bentofile, file, images_list=images_list)
    )
    told, declared = _told(root, discovery, bentofile, file, problems) if discovery else ({}, {})
    if listed is not None:
        listed = _collected(problems, partial(with_images, listed, told))
    names = list(discovery.graph.services if discovery else bentofile.services)
    known = listed if said.get("python") == _data(file).get("python") else None
    overrides = _collected(problems, lambda: service_overrides(bentofile, file, names, known))
    models = _models(project, discovery, bentofile, file, problems) if discovery else None
    if problems or listed is None or discovery is None or overrides is None or models is None:
        raise InputError(dict.fromkeys(problems))
    # What an image lists that several services have is for all of them: each holds of it what it reaches.
    shared = {name for name, image in images.items() if [*images.values()].count(image) > 1}
    overrides = {
        name: own if name in shared else with_image(own, told[name]) for name, own in overrides.items()
    }
    if not all(image.locks_packages for image in declared.values()):
        python = bentofile.python.model_copy(update={"lock_packages": False})
        bentofile = bentofile.model_copy(update={"python": python})
    return _Read(
        project=project,
        file=file,
        bentofile=bentofile,
        discovery=discovery,
        listed=listed,
        overrides=overrides,
        declared=declared,
        models=models,
    )


def _with_sources_of_packages(image: ImageSpec, listed: Listed, held: Sequence[str]) -> ImageSpec:
    """The image with all that its packages are installed with, besides an index."""
    wheels = listed.wheels_of(held)
    return replace(
        image,
        secrets=variables_in((*listed.options, *held)),
        index_options=(*image.index_options, *([f"--find-links {WHEELS_FOLDER}"] if wheels else [])),
        wheels=tuple(path.as_posix() for path in wheels),
        build_packages=build_packages(held),
    )


def _passed_over(root: Path, file: YamlFile) -> Iterator[str]:
    """Of two files that may say how a project is built, the one that is not read."""
    if file.path.name == FILE_NAME and has_build_table(root):
        yield f"{FILE_NAME} is read, and `{BUILD_TABLE}` of {PYPROJECT} is not"


def _require_label(key: str, value: str) -> None:
    """Refuse a label of the command line that no image can carry."""
    try:
        label_key(key)
        one_line(value)
    except TemplateValueError as error:
        raise BentoError(f"label {key!r}: {error}") from None


def _checked(file: YamlFile, problems: list[Problem]) -> dict[str, object]:
    """What the bentofile says, without what is wrong with it: other files may have problems as well."""
    if _collected(problems, lambda: validate(file, Bentofile)) is not None:
        return _data(file)
    return _data(without_problems(file, Bentofile))


def _data(file: YamlFile) -> dict[str, object]:
    assert isinstance(file.data, dict)  # noqa: S101  # what a file is read as
    return file.data


def _argument_problems(bentofile: Bentofile, file: YamlFile) -> list[Problem]:
    """Arguments that are too many for the one variable that holds all of them."""
    try:
        one_line(arguments_text(bentofile.args))
    except TemplateValueError as error:
        return [file.problem(("args",), f"`args` as JSON: {error}")]
    return []


def _discovered(
    project: Project, bentofile: Bentofile, file: YamlFile, problems: list[Problem]
) -> Discovery | None:
    """The services; None when something is wrong with them, which is put to the other problems."""
    # A project is not imported for the sake of more problems.
    find = discover_unimported if problems else discover
    discovery: Discovery | None = None
    names: Sequence[str] | None = None
    try:
        discovery = find(project, bentofile.service, partial(file.problem, ("service",)))
        names = list(discovery.graph.services) if discovery else None
    except DiscoveryError as error:
        problems += error.problems
        names = error.services
    except InputError as error:
        problems += error.problems
    for name in bentofile.services:
        if names is not None and name not in names:
            message = f"no service {name!r}{nearest(name, names, 'services')}"
            problems.append(file.problem(("services", name), message))
    return discovery


def _told(
    root: Path, discovery: Discovery, bentofile: Bentofile, file: YamlFile, problems: list[Problem]
) -> tuple[dict[str, Listed], dict[str, DeclaredImage]]:
    """What `image=` of each service lists, and what is said of its image; problems are put to the others."""
    listed: dict[str, Listed] = {}
    declared: dict[str, DeclaredImage] = {}
    for node in discovery.graph:
        image = discovery.images.get(node.name)
        at = partial(discovery.problem, node.name)
        read = partial(image_requirements, root, image or Image(), f"`image` of {node.name}", at(""))
        listed[node.name] = _collected(problems, read) or Listed(lines=())
        say = partial(declared_image, root, node.name, bentofile, file, image, at)
        declared[node.name] = _collected(problems, say) or DeclaredImage()
        version = declared[node.name].cuda_version
        message = cuda_problem(version) if version is not None else None
        if message is not None:
            is_own = bentofile.services.get(node.name, ServiceBuild()).docker.cuda_version is not None
            location = (
                ("services", node.name, "docker", "cuda_version") if is_own else ("docker", "cuda_version")
            )
            problems.append(file.problem(location, f"`{'.'.join(location)}`: {message}"))
    return listed, declared


def _models(
    project: Project, discovery: Discovery, bentofile: Bentofile, file: YamlFile, problems: list[Problem]
) -> Models | None:
    find = partial(service_models, project, discovery.definitions, bentofile.models, file)
    return _collected(problems, find)


def _collected(problems: list[Problem], step: Callable[[], T]) -> T | None:
    """What a step gives; None when it finds problems, which are put to the others."""
    try:
        return step()
    except InputError as error:
        problems += error.problems
        return None


def _container_notes(graph: ServiceGraph, configs: Mapping[str, ServiceConfig]) -> Iterator[str]:
    """What services declare that has no effect in a container, another one, or one that needs a variable."""
    for node in graph:
        without_effect = not_used_note(node.name, node.config)
        if without_effect is not None:
            yield without_effect
        for edge in node.dependencies:
            if edge.deployment is not None:
                variable = deployment_variable(edge.deployment, edge.cluster)
                yield f"{node.name}.{edge.attribute}, the deployment {edge}, is found where {variable} says"
        config = configs[node.name]
        if config.http.port != DEFAULT_PORT:
            yield (
                f"`http.port` of {node.name} is {config.http.port}: in its container it listens on "
                f"{DEFAULT_PORT}, as all services do; `ports` of its compose file publish another one"
            )
        if config.ssl.enabled and node.name != graph.entry:
            yield f"`ssl` of {node.name}: services call each other without TLS, and only the entry speaks it"


def _missing_wheels(listed: Listed, files: Sequence[Path]) -> Iterator[Problem]:
    """Wheels that are required, and that `include` or an ignore rule leaves out of the Bento."""
    for line in listed.lines:
        if line.wheel is not None and line.wheel not in files and line.place is not None:
            why = "`include`, `exclude` or an ignore rule leaves it out"
            yield replace(line.place, message=f"{line.wheel.as_posix()} is no part of the Bento: {why}")


def _missing_sources(
    root: Path, slices: Mapping[str, Slice], project: Project, files: Sequence[Path]
) -> list[Problem]:
    """Modules that a service loads and that `include` or an ignore rule leaves out of the Bento."""
    included = {root / path for path in files}
    missing = {}
    for part in slices.values():
        for name in part.modules:
            module = project.module(name)
            if module is not None and module.path not in included:
                message = (
                    f"{part.service} loads this file, and it is no part of the Bento: `include` or "
                    f"`exclude` of {FILE_NAME} or a {IGNORE_FILE} leaves it out, or it is a link"
                )
                missing[module.path] = Problem(module.path, None, message)
    return list(missing.values())
