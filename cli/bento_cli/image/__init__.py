"""What the image of one service is to hold: decided here, written down by the templates."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from bento_cli.arguments import Arguments
from bento_cli.image.declared import DeclaredImage, Step
from bento_cli.project.bentofile import Bentofile
from bento_cli.project.models import HUB_CLIENT, HubModel, LocalModel, ServiceModel
from bentoml import _environment as environment
from bentoml._config import ServiceConfig
from bentoml._environment import DEFAULT_PORT
from bentoml._graph import ServiceNode

PROJECT_FOLDER: Final = "/opt/bento/src"
RUNTIME_FOLDER: Final = "/opt/bento/runtime"
HOME_FOLDER: Final = "/home/bento"
CACHE_FOLDER: Final = f"{HOME_FOLDER}/.cache/huggingface"
TASKS_FOLDER: Final = f"{HOME_FOLDER}/tasks"
MODEL_STORE: Final = "/home/bento/bentoml/models"
ENVIRONMENT_FOLDER: Final = "/opt/venv"
SIZES_NAME: Final = "sizes.txt"
UID: Final = 10001
USER: Final = "bento"

LABEL_PREFIX: Final = "org.bentoml."

_EVERY_INTERFACE: Final = "0.0.0.0"  # noqa: S104  # of a container's own network


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """One image.

    Args:
        base_image: what the final stage stands on, and why that one.
        python_image: where CPython comes from; the base itself where `base_has_python`.
        system_packages: of Debian, each with what needs it.
        system_steps: what the project does before its packages are there, and `steps` what afterwards.
        files: of the project, which are there while it does.
        template: of the project's own, for its Dockerfile.
        requirements: lines of its requirements.txt, the runtime's own included.
        index_options: lines before them, which say where packages are looked for.
        environment: variables of the image; those of a deployment come on top when it runs.
        build_environment: variables while its packages are installed.
        cache_folder: where models from a hub are kept between runs.
        uses_model_hub: whether anything in it loads models from a hub, so that the folder is a volume.
        tasks_folder: where a volume for the results of tasks may be mounted.
        models: that it holds, or that its service gets when it starts.
        secrets: variables that its packages are installed with and that no layer, label or history holds.
        wheels: of the project, which are there while its packages are installed; `build_packages`, of Debian,
            are too.
    """

    service: str
    base_image: str
    base_reason: str
    base_has_python: bool
    python_image: str
    python_version: str
    uv_image: str
    system_packages: Mapping[str, str]
    requirements: tuple[str, ...]
    index_options: tuple[str, ...]
    environment: Mapping[str, str]
    build_environment: Mapping[str, str]
    labels: Mapping[str, str]
    uses_model_hub: bool
    models: tuple[ServiceModel, ...] = ()
    system_steps: tuple[Step, ...] = ()
    steps: tuple[Step, ...] = ()
    files: tuple[str, ...] = ()
    template: str | None = None
    secrets: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()
    build_packages: tuple[str, ...] = ()
    uid: int = UID
    port: int = DEFAULT_PORT
    cache_folder: str = CACHE_FOLDER
    tasks_folder: str = TASKS_FOLDER
    project_folder: str = PROJECT_FOLDER
    runtime_folder: str = RUNTIME_FOLDER
    home_folder: str = HOME_FOLDER
    environment_folder: str = ENVIRONMENT_FOLDER
    gpus: float = field(default=0)

    @property
    def writable_folders(self) -> tuple[str, ...]:
        """Where its user may write, whatever that user's number is."""
        return self.cache_folder, self.tasks_folder

    @property
    def held_models(self) -> tuple[ServiceModel, ...]:
        """The models that the image itself holds."""
        held = {model.content: model for model in self.models if model.stage == "build"}
        return tuple(held.values())

    @property
    def holds_hub_models(self) -> bool:
        """Whether its builder has to ask the hub."""
        return any(isinstance(model, HubModel) for model in self.held_models)

    @property
    def uses_model_store(self) -> bool:
        """Whether its service looks for models in the store of whoever runs it."""
        return any(isinstance(model, LocalModel) and model.stage == "start" for model in self.models)

    def with_models(self, models: tuple[ServiceModel, ...], *, asks_hub: bool = False) -> ImageSpec:
        """The image of a service with these models.

        Args:
            asks_hub: whether it gets others from the hub when it starts.
        """
        variables = dict(self.environment)
        if models:
            places = {name: place for model in models for name, place in model.places.items()}
            variables[environment.MODELS] = environment.models_text(places)
        requirements = {*self.requirements}
        asks_hub |= any(isinstance(model, HubModel) and model.stage == "start" for model in models)
        if asks_hub:
            variables.setdefault("HF_HOME", CACHE_FOLDER)
            requirements.add(HUB_CLIENT)
        return replace(
            self,
            models=models,
            environment=variables,
            requirements=tuple(sorted(requirements)),
            uses_model_hub=self.uses_model_hub or asks_hub,
        )

    @property
    def sizes_name(self) -> str:
        """The file of its environment that says how many bytes its packages take."""
        return SIZES_NAME


def plan_image(
    node: ServiceNode,
    config: ServiceConfig,
    bentofile: Bentofile,
    declared: DeclaredImage,
    *,
    requirements: Sequence[str],
    index_options: Sequence[str],
    runtime: Sequence[str],
    absent: frozenset[str],
    dependents: Sequence[str],
    declares_all: bool,
) -> ImageSpec:
    """Decide the image of one service.

    Args:
        declared: what the project says of this image.
        requirements: the project's requirements in this service's slice.
        index_options: where packages are looked for.
        runtime: what the runtime itself needs.
        absent: modules for which placeholders stand in.
        dependents: services of the graph that call this one.
        declares_all: whether the source said everything about the service's configuration.
    """
    python_version = declared.python_version or _python_of(declared.base_image)
    required: dict[str, Requirement] = {
        canonicalize_name(one.name): one for one in map(Requirement, requirements)
    }
    base_image, base_reason = _base(config.gpu_total, required, declared, python_version)
    system = _system_without_python(base_image)
    source_of_python = python_image(python_version, system) if system else base_image
    envs = [env.model_dump() for env in bentofile.envs]
    variables = {
        "HOME": HOME_FOLDER,
        "USER": USER,
        "PYTHONPATH": RUNTIME_FOLDER,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        environment.SERVICE: node.target,
        environment.PROJECT: PROJECT_FOLDER,
        **service_variables(
            node,
            envs,
            arguments=bentofile.args,
            absent=absent,
            dependents=dependents,
            declares_all=declares_all,
        ),
        **container_address(config, is_known=declares_all),
    }
    uses_model_hub = bool(required.keys() & set(_images()["uses_model_hub"]))
    if uses_model_hub:
        variables.setdefault("HF_HOME", CACHE_FOLDER)
    return ImageSpec(
        service=node.name,
        base_image=base_image,
        base_reason=base_reason,
        base_has_python=system is None,
        python_image=source_of_python,
        python_version=python_version,
        uv_image=_images()["uv"],
        system_packages=_system_packages(required, declared.system_packages),
        requirements=tuple(sorted({*requirements, *runtime})),
        index_options=tuple(index_options),
        environment=variables,
        build_environment=_values((*node.envs, *envs), but_not="runtime"),
        labels={**bentofile.labels, **node.labels},
        uses_model_hub=uses_model_hub,
        system_steps=declared.system_steps,
        steps=declared.steps,
        files=declared.files,
        template=declared.template,
        gpus=config.gpu_total,
    )


def service_variables(
    node: ServiceNode,
    envs: Sequence[Mapping[str, str]],
    *,
    arguments: Arguments,
    absent: frozenset[str],
    dependents: Sequence[str],
    declares_all: bool,
) -> dict[str, str]:
    """What a service's processes are told, in an image and on a developer's machine alike.

    Args:
        envs: what the bentofile declares for all services; wins over what the service declares itself.
        arguments: those of the Bento.
    """
    variables = _values((*node.envs, *envs), but_not="build")
    if declares_all:
        variables[environment.DECLARED] = environment.declared_text(
            node.name, node.config, runs_command=node.runs_command
        )
    if arguments:
        variables[environment.ARGUMENTS] = environment.arguments_text(arguments)
    if absent:
        variables[environment.ABSENT_MODULES] = ",".join(sorted(absent))
    if dependents:
        variables[environment.DEPENDENTS] = ",".join(sorted(dependents))
    return variables


def container_address(config: ServiceConfig, *, is_known: bool = True) -> dict[str, str]:
    """Variables that keep a service where its peers look for it, on the port of all containers.

    Args:
        is_known: whether the configuration is all that there is, so that its own address can be relied on.
    """
    if is_known and (config.http.host, config.http.port) == (_EVERY_INTERFACE, DEFAULT_PORT):
        return {}
    return {environment.HOST: _EVERY_INTERFACE, environment.PORT: str(DEFAULT_PORT)}


def tasks_folder(
    node: ServiceNode, envs: Sequence[Mapping[str, str]], given: Collection[str] = ()
) -> str | None:
    """Where a container keeps the results of a service's tasks; None where it has none to keep there.

    Args:
        envs: what the bentofile declares for all services: it may say where instead, as the service may.
        given: variables that the deployment sets: one of them may say where, too.
    """
    declared = {env["name"] for env in (*node.envs, *envs) if env.get("stage", "all") != "build"}
    return TASKS_FOLDER if node.tasks and environment.RESULT_STORE not in declared.union(given) else None


def _values(envs: Sequence[Mapping[str, str]], *, but_not: str) -> dict[str, str]:
    """The declared variables that have a value, without those of one stage; later ones win."""
    wanted = (env for env in envs if env.get("value") and env.get("stage", "all") != but_not)
    return {env["name"]: env["value"] for env in wanted}


def python_image(version: str, system: str = "") -> str:
    """The image that CPython of this version is taken from, for a release of Debian or the usual one."""
    images = _images()
    template: str = images["python"]
    return template.format(version=version, system=system or images["system"])


def _python_of(base_image: str | None) -> str:
    """The version of Python that an image says to hold by its name; that of this interpreter otherwise."""
    found = re.search(r"(?:^|/)python:(3\.\d+)", base_image or "")
    return found[1] if found else f"{sys.version_info.major}.{sys.version_info.minor}"


def _system_without_python(image: str) -> str | None:
    """For an image without Python, the release of Debian whose Python runs there; None for the others."""
    known: dict[str, str] = _images()["without_python"]
    # Mirrors have the same names behind their own.
    matching = (system for name, system in known.items() if fnmatchcase(f"/{image}", f"*/{name}"))
    return next(matching, None)


def cuda_problem(version: str) -> str | None:
    """What is wrong with a `docker.cuda_version`; None where there are images for it."""
    if _cuda_images(version):
        return None
    known = ", ".join(image["version"] for image in _images()["cuda"])
    return f"no images for CUDA {version!r}; there are {known}"


def _base(
    gpus: float, required: Mapping[str, Requirement], declared: DeclaredImage, python_version: str
) -> tuple[str, str]:
    """What an image stands on, and why."""
    if declared.base_image is not None:
        return declared.base_image, declared.base_source
    if not gpus:
        return python_image(python_version), "asks for no GPU"
    rows = {name: row for name, one in required.items() if (row := _cuda_row(one)) is not None}
    # Who brings the libraries decides: the others find them there.
    name = min(rows, key=lambda name: (not rows[name]["brings_libraries"], name), default=None)
    flavour = "base" if name and rows[name]["brings_libraries"] else "cudnn"
    if declared.cuda_version is not None:
        [*_, image] = _cuda_images(declared.cuda_version)
        return image[flavour], f"asks for a GPU; `docker.cuda_version` is {declared.cuda_version}"
    if name is None:
        usual = _cuda_image(_images()["usual_cuda"])
        return usual["cudnn"], "asks for a GPU, and no package brings the CUDA libraries"
    release, cuda = _release(required[name], rows[name]["since"])
    what = f"brings the libraries of CUDA {cuda}" if flavour == "base" else f"is built for CUDA {cuda}"
    return _cuda_image(cuda)[flavour], f"asks for a GPU; {release} {what}"


def _release(
    requirement: Requirement, since: Mapping[str, str], newest: str | None = None
) -> tuple[str, str]:
    """A package, with its version where one is given, and the CUDA that its release is built for.

    Args:
        newest: CUDA that is to be had; a release that needs no newer one is taken where there is a choice.
    """
    name = canonicalize_name(requirement.name)
    pinned = [one.version for one in requirement.specifier if one.operator == "==" and "*" not in one.version]
    starts = [Version(start) for start in since]
    rows = zip(starts, [*starts[1:], None], since.values(), strict=True)
    built_for = [cuda for start, end, cuda in rows if _may_be(requirement.specifier, start, end)]
    limit = Version(newest or _images()["usual_cuda"])
    there = [cuda for cuda in built_for if Version(cuda) <= limit]
    chosen = there[-1] if there else next(iter(built_for or since.values()))
    return f"{name} {Version(pinned[0]).public}" if pinned else name, chosen


def _may_be(specifiers: SpecifierSet, start: Version, end: Version | None) -> bool:
    """Whether they admit a release from one version on and before another."""
    for one in specifiers:
        version = Version(one.version.removesuffix(".*"))
        bound = version.release[:-1] if one.operator == "~=" else version.release
        is_prefix = one.operator == "~=" or one.version.endswith(".*")
        is_above = (
            (one.operator == "<" and start >= version)
            or (one.operator in ("<=", "==") and not is_prefix and start > version)
            or (one.operator in ("~=", "==") and is_prefix and start.release[: len(bound)] > bound)
        )
        is_below = end is not None and one.operator in (">", ">=", "==", "~=") and end <= version
        if is_above or is_below:
            return False
    return True


def _cuda_image(version: str) -> dict[str, str]:
    """The images of the oldest CUDA that is no older than a package's own."""
    images = _newest_cuda()
    return next((image for image in images if Version(image["version"]) >= Version(version)), images[-1])


def _newest_cuda() -> list[dict[str, str]]:
    """The images of a system as new as that which Python comes from; older ones are for those who ask."""
    images = _images()
    return [image for image in images["cuda"] if _system_without_python(image["base"]) == images["system"]]


def _cuda_images(version: str) -> list[dict[str, str]]:
    """The images of a CUDA by its version, `12.8`, `12.8.1` or `12`, oldest first."""
    return [
        image
        for image in _images()["cuda"]
        if version in (image["version"], image["version"].partition(".")[0])
        or f":{version}-" in image["base"]
    ]


def cuda_built_for(requirement: Requirement, newest: str) -> str | None:
    """The CUDA that a package is built for; None for one that is not built for any.

    Args:
        newest: CUDA that is to be had, unless no release that may be taken is built for it.
    """
    row = _cuda_row(requirement)
    if row is None or Version(newest) < Version(next(iter(row["since"].values()))):
        return None
    return _release(requirement, row["since"], newest)[1]


def needed_libraries(names: Collection[str]) -> dict[str, str]:
    """Packages of Debian that Python packages need and do not bring, each with the first that does."""
    known: dict[str, list[str]] = _images()["system_packages"]
    return {package: name for name in sorted(names, reverse=True) for package in known.get(name, ())}


def _system_packages(names: Collection[str], declared: Mapping[str, str]) -> dict[str, str]:
    """Packages of Debian, each with what needs it."""
    return dict(sorted({**needed_libraries(names), **declared}.items()))


def _cuda_row(requirement: Requirement) -> dict[str, Any] | None:
    """What is known of a package and CUDA, with one of its extras or without."""
    name = canonicalize_name(requirement.name)
    table: dict[str, dict[str, Any]] = _images()["built_for"]
    names = (*(f"{name}[{extra}]" for extra in sorted(requirement.extras)), name)
    return next((table[known] for known in names if known in table), None)


@cache
def _images() -> dict[str, Any]:
    text = resources.files("bento_cli").joinpath("data/images.json").read_text(encoding="utf-8")
    images: dict[str, Any] = json.loads(text)
    return images
