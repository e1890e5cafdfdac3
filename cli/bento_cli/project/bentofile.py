"""`bentofile.yaml`: how a project is built."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import pathspec
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic.config import JsonDict

from bento_cli.arguments import json_value
from bento_cli.errors import NotFoundError, shown
from bento_cli.names import BENTO_NAME_RULE, is_bento_name
from bento_cli.project.pyproject import has_build_table, read_build_table
from bento_cli.yaml_file import FileModel, YamlFile, load_yaml
from bento_templates import label_key, one_line
from bentoml._environment import is_reserved
from bentoml._loader import names_file
from bentoml._model_store import ModelTag

FILE_NAME = "bentofile.yaml"
_DEFAULT_MODULE = "service"

Stage = Literal["all", "build", "runtime"]
ModelStage = Literal["build", "start"]


def environment_name(text: str) -> str:
    """A variable that a person may set.

    Raises:
        ValueError: it is no name of a variable, or one that the toolchain sets.
    """
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) is None:
        raise ValueError(f"{text!r} is no name of a variable, expected letters, digits and underscores")
    if is_reserved(text):
        raise ValueError(f"{text!r} is set by the toolchain itself")
    return text


def _python_version(value: object) -> object:
    if isinstance(value, float):
        raise ValueError(f"{value} is a number, and 3.10 would be 3.1: write it in quotes")
    if not isinstance(value, str) or re.fullmatch(r"3\.\d{1,2}(\.\d{1,2})?", value) is None:
        raise ValueError(f"expected a Python version such as '3.11', found {value!r}")
    if int(value.split(".")[1]) < 10:
        raise ValueError(f"{value!r} is too old: the runtime needs 3.10 or newer")
    return value


def _system_package(text: str) -> str:
    if re.fullmatch(r"[a-z0-9][a-z0-9+.-]*(?::[a-z0-9]+)?(?:=[A-Za-z0-9.+:~-]+)?", text) is None:
        raise ValueError(f"{text!r} is no name of a Debian package, such as `libgl1` or `curl=7.88.1-10`")
    return text


def _cuda_version(value: object) -> object:
    # As a number it stands in many projects; no CUDA has a minor version that ends in a zero.
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    if text is not None and (not isinstance(text, str) or not re.fullmatch(r"\d{2}(\.\d){0,2}", text)):
        raise ValueError(f"expected a version of CUDA such as '12.8', found {value!r}")
    return text


def _distro(value: object) -> object:
    if value != "debian":
        raise ValueError(
            f"{value!r}: images stand on `debian`, for which nearly all packages have wheels; `base_image` "
            "names another image of Debian or Ubuntu"
        )
    return value


def _no_conda(value: object) -> None:
    if value:
        raise ValueError(
            "images hold no conda: list what it has of Python under `python.packages` and its libraries "
            "under `docker.system_packages`, or name an image with your environment as `docker.base_image`"
        )


def _variables(value: object) -> object:
    """Keys and values, a list of `NAME=value`, or lines of it, as a list of names and values."""
    if isinstance(value, dict):
        return [{"name": name, "value": said} for name, said in value.items()]
    lines = value.splitlines() if isinstance(value, str) else value
    if isinstance(lines, list) and all(isinstance(line, str) for line in lines):
        named = [line.partition("=") for line in lines if line.strip()]
        if any(not equals for _, equals, _ in named):
            raise ValueError("expected `NAME=value`, as a list or lines; a file is not read")
        return [{"name": name, "value": said} for name, _, said in named]
    return value


def project_path(text: str) -> str:
    """A path in the project, as it is written on every system.

    Raises:
        ValueError: it is none, or leads out of it.
    """
    path = PurePosixPath(one_line(text))
    if not text or path.is_absolute() or ".." in path.parts or "\\" in text or path == PurePosixPath():
        raise ValueError(f"{text!r}: expected a path in the project, such as `scripts/setup.sh`")
    return str(path)


def _image_reference(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*", text) is None:
        raise ValueError(f"{text!r} is no image reference such as `python:3.11-slim`")
    return text


def is_service_string(text: str) -> bool:
    """Whether a text has the form of a service's name: `module:Class`, `path/file.py:Class` or `module`."""
    place, colon, name = text.partition(":")
    dotted = (Path(place).stem if names_file(text) else place, *([name] if colon else []))
    return all(part.isidentifier() for text in dotted for part in text.split("."))


def _service_string(text: str) -> str:
    if not is_service_string(text):
        raise ValueError(f"{text!r}: expected `module:Class`, such as `service:ControlNet`")
    return text


def _bento_name(text: str) -> str:
    if not is_bento_name(text):
        raise ValueError(f"{text!r}: expected {BENTO_NAME_RULE}, as images are named after it")
    return text


def _relative_pattern(text: str) -> str:
    if ".." in text.lstrip("!").split("/"):
        raise ValueError(f"{text!r} leads out of the project")
    try:
        pathspec.GitIgnoreSpec.from_lines([text])
    except ValueError:
        raise ValueError(f"{text!r} is no pattern as in a .gitignore") from None
    return text


def is_url(text: str) -> bool:
    """Whether a text is one word with a scheme, as `https://host/simple`."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://\S+", text) is not None


def _index(text: str) -> str:
    if not is_url(text):
        raise ValueError(f"{text!r}: expected a URL such as `https://host/simple`")
    require_no_password(text)
    return text


def _links(text: str) -> str:
    return _index(text) if "://" in text else project_path(text)


def require_no_password(text: str) -> None:
    """Refuse a URL with a password or a token in it: files of the project are in the Bento and its images.

    Raises:
        ValueError: it has one; as `${NAME}` it is that of whoever builds.
    """
    found = re.search(r"://([^/@\s]+)@", text)
    if found is None or re.search(r"ssh://[^/@:\s]+@", text):
        return
    if re.fullmatch(r"\$\{[A-Z0-9_]+\}", found[1].rpartition(":")[2]) is None:
        raise ValueError(
            f"the URL of {text.rpartition('@')[2]!r} holds a password, which images would hold too: "
            "write `https://user:${INDEX_PASSWORD}@…`, a variable where the Bento is built"
        )


def _model_entry(value: object) -> object:
    """The object that a text is short for: `name:version`, `org/name` or `org/name@revision`."""
    if not isinstance(value, str):
        return value
    name, at, revision = value.partition("@")
    if not at and "/" not in name:
        return {"tag": name}
    return {"model_id": name, **({"revision": revision} if at else {})}


def _model_tag(text: str) -> str:
    ModelTag.parse(text)
    return text


def _model_pattern(text: str) -> str:
    hub_model_id(text.replace("*", "x"))
    return text


def hub_model_id(text: str) -> str:
    """The id of a model of the hub.

    Raises:
        ValueError: it is none.
    """
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", text, re.ASCII) is None or ".." in text:
        raise ValueError(f"{text!r}: expected the id of a model of the hub, such as `org/name`")
    return text


def hub_revision(text: str) -> str:
    """A branch, a tag or a commit of the hub.

    Raises:
        ValueError: it is none.
    """
    if re.fullmatch(r"[A-Za-z0-9][\w./+-]*", text, re.ASCII) is None or ".." in text:
        raise ValueError(f"{text!r}: expected a branch, a tag or a commit")
    return text


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _torch_backend(text: str) -> str:
    if re.fullmatch(r"auto|none|cpu|cu\d{2,3}|rocm\d+(\.\d+)*|xpu", text) is None:
        raise ValueError(f"{text!r}: expected `auto`, `none`, `cpu`, or a build for GPUs such as `cu128`")
    return text


OneLine = Annotated[str, AfterValidator(one_line)]
LabelKey = Annotated[str, AfterValidator(label_key)]
IndexUrl = Annotated[OneLine, AfterValidator(_index)]
FindLinks = Annotated[OneLine, AfterValidator(_links)]
IndexUrls = Annotated[tuple[IndexUrl, ...], BeforeValidator(_as_list)]
ModelTagText = Annotated[str, AfterValidator(_model_tag)]
PythonVersion = Annotated[str | None, BeforeValidator(_python_version)]
ProjectPath = Annotated[str, AfterValidator(project_path)]


class Env(FileModel):
    """A variable of the images: one without a value must be given when deploying."""

    name: Annotated[str, AfterValidator(environment_name)]
    value: OneLine = ""
    stage: Stage = "all"


class Python(FileModel):
    """The Python packages of the project."""

    packages: tuple[OneLine, ...] = ()
    requirements_txt: OneLine | None = None
    wheels: tuple[ProjectPath, ...] = Field(default=(), description="Wheels of the project.")
    extras: tuple[OneLine, ...] = Field(
        default=(), description="Of `[project.optional-dependencies]` in pyproject.toml."
    )
    dependency_groups: tuple[OneLine, ...] = Field(
        default=(), description="Of `[dependency-groups]` in pyproject.toml."
    )
    lock_packages: bool = Field(
        default=True,
        description="Whether each service gets a lock: every package with its version and hashes, found once "
        "when the Bento is built and kept until what it depends on changes. The project's uv.lock gives the "
        "versions where there is one. Without locks, versions are chosen when the images are built.",
    )
    index_url: IndexUrl | None = Field(
        default=None,
        description="Where packages are looked for. A password stands in it as `${NAME}`, a variable where "
        "the Bento and its images are built, and is in neither.",
    )
    extra_index_url: IndexUrls = ()
    find_links: Annotated[tuple[FindLinks, ...], BeforeValidator(_as_list)] = Field(
        default=(), description="Pages with links to packages, and folders of the project with wheels."
    )
    no_index: bool = Field(default=False, description="Whether packages come from `find_links` alone.")
    torch_backend: Annotated[str, AfterValidator(_torch_backend)] = Field(
        default="auto",
        description="Whose builds of torch and its relatives locks hold. `auto`: for services without a GPU "
        "those for a CPU, for others those for the CUDA of their base image; where the project or `UV_*` "
        "names an index, what that has. `none`: what the indexes have. Others, such as `cu126`: those for "
        "services with a GPU.",
    )
    pip_args: OneLine | None = Field(
        default=None, description="Options that a requirements.txt may have: `--only-binary :all:`."
    )
    trusted_host: Annotated[tuple[OneLine, ...], BeforeValidator(_as_list)] = Field(
        default=(), description="Without effect: certificates are checked, and `http://` needs no trust."
    )
    pack_git_packages: bool = Field(
        default=True, description="Without effect: images install them from their repositories."
    )
    is_src_layout: bool | None = Field(default=None, description="Without effect: `src` is looked into.")


class ServiceDocker(FileModel):
    """How an image is made."""

    python_version: PythonVersion = None
    base_image: Annotated[str, AfterValidator(_image_reference)] | None = Field(
        default=None,
        description="What the image stands on: Debian or Ubuntu, with Python or without.",
    )
    cuda_version: Annotated[str | None, BeforeValidator(_cuda_version)] = Field(
        default=None,
        description="The CUDA of the base of a service with a GPU; found by its packages when not given.",
    )
    system_packages: tuple[Annotated[str, AfterValidator(_system_package)], ...] = Field(
        default=(), description="Packages of Debian, on top of those that its Python packages need."
    )
    setup_script: ProjectPath | None = Field(
        default=None, description="A script of the project, run once the image has its packages."
    )
    dockerfile_template: ProjectPath | None = Field(
        default=None,
        description="A Jinja template of the project that extends `bento_base_template` by its blocks.",
    )


class Docker(ServiceDocker):
    """How all images are made."""

    distro: Annotated[Literal["debian"], BeforeValidator(_distro)] = "debian"
    env: Annotated[
        tuple[Env, ...],
        BeforeValidator(_variables),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "object", "additionalProperties": {"type": "string"}},
                    {"type": "array", "items": {"type": "string"}},
                    {"type": "string"},
                ]
            }
        ),
    ] = Field(
        default=(),
        description="Variables, as keys and values or as `NAME=value`; `envs`, which says more, wins.",
    )


def _or_text(schema: JsonDict) -> None:
    """Say in a schema that a text may stand in place of the object."""
    entry = dict(schema)
    schema.clear()
    schema["anyOf"] = [{"type": "string"}, entry]


class ModelEntry(FileModel):
    """A model, of the store by its tag or of the hub by its id.

    It is one that the code of a service names, or one more. As a text, the same without anything else.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_or_text)

    tag: ModelTagText | None = Field(default=None, description="Of the store: `name` or `name:version`.")
    model_id: Annotated[str, AfterValidator(_model_pattern)] | None = Field(
        default=None, description="Of the hub: `org/name`; with `*` in it, all such that services name."
    )
    revision: Annotated[str, AfterValidator(hub_revision)] | None = Field(
        default=None, description="A branch, a tag or a commit of the hub."
    )
    stage: ModelStage = Field(
        default="build",
        description="When it comes. `build`: the image holds it, in layers of its own. `start`: the service "
        "gets it when it starts, from a volume or folder that all replicas share.",
    )
    services: tuple[str, ...] = Field(
        default=(), description="Those that have it; where not given, those whose code names it, else all."
    )
    alias: ModelTagText | None = Field(default=None, description="Another name for `bentoml.models.get`.")

    @model_validator(mode="after")
    def _names_one_model(self) -> ModelEntry:
        if (self.tag is None) == (self.model_id is None):
            raise ValueError("expected `tag`, or `model_id` for one of the hub")
        if self.tag is not None and self.revision is not None:
            raise ValueError("`revision` goes with `model_id`; the version of a tag stands behind its `:`")
        if self.is_pattern and self.alias is not None:
            raise ValueError("`alias` is the name of one model, and `*` may mean several")
        return self

    @property
    def is_pattern(self) -> bool:
        """Whether it is for any number of models that services name."""
        return "*" in (self.model_id or "")

    def __str__(self) -> str:
        return self.tag or f"{self.model_id}{f'@{self.revision}' if self.revision else ''}"


class ServicePython(FileModel):
    """Python packages of one service, on top of those that its slice holds."""

    packages: tuple[OneLine, ...] = ()
    exclude: tuple[OneLine, ...] = Field(
        default=(), description="Names of requirements that this service does without."
    )


class ServiceBuild(FileModel):
    """How one service is built."""

    python: ServicePython = ServicePython()
    slim: bool = Field(
        default=True,
        description="Whether it holds the requirements that its code reaches alone; otherwise it holds all.",
    )
    python_version: PythonVersion = Field(
        default=None, description="Of this service, over `docker.python_version`."
    )
    docker: ServiceDocker = Field(
        default=ServiceDocker(),
        description="How its image is made: over what `docker` says, and system packages on top of those.",
    )


class Bentofile(FileModel):
    """The whole file. Fields that it does not name have the values that are shown here."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="bentofile.yaml")

    service: Annotated[str, AfterValidator(_service_string)] = Field(
        description="The service that receives users' requests: `module:Class`."
    )
    name: Annotated[str, AfterValidator(_bento_name)] | None = Field(
        default=None, description="Name of the Bento; the entry service's name in snake_case when not given."
    )
    description: str | None = None
    labels: dict[LabelKey, OneLine] = Field(default={}, description="Put in bento.yaml and on every image.")
    include: tuple[Annotated[OneLine, AfterValidator(_relative_pattern)], ...] = Field(
        default=("*",), description="Files of the project that go into the Bento, as gitignore patterns."
    )
    exclude: tuple[Annotated[OneLine, AfterValidator(_relative_pattern)], ...] = ()
    models: tuple[Annotated[ModelEntry, BeforeValidator(_model_entry)], ...] = Field(
        default=(), description="Models beside those that services name in their code, and when each comes."
    )
    envs: tuple[Env, ...] = ()
    args: dict[str, Annotated[object, AfterValidator(json_value)]] = Field(
        default={},
        description="What `bentoml.use_arguments` returns in the services: names and plain values.",
    )
    python: Python = Python()
    docker: Docker = Docker()
    conda: Annotated[None, BeforeValidator(_no_conda)] = Field(
        default=None, description="Not read: packages come from an index of Python packages."
    )
    services: dict[str, ServiceBuild] = Field(
        default={}, description="What differs for one service, by its name."
    )


def read_bentofile(project: Path) -> YamlFile:
    """The project's bentofile, not checked yet; where it has none, its pyproject.toml or its `service.py`.

    Raises:
        NotFoundError: the folder has none of them.
        InputError: it is no YAML, or no TOML.
    """
    if not project.is_dir():
        raise NotFoundError(
            f"{shown(project)}: no such folder", hint="name the folder that holds `bentofile.yaml`"
        )
    default = project / f"{_DEFAULT_MODULE}.py"
    is_default = default.is_file()
    if not (project / FILE_NAME).exists():
        if has_build_table(project):
            file = read_build_table(project)
            said = file.data if isinstance(file.data, dict) else {}
            return replace(file, data={"service": _DEFAULT_MODULE, **said}) if is_default else file
        if is_default:
            return YamlFile(default, {"service": _DEFAULT_MODULE}, {})
    hint = f'write one in {shown(project)}: `service: "module:Class"` is enough'
    return load_yaml(project / FILE_NAME, missing_hint=hint)


def bentofile_for(project: Path, service: str) -> YamlFile:
    """What the project says of itself, with `service` as the entry; the entry alone where it says nothing.

    Raises:
        InputError: the file is no YAML, or no TOML.
    """
    if not (project / FILE_NAME).exists() and not has_build_table(project):
        return YamlFile(Path(service), {"service": service}, {})
    file = read_bentofile(project)
    said = file.data if isinstance(file.data, dict) else {}
    # No line of the file says so.
    lines = {location: line for location, line in file.lines.items() if location != ("service",)}
    return replace(file, data={**said, "service": service}, lines=lines)
