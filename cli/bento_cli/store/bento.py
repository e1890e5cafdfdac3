"""A Bento: the built, versioned folder that images are made of, and its manifest `bento.yaml`."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict

from bento_cli.errors import BentoError
from bento_cli.names import BENTO_NAME_RULE, BENTO_VERSION_RULE, is_bento_name, is_bento_version, kebab_case
from bento_cli.project.models import HUB_VARIABLES, HubModel, LocalModel
from bento_cli.yaml_file import load_yaml, validate
from bentoml._graph import Edge, ServiceGraph, ServiceNode

MANIFEST: Final = "bento.yaml"

# The folder of models in it, as `LocalModel.path` says.
MODELS: Final = "models"

# Lines of a manifest that its digest does not stand for: itself, and when the same content was built.
_UNSEALED: Final = re.compile(rb"^(?:digest|creation_time): .*\n", re.MULTILINE)


@dataclass(frozen=True, order=True)
class Tag:
    """`name:version` of a Bento: valid as an image's name and tag as well.

    Raises:
        BentoError: one of the two is not valid.
    """

    name: str
    version: str

    def __post_init__(self) -> None:
        for what, text, is_valid, rule in (
            ("name", self.name, is_bento_name, BENTO_NAME_RULE),
            ("version", self.version, is_bento_version, BENTO_VERSION_RULE),
        ):
            if not is_valid(text):
                raise BentoError(
                    f"{text!r} is no {what} of a Bento: images are named after it", hint=f"use {rule}"
                )

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"

    def image(self, service: str) -> str:
        """The image of one service: `control_net/sdxl-control-net-service:<version>`."""
        return f"{self.name}/{kebab_case(service)}:{self.version}"


class _Model(BaseModel):
    # A manifest of a newer version may say more; what it says that is known here must still fit.
    model_config = ConfigDict(extra="ignore", frozen=True)


class ManifestDependency(_Model):
    """One edge of the graph."""

    attribute: str
    service: str | None = None
    url: str | None = None
    deployment: str | None = None
    cluster: str | None = None


class ManifestLock(_Model):
    """What the requirements of a service came to; its requirements.txt holds their hashes as well.

    Args:
        packages: the version of each, or the URL that it is from.
        torch_backend: whose builds of torch there are, where there is torch.
    """

    python_version: str
    platform: str
    torch_backend: str | None = None
    packages: dict[str, str]


class ManifestService(_Model):
    """One service of the Bento, with what was decided about its image."""

    name: str
    target: str
    endpoints: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    dependencies: tuple[ManifestDependency, ...] = ()
    config: dict[str, Any] = {}
    declares_all: bool = True
    runs_command: bool = False
    envs: tuple[dict[str, str], ...] = ()
    absent_modules: tuple[str, ...] = ()
    base_image: str
    base_reason: str
    python_version: str
    requirements: dict[str, str] = {}
    left_out: dict[str, str] = {}
    lock: ManifestLock | None = None
    secrets: tuple[str, ...] = ()
    uses_model_hub: bool = False
    models: tuple[HubModel | LocalModel, ...] = ()

    @property
    def hub_secrets(self) -> tuple[str, ...]:
        """Variables that the builder of its image reads where they are set."""
        is_asked = any(model.is_of_hub and model.stage == "build" for model in self.models)
        return HUB_VARIABLES if is_asked else ()

    @property
    def uses_model_store(self) -> bool:
        """Whether it looks for models in the store of whoever runs it."""
        return any(not model.is_of_hub and model.stage == "start" for model in self.models)


class Manifest(_Model):
    """`bento.yaml`.

    Args:
        digest: what stands for all that the Bento holds, as `content_digest` finds it.
    """

    service: str
    name: str
    version: str
    bentoml_version: str
    creation_time: str
    digest: str = ""
    description: str | None = None
    labels: dict[str, str] = {}
    entry_service: str
    envs: tuple[dict[str, str], ...] = ()
    args: dict[str, Any] = {}
    services: tuple[ManifestService, ...]
    spec: int = 3


@dataclass(frozen=True)
class Bento:
    """A folder with a manifest."""

    path: Path
    manifest: Manifest

    @property
    def tag(self) -> Tag:
        return Tag(self.manifest.name, self.manifest.version)

    @property
    def source(self) -> Path:
        """The project's files."""
        return self.path / "src"

    @property
    def graph(self) -> ServiceGraph:
        """The services as they were discovered when it was built."""
        nodes = {
            service.name: ServiceNode(
                name=service.name,
                target=service.target,
                endpoints=service.endpoints,
                tasks=service.tasks,
                dependencies=tuple(Edge(**dependency.model_dump()) for dependency in service.dependencies),
                config=service.config,
                envs=service.envs,
                runs_command=service.runs_command,
            )
            for service in self.manifest.services
        }
        return ServiceGraph(entry=self.manifest.entry_service, services=nodes)

    def service(self, name: str) -> ManifestService:
        """What the manifest says of one service."""
        return next(service for service in self.manifest.services if service.name == name)


def load_bento(path: Path) -> Bento:
    """The Bento in a folder.

    Raises:
        NotFoundError: the folder holds no manifest.
        InputError: the manifest is not valid.
    """
    return Bento(path, validate(load_yaml(path / MANIFEST), Manifest))


def files_of(folder: Path) -> Iterator[Path]:
    """The files of a Bento, in the order of their paths; not what Python keeps of those that it has run."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        yield from (Path(parent, name) for name in sorted(names))


def content_digest(folder: Path) -> str:
    """What stands for all that a Bento's folder holds: the same for the same content built again.

    Its models are not read for that: the manifest has a digest of each.
    """
    digest = hashlib.sha256()
    for path in (path for path in files_of(folder) if not path.is_relative_to(folder / MODELS)):
        content = path.read_bytes()
        if path == folder / MANIFEST:
            content = _UNSEALED.sub(b"", content)
        mode = "x" if path.stat().st_mode & 0o100 else "-"
        name = path.relative_to(folder).as_posix()
        digest.update(
            f"{mode} {hashlib.sha256(content).hexdigest()} {name}\n".encode("utf-8", "surrogateescape")
        )
    return f"sha256:{digest.hexdigest()}"


def seal(folder: Path) -> None:
    """Say in the manifest of a finished folder what it holds."""
    path = folder / MANIFEST
    line = f"digest: {content_digest(folder)}\n".encode()
    path.write_bytes(re.sub(rb"^digest: .*\n", line, path.read_bytes(), count=1, flags=re.MULTILINE))


def manifest_text(manifest: Manifest) -> str:
    """The manifest as YAML, in the order of its fields."""
    data = manifest.model_dump(mode="json", exclude_none=True)
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


class _Dumper(yaml.SafeDumper):
    """Writes texts so that they read back as they were, those with rare line breaks too."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # In other styles these are line breaks of the file, and become blanks.
    style = '"' if any(c in text for c in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def as_tag(text: str) -> tuple[str, str | None] | None:
    """`name`, `name:latest` or `name:version` as a pair; None when `text` is no such thing."""
    match = re.fullmatch(r"([a-z0-9][a-z0-9._-]*)(?::([A-Za-z0-9_][A-Za-z0-9._-]*))?", text)
    if match is None:
        return None
    version = match[2]
    return match[1], None if version in (None, "latest") else version
