"""`bentofile.yaml`: how a project is built."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import pathspec
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from bento_cli.arguments import json_value
from bento_cli.errors import NotFoundError, shown
from bento_cli.names import BENTO_NAME_RULE, is_bento_name
from bento_cli.pyproject import has_build_table, read_build_table
from bento_cli.yaml_file import YamlFile, load_yaml
from bento_templates import label_key, one_line
from bentoml._environment import is_reserved
from bentoml._loader import names_file

FILE_NAME = "bentofile.yaml"
_DEFAULT_MODULE = "service"

Stage = Literal["all", "build", "runtime"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _torch_backend(text: str) -> str:
    if re.fullmatch(r"auto|none|cpu|cu\d{2,3}|rocm\d+(\.\d+)*|xpu", text) is None:
        raise ValueError(f"{text!r}: expected `auto`, `none`, `cpu`, or a build for GPUs such as `cu128`")
    return text


OneLine = Annotated[str, AfterValidator(one_line)]
LabelKey = Annotated[str, AfterValidator(label_key)]
IndexUrl = Annotated[OneLine, AfterValidator(_index)]
IndexUrls = Annotated[tuple[IndexUrl, ...], BeforeValidator(_as_list)]
PythonVersion = Annotated[str | None, BeforeValidator(_python_version)]


class Env(_Model):
    """A variable of the images: one without a value must be given when deploying."""

    name: Annotated[str, AfterValidator(environment_name)]
    value: OneLine = ""
    stage: Stage = "all"


class Python(_Model):
    """The Python packages of the project."""

    packages: tuple[OneLine, ...] = ()
    requirements_txt: OneLine | None = None
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
    find_links: IndexUrls = ()
    no_index: bool = Field(default=False, description="Whether packages come from `find_links` alone.")
    torch_backend: Annotated[str, AfterValidator(_torch_backend)] = Field(
        default="auto",
        description="Whose builds of torch and its relatives locks hold. `auto`: for services without a GPU "
        "those for a CPU, for others those for the CUDA of their base image; where the project or `UV_*` "
        "names an index, what that has. `none`: what the indexes have. Others, such as `cu126`: those for "
        "services with a GPU.",
    )


class Docker(_Model):
    """What all images have in common."""

    python_version: PythonVersion = None
    base_image: Annotated[str, AfterValidator(_image_reference)] | None = None
    system_packages: tuple[Annotated[str, AfterValidator(_system_package)], ...] = ()


class ServicePython(_Model):
    """Python packages of one service, on top of those that its slice holds."""

    packages: tuple[OneLine, ...] = ()
    exclude: tuple[OneLine, ...] = Field(
        default=(), description="Names of requirements that this service does without."
    )


class ServiceBuild(_Model):
    """How one service is built."""

    python: ServicePython = ServicePython()
    slim: bool = Field(
        default=True,
        description="Whether it holds the requirements that its code reaches alone; otherwise it holds all.",
    )
    python_version: PythonVersion = Field(
        default=None, description="Of this service, over `docker.python_version`."
    )


class Bentofile(_Model):
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
    envs: tuple[Env, ...] = ()
    args: dict[str, Annotated[object, AfterValidator(json_value)]] = Field(
        default={},
        description="What `bentoml.use_arguments` returns in the services: names and plain values.",
    )
    python: Python = Python()
    docker: Docker = Docker()
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
