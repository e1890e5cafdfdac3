"""Project → Bento: read, decided and written, with nothing of the project imported or run."""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import bentoml
from bento_cli.bento import MANIFEST, Bento, Manifest, ManifestDependency, ManifestService, Tag, manifest_text
from bento_cli.bentofile import FILE_NAME, Bentofile, load_bentofile
from bento_cli.compose import (
    ComposeService,
    compose_files,
    peer_environment,
    reservations,
    whole_gpus,
)
from bento_cli.discovery import Discovery, discover
from bento_cli.errors import InputError, Problem
from bento_cli.image import LABEL_PREFIX, ImageSpec, plan_image
from bento_cli.names import kebab_case, snake_case
from bento_cli.project_files import project_files
from bento_cli.requirements import (
    Requirements,
    absent_modules,
    assign,
    project_requirements,
    runtime_requirements,
    service_requirements,
)
from bento_cli.slicing import Slice, slice_service
from bento_cli.source import Project
from bento_cli.store import Store
from bento_cli.yaml_file import YamlFile
from bento_templates import TemplateValueError, render
from bentoml._config import ServiceConfig, load_config
from bentoml._environment import BENTO
from bentoml._graph import ServiceGraph
from bentoml.exceptions import BentoMLConfigException

_VERSION_LENGTH = 16


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """Everything that a Bento is made of, decided and not yet written.

    Args:
        files: the project's files, relative to `root`.
        images: what each service's image holds, dependencies first.
        notes: what a person should know and that stops nothing.
    """

    root: Path
    name: str
    bentofile: Bentofile
    discovery: Discovery
    configs: Mapping[str, ServiceConfig]
    slices: Mapping[str, Slice]
    requirements: Requirements
    absent: Mapping[str, frozenset[str]]
    images: Mapping[str, ImageSpec]
    files: tuple[Path, ...]
    notes: tuple[str, ...]

    @property
    def graph(self) -> ServiceGraph:
        return self.discovery.graph

    def declares_all(self, service: str) -> bool:
        """Whether the source says everything about a service's configuration."""
        return _declares_all(self.discovery, service)


def plan_build(root: Path, *, name: str | None = None, labels: Mapping[str, str] | None = None) -> BuildPlan:
    """Read a project and decide what its Bento holds.

    Args:
        name: of the Bento, over the bentofile's.
        labels: added to the bentofile's.

    Raises:
        NotFoundError: there is no project.
        InputError: everything that is wrong with its files.
    """
    bentofile, file = load_bentofile(root)
    bentofile = bentofile.model_copy(update={"labels": {**bentofile.labels, **(labels or {})}})
    project = Project(root)
    discovery = discover(project, bentofile.service)
    graph = discovery.graph
    problems = [*_name_problems(discovery), *_service_section_problems(bentofile, file, graph)]
    configs, config_problems = _configs(discovery)
    problems += config_problems
    if problems:
        raise InputError(problems)
    slices = {node.name: slice_service(project, discovery, node.name) for node in graph}
    requirements = assign(
        project_requirements(root, bentofile, file),
        list(slices.values()),
        service_requirements(bentofile, file, list(slices)),
    )
    absent = {name: absent_modules(part, requirements.by_service[name]) for name, part in slices.items()}
    runtime = runtime_requirements()
    images = {
        node.name: plan_image(
            node,
            configs[node.name],
            bentofile,
            requirements=requirements.by_service[node.name],
            runtime=runtime,
            absent=absent[node.name],
            dependents=graph.dependents(node.name),
            declares_all=_declares_all(discovery, node.name),
        )
        for node in graph
    }
    files = tuple(project_files(root, bentofile))
    notes = [str(problem) for problem in discovery.unknown] + list(requirements.notes)
    missing = _missing_sources(root, slices, project, files)
    if missing:
        raise InputError(missing)
    return BuildPlan(
        root=root,
        name=name or bentofile.name or snake_case(graph.entry),
        bentofile=bentofile,
        discovery=discovery,
        configs=configs,
        slices=slices,
        requirements=requirements,
        absent=absent,
        images=images,
        files=files,
        notes=tuple(notes),
    )


def write_bento(plan: BuildPlan, store: Store, *, version: str | None = None) -> tuple[Bento, bool]:
    """Write the Bento and put it into the store; False when that version was there already.

    Args:
        version: of the Bento; derived from everything in it when not given, so that the same project
            gives the same Bento.

    Raises:
        BentoError: the name or the version cannot name an image.
    """
    Tag(plan.name, version or "derived")  # refused before anything is written
    with store.workspace() as folder:
        _copy_sources(plan, folder / "src")
        _copy_runtime(folder / "runtime")
        tag = Tag(plan.name, version or _content_version(plan, folder))
        for path, text in _rendered(plan, tag).items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        return store.add(folder)


def _declares_all(discovery: Discovery, service: str) -> bool:
    path = discovery.definitions[service].module.path
    return all(problem.path != path for problem in discovery.unknown)


def _configs(discovery: Discovery) -> tuple[dict[str, ServiceConfig], list[Problem]]:
    configs: dict[str, ServiceConfig] = {}
    problems: list[Problem] = []
    for node in discovery.graph:
        try:
            configs[node.name] = load_config(node.name, node.config)
        except BentoMLConfigException as error:
            definition = discovery.definitions[node.name]
            line = definition.node.decorator_list[0].lineno
            problems += [
                Problem(definition.module.path, line, f"{node.name}: {text.strip()}")
                for text in error.message.splitlines()[1:]
            ]
    return configs, problems


def _name_problems(discovery: Discovery) -> list[Problem]:
    """Services whose names cannot name a folder, or would name one container."""
    problems = []
    containers: dict[str, str] = {}
    for node in discovery.graph:
        definition = discovery.definitions[node.name]
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", node.name) is None or not kebab_case(node.name):
            message = f"{node.name!r} is no name of a service: use letters, digits, `_` and `-`"
            problems.append(Problem(definition.module.path, definition.node.lineno, message))
        first = containers.setdefault(kebab_case(node.name), node.name)
        if first != node.name:
            message = (
                f"{node.name!r} and {first!r} would share the image `{kebab_case(node.name)}`; rename one"
            )
            problems.append(Problem(definition.module.path, definition.node.lineno, message))
    return problems


def _service_section_problems(bentofile: Bentofile, file: YamlFile, graph: ServiceGraph) -> list[Problem]:
    known = ", ".join(graph.services)
    return [
        file.problem(("services", name), f"no service {name!r}; services: {known}")
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
                message = f"{part.service} loads this file, and `include` of {FILE_NAME} leaves it out"
                missing[module.path] = Problem(module.path, None, message)
    return list(missing.values())


def _copy_sources(plan: BuildPlan, target: Path) -> None:
    for path in plan.files:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(plan.root / path, target / path)
        # What a container's own user can read, whatever the umask of whoever builds.
        executable = (plan.root / path).stat().st_mode & 0o100
        (target / path).chmod(0o755 if executable else 0o644)


def _copy_runtime(target: Path) -> None:
    source = Path(bentoml.__file__).parent
    for path in sorted(source.rglob("*")):
        if path.suffix in (".py", ".typed") and path.is_file():
            copy = target / "bentoml" / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            copy.chmod(0o644)


def _content_version(plan: BuildPlan, folder: Path) -> str:
    """16 characters that stand for all that the Bento holds and says."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_mode:o} {content}\n".encode())
    for name, text in sorted(_rendered(plan, Tag(plan.name, "derived"), created="").items()):
        digest.update(f"{name} {hashlib.sha256(text.encode()).hexdigest()}\n".encode())
    return base64.b32encode(digest.digest()).decode().lower()[:_VERSION_LENGTH]


def _rendered(plan: BuildPlan, tag: Tag, *, created: str | None = None) -> dict[str, str]:
    """Every file of the Bento that is not copied, by its path."""
    if created is None:
        created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    manifest = _manifest(plan, tag, created)
    files = {MANIFEST: manifest_text(manifest), ".dockerignore": render("docker/dockerignore.j2")}
    for service, image in plan.images.items():
        folder = f"services/{service}"
        labelled = replace(image, labels={**image.labels, **_own_labels(tag, service)})
        try:
            text = render("docker/Dockerfile.j2", image=labelled, bento=str(tag), folder=folder)
        except TemplateValueError as error:
            raise InputError([Problem(plan.root / FILE_NAME, None, f"{service}: {error}")]) from None
        files[f"{folder}/Dockerfile"] = text
        files[f"{folder}/requirements.txt"] = "".join(f"{line}\n" for line in image.requirements)
    services = [_compose_service(plan, tag, node.name) for node in plan.graph]
    files.update(compose_files(str(tag), tag.name, plan.graph.entry, services))
    return files


def _own_labels(tag: Tag, service: str) -> dict[str, str]:
    return {
        "org.opencontainers.image.title": f"{tag.name}/{kebab_case(service)}",
        "org.opencontainers.image.version": tag.version,
        f"{LABEL_PREFIX}bento": str(tag),
        f"{LABEL_PREFIX}service": service,
    }


def _compose_service(plan: BuildPlan, tag: Tag, service: str) -> ComposeService:
    image, config = plan.images[service], plan.configs[service]
    return ComposeService(
        name=service,
        container=kebab_case(service),
        image=tag.image(service),
        is_entry=service == plan.graph.entry,
        peers=plan.graph.peers(service),
        environment={BENTO: str(tag), **peer_environment(plan.graph, service)},
        cache_folder=image.cache_folder if image.uses_model_hub else None,
        gpus=whole_gpus(config),
        reservations=reservations(config),
    )


def _manifest(plan: BuildPlan, tag: Tag, created: str) -> Manifest:
    services = []
    for node in plan.graph:
        image = plan.images[node.name]
        decisions = [d for d in plan.requirements.decisions if d.service == node.name and d.is_held]
        services.append(
            ManifestService(
                name=node.name,
                target=node.target,
                endpoints=node.endpoints,
                dependencies=tuple(ManifestDependency(**asdict(edge)) for edge in node.dependencies),
                config=dict(node.config),
                declares_all=plan.declares_all(node.name),
                envs=tuple(dict(env) for env in node.envs),
                absent_modules=tuple(sorted(plan.absent[node.name])),
                base_image=image.base_image,
                base_reason=image.base_reason,
                python_version=image.python_version,
                requirements={decision.requirement: decision.why for decision in decisions},
                uses_model_hub=image.uses_model_hub,
            )
        )
    return Manifest(
        service=plan.graph.services[plan.graph.entry].target,
        name=tag.name,
        version=tag.version,
        bentoml_version=bentoml.__version__,
        creation_time=created,
        description=plan.bentofile.description,
        labels=dict(plan.bentofile.labels),
        entry_service=plan.graph.entry,
        envs=tuple(env.model_dump() for env in plan.bentofile.envs),
        services=tuple(services),
    )
