"""What the image of one service is to hold: decided here, written down by the templates."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from bento_cli.arguments import Arguments
from bento_cli.bentofile import Bentofile
from bentoml import _environment as environment
from bentoml._config import ServiceConfig
from bentoml._environment import DEFAULT_PORT
from bentoml._graph import ServiceNode

PROJECT_FOLDER: Final = "/opt/bento/src"
RUNTIME_FOLDER: Final = "/opt/bento/runtime"
CACHE_FOLDER: Final = "/home/bento/.cache/huggingface"
TASKS_FOLDER: Final = "/home/bento/tasks"
ENVIRONMENT_FOLDER: Final = "/opt/venv"
SIZES_NAME: Final = "sizes.txt"
UID: Final = 10001

LABEL_PREFIX: Final = "org.bentoml."

_EVERY_INTERFACE: Final = "0.0.0.0"  # noqa: S104  # of a container's own network


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """One image.

    Args:
        base_image: what the final stage stands on, and why that one.
        python_image: where CPython comes from; the base itself where `base_has_python`.
        system_packages: of Debian, each with what needs it.
        requirements: lines of its requirements.txt, the runtime's own included.
        index_options: lines before them, which say where packages are looked for.
        environment: variables of the image; those of a deployment come on top when it runs.
        build_environment: variables while its packages are installed.
        cache_folder: where models from a hub are kept between runs.
        uses_model_hub: whether anything in it loads models from a hub, so that the folder is a volume.
        tasks_folder: where a volume for the results of tasks may be mounted.
        secrets: variables that its packages are installed with and that no layer, label or history holds.
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
    secrets: tuple[str, ...] = ()
    uid: int = UID
    port: int = DEFAULT_PORT
    cache_folder: str = CACHE_FOLDER
    tasks_folder: str = TASKS_FOLDER
    project_folder: str = PROJECT_FOLDER
    runtime_folder: str = RUNTIME_FOLDER
    gpus: float = field(default=0)

    @property
    def writable_folders(self) -> tuple[str, ...]:
        """Where its user may write, whatever that user's number is."""
        return self.cache_folder, self.tasks_folder

    @property
    def sizes_name(self) -> str:
        """The file of its environment that says how many bytes its packages take."""
        return SIZES_NAME


def plan_image(
    node: ServiceNode,
    config: ServiceConfig,
    bentofile: Bentofile,
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
        requirements: the project's requirements in this service's slice.
        index_options: where packages are looked for.
        runtime: what the runtime itself needs.
        absent: modules for which placeholders stand in.
        dependents: services of the graph that call this one.
        declares_all: whether the source said everything about the service's configuration.
    """
    python_version = bentofile.docker.python_version or f"{sys.version_info.major}.{sys.version_info.minor}"
    required: dict[str, Requirement] = {
        canonicalize_name(one.name): one for one in map(Requirement, requirements)
    }
    base_image, base_reason = _base(config.gpu_total, required, bentofile, python_version)
    source_of_python = bentofile.docker.base_image or python_image(python_version)
    envs = [env.model_dump() for env in bentofile.envs]
    variables = {
        "HOME": "/home/bento",
        "USER": "bento",
        "PATH": "/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
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
        base_has_python=base_image == source_of_python,
        python_image=source_of_python,
        python_version=python_version,
        uv_image=_images()["uv"],
        system_packages=_system_packages(required, bentofile.docker.system_packages),
        requirements=tuple(sorted({*requirements, *runtime})),
        index_options=tuple(index_options),
        environment=variables,
        build_environment=_values((*node.envs, *envs), but_not="runtime"),
        labels={**bentofile.labels, **node.labels},
        uses_model_hub=uses_model_hub,
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


def python_image(version: str) -> str:
    """The image that CPython of this version is taken from."""
    template: str = _images()["python"]
    return template.format(version=version)


def _base(
    gpus: float, required: Mapping[str, Requirement], bentofile: Bentofile, python_version: str
) -> tuple[str, str]:
    """What an image stands on, and why."""
    if bentofile.docker.base_image is not None:
        return bentofile.docker.base_image, "docker.base_image of bentofile.yaml"
    if not gpus:
        return python_image(python_version), "asks for no GPU"
    # Who brings the libraries decides: the others find them there.
    known = sorted(
        required.keys() & _built_for().keys(), key=lambda name: not _built_for()[name]["brings_libraries"]
    )
    if not known:
        return _images()["cuda"][-1]["cudnn"], "asks for a GPU, and no package brings the CUDA libraries"
    built_for = _built_for()[known[0]]
    release, cuda = _release(required[known[0]], built_for["since"])
    if built_for["brings_libraries"]:
        return _cuda_image(cuda)["base"], f"asks for a GPU; {release} brings the libraries of CUDA {cuda}"
    return _cuda_image(cuda)["cudnn"], f"asks for a GPU; {release} is built for CUDA {cuda}"


def _release(requirement: Requirement, since: Mapping[str, str]) -> tuple[str, str]:
    """A package, with its version where one is given, and the CUDA which that or the newest is built for."""
    name = canonicalize_name(requirement.name)
    first, *later = since.items()
    pinned = [one.version for one in requirement.specifier if one.operator == "==" and "*" not in one.version]
    if not pinned:
        return name, (later or [first])[-1][1]
    version = Version(pinned[0])
    reached = [cuda for start, cuda in later if Version(start) <= version]
    return f"{name} {version.public}", [first[1], *reached][-1]


def _cuda_image(version: str) -> dict[str, str]:
    """The images of the oldest CUDA that is no older than a package's own."""
    images: list[dict[str, str]] = _images()["cuda"]
    return next((image for image in images if Version(image["version"]) >= Version(version)), images[-1])


def _system_packages(names: Collection[str], declared: Sequence[str]) -> dict[str, str]:
    """Packages of Debian, each with what needs it."""
    known: dict[str, list[str]] = _images()["system_packages"]
    needed = {package: name for name in sorted(names, reverse=True) for package in known.get(name, ())}
    own = dict.fromkeys(declared, "docker.system_packages of bentofile.yaml")
    return dict(sorted({**needed, **own}.items()))


def _built_for() -> dict[str, Any]:
    built_for: dict[str, Any] = _images()["built_for"]
    return built_for


@cache
def _images() -> dict[str, Any]:
    text = resources.files("bento_cli").joinpath("data/images.json").read_text(encoding="utf-8")
    images: dict[str, Any] = json.loads(text)
    return images
