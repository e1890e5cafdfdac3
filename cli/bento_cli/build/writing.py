"""Build plan → Bento: the files that it consists of, into the store."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import shutil
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Final

from bento_cli.build import BuildPlan
from bento_cli.compose import (
    ComposeService,
    compose_files,
    peer_environment,
    reservations,
    url_scheme,
    whole_gpus,
)
from bento_cli.errors import BentoError, NotFoundError
from bento_cli.image import LABEL_PREFIX, MODEL_STORE, USER, ImageSpec, tasks_folder
from bento_cli.image.sbom import SBOM_NAME, sbom
from bento_cli.lock import Lock, Package
from bento_cli.names import compose_project, kebab_case
from bento_cli.project.models import HUB_CLIENT, HUB_VARIABLES, LocalModel
from bento_cli.requirements.forms import WHEELS_FOLDER
from bento_cli.store import Store
from bento_cli.store.bento import (
    MANIFEST,
    Bento,
    Manifest,
    ManifestDependency,
    ManifestLock,
    ManifestService,
    Tag,
    manifest_text,
    seal,
)
from bento_cli.variables import open_variables
from bento_templates import TemplateValueError, render
from bento_templates.own_dockerfile import render_own
from bentoml._environment import BENTO, DEFAULT_PORT
from bentoml._graph import ServiceNode
from bentoml._model_store import ModelStore
from bentoml._version import __version__
from bentoml.exceptions import NotFound

_VERSION_LENGTH: Final = 16
_MAX_LABEL: Final = 4096


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
        for service, image in plan.images.items():
            _copy_build_files(plan, image, folder / "services" / service / "build")
        tag, files = _rendered(plan, folder, version)
        created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
        files[MANIFEST] = manifest_text(_manifest(plan, tag, created, ""))
        for name, text in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            target.chmod(0o644)
        seal(folder)
        # What stands for the models is in the manifest: nobody reads them once more.
        _put_models(plan, folder)
        for path in (path for path in folder.rglob("*") if path.is_dir()):
            # A container's own user goes through these, whatever the umask of whoever builds.
            path.chmod(0o755)
        return store.add(folder)


def _copy_sources(plan: BuildPlan, target: Path) -> None:
    for path in plan.files:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(plan.root / path, target / path)
        # What a container's own user can read, whatever the umask of whoever builds.
        executable = (plan.root / path).stat().st_mode & 0o100
        (target / path).chmod(0o755 if executable else 0o644)


def _copy_build_files(plan: BuildPlan, image: ImageSpec, target: Path) -> None:
    """What of the project is there while an image is made; all of it may be run."""
    for name in image.files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(plan.root / name, target / name)
        (target / name).chmod(0o755)


def _put_models(plan: BuildPlan, folder: Path) -> None:
    """Models of the store that images hold, as links to the store's own files where they can be."""
    store = ModelStore()
    held = {model.content: model for image in plan.images.values() for model in image.held_models}
    for model in (model for model in held.values() if isinstance(model, LocalModel) and model.version):
        try:
            shutil.copytree(store.get(model.found), folder / model.path, copy_function=_linked)
        except NotFound as error:
            raise NotFoundError(error.message) from None


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _copy_runtime(target: Path) -> None:
    source = Path(str(resources.files("bentoml")))
    for folder, _, names in os.walk(source):
        copies = target / "bentoml" / Path(folder).relative_to(source)
        for name in (name for name in names if name.endswith((".py", ".typed", ".html", ".css", ".js"))):
            copies.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(folder, name), copies / name)
            (copies / name).chmod(0o644)


def _rendered(plan: BuildPlan, folder: Path, version: str | None) -> tuple[Tag, dict[str, str]]:
    """The Bento's tag, whose version stands for all that it holds and says, and its files with it."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(os.fsencode(path.relative_to(folder)))
        digest.update(f" {path.stat().st_mode:o} {content}\n".encode())
    if version is not None:
        tag = Tag(plan.name, version)
        return tag, render_bento(plan, tag, created="", digest="")
    # Rendered once, with what no project can hold in the version's place: it stands for the project.
    preliminary = _characters(digest)
    files = render_bento(plan, Tag(plan.name, preliminary), created="", digest="")
    for name, text in sorted(files.items()):
        digest.update(f"{name} {hashlib.sha256(text.encode()).hexdigest()}\n".encode())
    tag = Tag(plan.name, _characters(digest)[:_VERSION_LENGTH])
    return tag, {name: text.replace(preliminary, tag.version) for name, text in files.items()}


def _characters(digest: hashlib._Hash) -> str:
    return base64.b32encode(digest.digest()).decode().lower().rstrip("=")


def render_bento(plan: BuildPlan, tag: Tag, *, created: str, digest: str) -> dict[str, str]:
    """Every file of the Bento that is not copied, by its path.

    Args:
        created: when it is made.
        digest: what stands for its content.
    """
    manifest = _manifest(plan, tag, created, digest)
    files = {MANIFEST: manifest_text(manifest), ".dockerignore": render("docker/dockerignore.j2")}
    for service, image in plan.images.items():
        folder = f"services/{service}"
        labelled = replace(image, labels={**image.labels, **_own_labels(plan, tag, service)})
        files[f"{folder}/Dockerfile"] = _dockerfile(labelled, bento=str(tag), folder=folder)
        files[f"{folder}/requirements.txt"] = _requirements_txt(plan, image)
        if service in plan.locks:
            files[f"{folder}/{SBOM_NAME}"] = sbom(
                tag, service, image.base_image, plan.locks[service].packages
            )
        if image.holds_hub_models:
            files[f"{folder}/hub.txt"] = _hub_txt(image)
    services = [_compose_service(plan, tag, node) for node in plan.graph]
    files.update(compose_files(str(tag), compose_project(tag.name), plan.graph.entry, services))
    return files


def _dockerfile(image: ImageSpec, **context: str) -> str:
    """What the image is made by: our own template, or the project's that extends it.

    Raises:
        BentoError: the project's cannot be rendered.
    """
    if image.template is None:
        return render("docker/Dockerfile.j2", image=image, **context)
    names = {
        "bento__base_image": image.base_image,
        "bento__home": image.home_folder,
        "bento__path": image.project_folder,
        "bento__python_version": image.python_version,
        "bento__uid_gid": f"{image.uid}:0",
        "bento__user": USER,
    }
    try:
        return render_own(image.template, names, image=image, **context)
    except TemplateValueError as error:
        raise BentoError(f"`dockerfile_template` of {image.service}: {error}") from None


def _requirements_txt(plan: BuildPlan, image: ImageSpec) -> str:
    """What is installed: the service's lock, or its requirements where there is none."""
    options = "".join(f"{line}\n" for line in image.index_options)
    lock = plan.locks.get(image.service)
    if lock is not None:
        return f"{options}{lock}"
    hashes = {line.text: line.hashes for line in plan.listed.lines}
    lines = (Package(line, hashes.get(line, ())) for line in image.requirements)
    return options + "".join(f"{line}\n" for line in lines)


def _hub_txt(image: ImageSpec) -> str:
    """What the builder of its models needs, from where its packages are but for the project's wheels."""
    options = (line for line in image.index_options if WHEELS_FOLDER not in line)
    return "".join(f"{line}\n" for line in (*options, HUB_CLIENT))


def _own_labels(plan: BuildPlan, tag: Tag, service: str) -> dict[str, str]:
    """What an image says of itself: names and signatures, and nothing of values."""
    graph = {"entry": plan.graph.entry, "services": {n.name: plan.graph.peers(n.name) for n in plan.graph}}
    return {
        "org.opencontainers.image.title": f"{tag.name}/{kebab_case(service)}",
        "org.opencontainers.image.version": tag.version,
        f"{LABEL_PREFIX}bento": str(tag),
        f"{LABEL_PREFIX}service": service,
        f"{LABEL_PREFIX}graph": _label_text(graph),
        f"{LABEL_PREFIX}schema": _label_text(plan.signatures[service]),
        f"{LABEL_PREFIX}contract": plan.contracts[service],
    }


def _label_text(value: object) -> str:
    """The value as JSON; what stands for it where that is long."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text if len(text) <= _MAX_LABEL else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _compose_service(plan: BuildPlan, tag: Tag, node: ServiceNode) -> ComposeService:
    image, config = plan.images[node.name], plan.configs[node.name]
    envs = [env.model_dump() for env in plan.bentofile.envs]
    return ComposeService(
        name=node.name,
        container=kebab_case(node.name),
        image=tag.image(node.name),
        published_port=DEFAULT_PORT if node.name == plan.graph.entry else None,
        scheme=url_scheme(config),
        peers=plan.graph.peers(node.name),
        environment={BENTO: str(tag), **peer_environment(plan.graph, node.name)},
        cache_folder=image.cache_folder if image.uses_model_hub else None,
        build_secrets=(*image.secrets, *(HUB_VARIABLES if image.holds_hub_models else ())),
        model_store=MODEL_STORE if image.uses_model_store else None,
        tasks_folder=tasks_folder(node, envs),
        open_variables=open_variables(plan.graph, envs)[node.name],
        shares_secret=len(plan.graph.services) > 1,
        gpus=whole_gpus(config),
        reservations=reservations(config),
    )


def _manifest(plan: BuildPlan, tag: Tag, created: str, digest: str) -> Manifest:
    services = []
    for node in plan.graph:
        image = plan.images[node.name]
        decisions = [d for d in plan.requirements.decisions if d.service == node.name]
        lock = plan.locks.get(node.name)
        services.append(
            ManifestService(
                name=node.name,
                target=node.target,
                endpoints=node.endpoints,
                tasks=node.tasks,
                dependencies=tuple(ManifestDependency(**asdict(edge)) for edge in node.dependencies),
                config=dict(node.config),
                declares_all=plan.declares_all(node.name),
                runs_command=node.runs_command,
                envs=tuple(dict(env) for env in node.envs),
                absent_modules=tuple(sorted(plan.absent[node.name])),
                base_image=image.base_image,
                base_reason=image.base_reason,
                python_version=image.python_version,
                requirements={d.requirement: d.why for d in decisions if d.is_held},
                left_out={d.requirement: d.why for d in decisions if not d.is_held},
                lock=None if lock is None else _manifest_lock(lock),
                secrets=image.secrets,
                uses_model_hub=image.uses_model_hub,
                models=image.models,
            )
        )
    return Manifest(
        service=plan.graph.services[plan.graph.entry].target,
        name=tag.name,
        version=tag.version,
        bentoml_version=__version__,
        creation_time=created,
        digest=digest,
        description=plan.bentofile.description,
        labels=dict(plan.bentofile.labels),
        entry_service=plan.graph.entry,
        envs=tuple(env.model_dump() for env in plan.bentofile.envs),
        args=dict(plan.bentofile.args),
        services=tuple(services),
    )


def _manifest_lock(lock: Lock) -> ManifestLock:
    return ManifestLock(
        python_version=lock.python_version,
        platform=lock.platform,
        torch_backend=lock.torch_backend if lock.has_torch else None,
        packages={package.name: package.version for package in lock.packages},
    )
