"""From what somebody says of a deployment to what is to be done: found, built and planned."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from pydantic import ValidationError

from bento_cli.arguments import Arguments
from bento_cli.build.building import Voice, built
from bento_cli.containerize import AS_USUAL, ContainerizeOptions, ServiceImage
from bento_cli.deploy.by_name import Found, find_deployments
from bento_cli.deploy.clusters import Cluster, Clusters
from bento_cli.deploy.config import DeploymentConfig, deployment_name
from bento_cli.deploy.deployment import Change, Deployment
from bento_cli.deploy.desired import DeployOptions, default_name, desired_deployment, require_gpu
from bento_cli.deploy.spec import DeploymentSpec
from bento_cli.engine import Engine, EngineFacts
from bento_cli.engine.docker import DockerEngine
from bento_cli.errors import BentoError
from bento_cli.store.bento import Bento
from bento_cli.yaml_file import YamlFile, in_words, location_of
from bentoml._layers import merge

Mode = Literal["deploy", "create", "update", "apply"]
"""What a deployment that is there already means to whoever deploys.

`create` refuses it; `update` merges what is said over what was said of it before; `deploy` and `apply` have
it be what is said now.
"""

# Lists of which each item has a name: one that is said replaces that of the same name.
_NAMED_ITEMS: Final = {"envs": "name", "labels": "key"}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where deployments are.

    Args:
        name: of the cluster.
        engine: what runs them, and `builder` what builds images: the same one unless images travel.
        homes: where what is known of the deployments of each cluster is kept, of this one and others.
    """

    name: str
    cluster: Cluster
    engine: Engine
    builder: Engine
    homes: Mapping[str, Path]

    @property
    def home(self) -> Path:
        """Where what is known of the deployments here is kept."""
        return self.homes[self.name]

    def deployment(self, name: str) -> Deployment:
        """The deployment of that name, which may not be there.

        Raises:
            BentoError: that is no name which one can have.
        """
        try:
            return Deployment(deployment_name(name), self.engine, self.home)
        except ValueError as error:
            hint = "`--name` and the file's `name` choose it; `bento deployment list` shows which there are"
            raise BentoError(str(error), hint=hint) from None


def place_at(cluster: str | None) -> Place:
    """The cluster of that name, the one in use when none is given.

    Raises:
        NotFoundError: there is none.
        InputError: what is kept of clusters cannot be read.
    """
    clusters = Clusters()
    name = cluster or clusters.current
    found = clusters.get(name)
    engine = DockerEngine(found.docker_context)
    return Place(
        name=name,
        cluster=found,
        engine=engine,
        builder=engine if found.registry is None else DockerEngine(),
        homes={known: clusters.home_of(known) for known in clusters.all()},
    )


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What arguments say of the entry's service alone; each over the configuration, where it is given."""

    scaling_min: int | None = None
    scaling_max: int | None = None
    instance_type: str | None = None
    strategy: str | None = None
    extras: Mapping[str, object] | None = None

    def as_config(self, service: str) -> dict[str, object]:
        """The same, as a configuration file says it."""
        scaling = {"min_replicas": self.scaling_min, "max_replicas": self.scaling_max}
        said: dict[str, object] = {
            "scaling": _given(scaling),
            "instance_type": self.instance_type,
            "deployment_strategy": self.strategy,
            "extras": self.extras,
        }
        given = _given({key: value for key, value in said.items() if value != {}})
        return {"services": {service: given}} if given else {}


@dataclass(frozen=True, kw_only=True)
class Said:
    """What somebody says of a deployment.

    Args:
        config: as a configuration file says it; `file` is where it stands, if it is of one.
        over: what arguments say of the same, and `entry` what they say of the entry's service: stronger.
        bento: a project's folder, a service, a Bento or its tag; of `folder` where it is not absolute.
        certificate: PEM with a certificate and its key.
        images: how they are made.
    """

    name: str | None = None
    bento: str | Bento | None = None
    folder: Path = Path()
    arguments: Arguments = field(default_factory=dict)
    config: Mapping[str, object] = field(default_factory=dict)
    file: YamlFile | None = None
    over: Mapping[str, object] = field(default_factory=dict)
    entry: Entry = field(default_factory=Entry)
    address: str | None = None
    port: int | None = None
    certificate: str | None = None
    use_gpu: bool = True
    images: ContainerizeOptions = AS_USUAL


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A deployment as it is to be: all of it is there, and nothing of it is done.

    Args:
        tokens: of deployments that it depends on, by variables.
    """

    deployment: Deployment
    spec: DeploymentSpec
    cause: str
    config: Mapping[str, Any]
    tokens: Mapping[str, str]
    certificate: str | None

    def plan(self) -> Change:
        """What turns what is there into it."""
        return self.deployment.plan(self.spec, cause=self.cause, config=self.config)

    def keep(self) -> None:
        """Keep what it needs and no file of a revision is to hold."""
        self.deployment.keep(tokens=self.tokens, certificate=self.certificate)


MakeImages: TypeAlias = Callable[[Bento, Engine, ContainerizeOptions], Sequence[ServiceImage]]
"""Makes the images of a Bento on an engine."""


def find_wanted(said: Said, place: Place, mode: Mode, make_images: MakeImages, voice: Voice) -> Wanted:
    """Build what is said and make its images, so that they are where it is to run.

    Raises:
        BentoError: something of it is wrong, or, with `create`, it is there already.
        NotFoundError: there is no such Bento or project; or, with `update`, no such deployment.
        EngineError: an image cannot be built, or the engine cannot run it.
    """
    name = said.name or _text(said.config.get("name"))
    if mode == "create" and name is not None:
        require_new(place.deployment(name))
    if mode == "update":
        said = _over_what_was_said(said, place, name)
    raw = merged_config(said.config, said.over)
    as_deployment_config(raw)  # what is wrong with it is said before anything is asked for or built
    facts = place.engine.check()
    bento = built(
        said.bento or _text(raw.get("bento")) or ".",
        voice,
        folder=said.folder,
        arguments=said.arguments,
        leave_out=[said.file.path] if said.file is not None else [],
    )
    file = said.file or YamlFile(Path("deployment"), {}, lines={})
    config = as_deployment_config(merged_config(raw, said.entry.as_config(bento.graph.entry)))
    deployment = place.deployment(name or default_name(bento))
    if mode == "create":
        require_new(deployment)
    others = find_deployments(
        bento.graph, place.engine, _variables_given(config), place.homes, cluster=place.name
    )
    options = _options(said, place, facts, deployment, others)
    spec = desired_deployment(bento, config, file, options, name=deployment.name)
    require_gpu(spec, facts)
    for text in spec.ignored:
        voice.warn(f"not acted on yet: {text}")
    images = make_images(bento, place.builder, travelling(said.images, bento, place.cluster))
    ids = {image.service: image_id(image, place.cluster) for image in images}
    return Wanted(
        deployment=deployment,
        spec=desired_deployment(bento, config, file, options, name=deployment.name, image_ids=ids),
        cause=f"{mode} {bento.tag}",
        config=config.model_dump(mode="json", exclude_defaults=True),
        tokens=others.tokens,
        certificate=said.certificate,
    )


def _over_what_was_said(said: Said, place: Place, name: str | None) -> Said:
    """What is said, where it says nothing as it was said before."""
    if name is None:
        raise BentoError("nothing says which deployment is to be updated", hint="give its name")
    before = place.deployment(name).intended()
    entry = before.spec.entry
    return replace(
        said,
        config=merged_config({**before.config, "bento": before.spec.bento}, said.config),
        address=said.address or entry.address,
        port=said.port or entry.port,
    )


def _variables_given(config: DeploymentConfig) -> set[str]:
    everywhere = [config.envs, *(service.envs for service in config.services.values())]
    return {env.name for envs in everywhere for env in envs}


def _options(
    said: Said, place: Place, facts: EngineFacts, deployment: Deployment, others: Found
) -> DeployOptions:
    cache = os.environ.get("BENTOML_HF_CACHE_DIR")
    return DeployOptions(
        address=said.address or DeployOptions.address,
        port=said.port or DeployOptions.port,
        use_gpu=said.use_gpu,
        cache_folder=str(Path(cache).resolve()) if cache else None,
        certificate=stands_for(said.certificate or deployment.certificate),
        addresses=others.addresses,
        tokens={name: stands_for(token) for name, token in others.tokens.items()},
        cpus=facts.cpus,
        memory=facts.memory,
        instance_types=place.cluster.instance_types,
    )


def stands_for(secret: str | None) -> str:
    """What tells a secret from another one, and nothing else of it; empty for none."""
    return "" if secret is None else hashlib.sha256(secret.encode()).hexdigest()[:16]


def require_new(deployment: Deployment) -> None:
    """Refuse a name that is taken.

    Raises:
        BentoError: there is such a deployment.
    """
    if deployment.history.exists:
        raise BentoError(
            f"there is a deployment {deployment.name!r} already",
            hint="`bento deployment apply` replaces what was said, `bento deployment update` changes it",
        )


def leave_to_a_process(deployment: Deployment, place: Place, *, timeout_s: float) -> None:
    """Have a process that outlives this one go on with what was begun; its log is beside the revisions."""
    command = [sys.executable, "-m", "bento_cli", "deployment", "start", deployment.name]
    command += ["--cluster", place.name, "--timeout", str(timeout_s)]
    with (deployment.history.folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    # Its end is taken note of, for as long as this process is there.
    threading.Thread(target=process.wait, daemon=True).start()


def travelling(options: ContainerizeOptions, bento: Bento, cluster: Cluster) -> ContainerizeOptions:
    """How images are made that reach their cluster through its registry, if it has one."""
    if cluster.registry is None:
        return options
    name = f"{cluster.registry}/{bento.tag.name}:{bento.tag.version}"
    return replace(options, names=(name,), build=replace(options.build, push=True))


def image_id(built: ServiceImage, cluster: Cluster) -> str:
    """What the cluster's engine knows the very image by."""
    image = built.image
    if cluster.registry is None:
        return image.identifier
    return f"{image.reference.rpartition(':')[0]}@{image.digest}"


def as_deployment_config(data: Mapping[str, object]) -> DeploymentConfig:
    """What is said, checked.

    Raises:
        BentoError: names everything that is wrong with it.
    """
    try:
        return DeploymentConfig.model_validate(data)
    except ValidationError as error:
        problems = [
            f"`{'.'.join(map(str, location_of(item)))}`: {in_words(item, DeploymentConfig)}"
            for item in error.errors()
        ]
        raise BentoError("\n".join(problems)) from None


def merged_config(before: Mapping[str, object], said: Mapping[str, object]) -> dict[str, object]:
    """What is said now over what was said before; of variables and labels each by its name."""
    merged = merge(before, said)
    for key, by in _NAMED_ITEMS.items():
        if key in before and key in said:
            merged[key] = _merged_items(before[key], said[key], by)
    services, earlier, later = (_mapping(mapping.get("services")) for mapping in (merged, before, said))
    for name in earlier.keys() & later.keys():
        own, was, now = (_mapping(mapping[name]) for mapping in (services, earlier, later))
        if "envs" in was and "envs" in now:
            services = {**services, name: {**own, "envs": _merged_items(was["envs"], now["envs"], "name")}}
    return {**merged, "services": services} if services else merged


def _merged_items(before: object, said: object, by: str) -> object:
    """Two lists of which each item has a name; what is no such list is for the model to refuse."""
    lists = [items for items in (before, said) if isinstance(items, list | tuple)]
    items = [item for found in lists for item in found]
    if len(lists) < 2 or not all(isinstance(item, Mapping) and by in item for item in items):
        return said
    return list({item[by]: item for item in items}.values())


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _given(values: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in values.items() if value is not None}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
