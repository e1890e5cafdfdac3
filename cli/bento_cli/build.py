"""Project → build plan: read and decided, with nothing of the project imported or run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from bento_cli.arguments import Arguments
from bento_cli.bentofile import FILE_NAME, Bentofile, ServiceBuild, is_service_string, read_bentofile
from bento_cli.discovery import Discovery, discover
from bento_cli.errors import BentoError, InputError, Problem, nearest
from bento_cli.image import ImageSpec, plan_image
from bento_cli.lock import Lock
from bento_cli.lock.uv import variables_in
from bento_cli.names import MAX_LENGTH, kebab_case, snake_case
from bento_cli.project_files import IGNORE_FILE, project_files
from bento_cli.pyproject import BUILD_TABLE, PYPROJECT, has_build_table
from bento_cli.requirements import (
    Listed,
    Override,
    Requirements,
    absent_modules,
    assign,
    project_requirements,
    runtime_requirements,
    service_overrides,
)
from bento_cli.slicing import Slice, slice_service
from bento_cli.source import Project
from bento_cli.yaml_file import YamlFile, validate
from bento_templates import TemplateValueError, label_key, one_line
from bentoml._config import ServiceConfig, load_config, not_used_note
from bentoml._environment import DEFAULT_PORT, arguments_text, declared_text, deployment_variable
from bentoml._graph import ServiceGraph
from bentoml.exceptions import BentoMLConfigException

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """Everything that a Bento is made of, decided and not yet written.

    Args:
        file: what says how the project is built.
        listed: what the project lists, and `overrides` what it says of single services' packages.
        files: the project's files, relative to `root`.
        images: what each service's image holds, dependencies first.
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
    for key, value in (labels or {}).items():
        _require_label(key, value)
    project = Project(root)
    file = file or read_bentofile(root)
    bentofile = _checked(file, project)
    bentofile = bentofile.model_copy(
        update={
            "labels": {**bentofile.labels, **(labels or {})},
            "args": {**bentofile.args, **(arguments or {})},
        }
    )
    problems = _argument_problems(bentofile, file)
    listed = _collected(problems, lambda: project_requirements(root, bentofile, file))
    discovery = _collected(problems, lambda: _discover(project, bentofile.service, file))
    configs: dict[str, ServiceConfig] = {}
    overrides: dict[str, Override] | None = None
    if discovery is not None:
        names = list(discovery.graph.services)
        problems += _name_problems(discovery)
        problems += _service_section_problems(bentofile, file, discovery.graph)
        configs, config_problems = _configs(discovery)
        problems += config_problems
        known = listed or Listed(lines=())
        overrides = _collected(problems, lambda: service_overrides(bentofile, file, names, known))
    if problems or listed is None or discovery is None or overrides is None:
        raise InputError(problems)
    graph = discovery.graph
    slices = {node.name: slice_service(project, discovery, node.name) for node in graph}
    requirements = assign(listed.lines, list(slices.values()), overrides)
    absent = {
        name: absent_modules(part, requirements.by_service[name], overrides[name].exclude)
        for name, part in slices.items()
    }
    runtime = runtime_requirements()
    images = {}
    for node in graph:
        held = requirements.by_service[node.name]
        image = plan_image(
            node,
            configs[node.name],
            _with_own_python(bentofile, node.name),
            requirements=held,
            index_options=listed.options,
            runtime=runtime,
            absent=absent[node.name],
            dependents=graph.dependents(node.name),
            declares_all=node.name not in discovery.computed,
        )
        images[node.name] = replace(image, secrets=variables_in((*listed.options, *held)))
    others = {path.resolve() for path in leave_out}
    files = tuple(path for path in project_files(root, bentofile) if (root / path).resolve() not in others)
    missing = _missing_sources(root, slices, project, files)
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
        images=images,
        files=files,
        notes=(
            *_passed_over(root, file),
            *map(str, discovery.unknown),
            *listed.notes,
            *requirements.notes,
        ),
        container_notes=tuple(_container_notes(graph, configs)),
    )


def _with_own_python(bentofile: Bentofile, service: str) -> Bentofile:
    """The bentofile as it is for one service, which may have another Python than the others."""
    version = bentofile.services.get(service, ServiceBuild()).python_version
    if version is None:
        return bentofile
    docker = bentofile.docker.model_copy(update={"python_version": version})
    return bentofile.model_copy(update={"docker": docker})


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


def _checked(file: YamlFile, project: Project) -> Bentofile:
    """The bentofile; when it has problems, with those of the services as well where it names them."""
    try:
        return validate(file, Bentofile)
    except InputError as error:
        problems = list(error.problems)
    service = file.data.get("service") if isinstance(file.data, dict) else None
    if isinstance(service, str) and is_service_string(service):
        _collected(problems, lambda: _discover(project, service, file))
    raise InputError(problems)


def _argument_problems(bentofile: Bentofile, file: YamlFile) -> list[Problem]:
    """Arguments that are too many for the one variable that holds all of them."""
    try:
        one_line(arguments_text(bentofile.args))
    except TemplateValueError as error:
        return [file.problem(("args",), f"`args` as JSON: {error}")]
    return []


def _discover(project: Project, service: str, file: YamlFile) -> Discovery:
    return discover(project, service, lambda message: file.problem(("service",), message))


def _collected(problems: list[Problem], step: Callable[[], T]) -> T | None:
    """What a step gives; None when it finds problems, which are put to the others."""
    try:
        return step()
    except InputError as error:
        problems += error.problems
        return None


def _configs(discovery: Discovery) -> tuple[dict[str, ServiceConfig], list[Problem]]:
    configs: dict[str, ServiceConfig] = {}
    problems: list[Problem] = []
    for node in discovery.graph:
        try:
            configs[node.name] = load_config(node.name, node.config)
        except BentoMLConfigException as error:
            problems += [
                discovery.problem(node.name, f"{node.name}: {text.strip()}")
                for text in error.message.splitlines()[1:]
            ]
        try:
            declared_text(node.name, node.config)
        except (TypeError, ValueError) as error:
            message = f"{node.name}: its configuration cannot be written as JSON: {error}"
            problems.append(discovery.problem(node.name, message))
    return configs, problems


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


def _name_problems(discovery: Discovery) -> list[Problem]:
    """Services whose names cannot name a folder, or would name one container."""
    problems = []
    containers: dict[str, str] = {}
    for node in discovery.graph:
        definition = discovery.definitions[node.name]
        container = kebab_case(node.name)
        first = containers.setdefault(container, node.name)
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", node.name) is None or not container:
            message = f"{node.name!r} is no name of a service: use letters, digits, `_` and `-`"
        elif len(container) > MAX_LENGTH:
            message = f"{container!r}, the name of its container, has more than {MAX_LENGTH} characters"
        elif first != node.name:
            message = f"{node.name!r} and {first!r} would share the image `{container}`; rename one"
        else:
            continue
        problems.append(definition.module.problem(definition.node, message))
    return problems


def _service_section_problems(bentofile: Bentofile, file: YamlFile, graph: ServiceGraph) -> list[Problem]:
    return [
        file.problem(("services", name), f"no service {name!r}{nearest(name, graph.services, 'services')}")
        for name in bentofile.services
        if name not in graph.services
    ]


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
