"""What a project says of the image of one service: with `image=`, and in its bentofile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from bento_cli.errors import InputError, Problem
from bento_cli.project.bentofile import Bentofile, Docker, ServiceBuild, ServiceDocker, project_path
from bento_cli.project.files import project_files
from bento_cli.yaml_file import YamlFile, in_words, read_text
from bento_templates import TemplateValueError, some_lines
from bento_templates.own_dockerfile import problem_of
from bentoml.images import Image

_LISTS_PACKAGES: Final = frozenset({"python_packages", "requirements_file", "pyproject_toml", "uv_lock"})


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that is done while an image is made; of its fields, one says what.

    Args:
        packages: of Debian, to be installed.
        command: for a shell.
        script: to be run, a path in the project.
    """

    packages: tuple[str, ...] = ()
    command: str = ""
    script: str = ""


@dataclass(frozen=True, kw_only=True)
class DeclaredImage:
    """What a project says of an image, whoever says it.

    Args:
        base_image: what it stands on, and `base_source` where that is said.
        system_packages: of Debian, each with where it is said.
        system_steps: what is done before its Python packages are there, and `steps` what is done afterwards.
        files: of the project, which are there while that is done.
        template: a Dockerfile of the project's own, for Jinja.
        locks_packages: whether the versions of its packages may be found when the Bento is built.
    """

    base_image: str | None = None
    base_source: str = ""
    python_version: str | None = None
    cuda_version: str | None = None
    system_packages: Mapping[str, str] = field(default_factory=dict)
    system_steps: tuple[Step, ...] = ()
    steps: tuple[Step, ...] = ()
    files: tuple[str, ...] = ()
    template: str | None = None
    locks_packages: bool = True


def declared_image(
    root: Path,
    service: str,
    bentofile: Bentofile,
    file: YamlFile,
    image: Image | None,
    at: Callable[[str], Problem],
) -> DeclaredImage:
    """What is said of one service's image.

    Args:
        image: what the service itself declares.
        at: makes a problem of the place where it does.

    Raises:
        InputError: everything in it that no image can be made of.
    """
    reader = _Reader(root, bentofile, service, at)
    told = reader.told(image or Image())
    build = bentofile.services.get(service, ServiceBuild())
    # The file wins over the source, and what it says of one service over what it says of all.
    layers: list[tuple[str, ServiceDocker]] = [
        (f"`image` of {service}", told),
        ("docker.{} of " + file.path.name, bentofile.docker),
        (f"services.{service}.docker.{{}} of {file.path.name}", build.docker),
    ]
    base_image, base_source = _last(layers, "base_image")
    setup = _place(file, service, build.docker.setup_script, "setup_script")
    template = _place(file, service, build.docker.dockerfile_template, "dockerfile_template")
    script, _ = _last(layers, "setup_script")
    reader.script(script, setup)
    text = reader.template(_last(layers, "dockerfile_template")[0], template)
    if reader.problems:
        raise InputError(reader.problems)
    return DeclaredImage(
        base_image=base_image,
        base_source=base_source,
        python_version=build.python_version or _last(layers, "python_version")[0],
        cuda_version=_last(layers, "cuda_version")[0],
        system_packages={
            package: source.format("system_packages")
            for source, docker in layers
            for package in docker.system_packages
        },
        system_steps=tuple(reader.system_steps),
        steps=tuple(reader.steps),
        files=tuple(sorted(reader.files)),
        template=text,
        locks_packages=image is None or image.lock_python_packages,
    )


def _last(layers: list[tuple[str, ServiceDocker]], name: str) -> tuple[str | None, str]:
    """The value of a field that wins, and where it is said."""
    said = [(getattr(docker, name), source.format(name)) for source, docker in layers]
    return next((pair for pair in reversed(said) if pair[0] is not None), (None, ""))


def _place(file: YamlFile, service: str, own: str | None, name: str) -> Callable[[str], Problem]:
    location = ("services", service, "docker", name) if own is not None else ("docker", name)
    return lambda message: file.problem(location, f"`{'.'.join(location)}`: {message}")


@dataclass
class _Reader:
    """Reads what a service's image was told, and the files of the project that are named."""

    root: Path
    bentofile: Bentofile
    service: str
    at: Callable[[str], Problem]
    system_steps: list[Step] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def told(self, image: Image) -> ServiceDocker:
        """What of `image=` a bentofile can say as well; the rest become steps and files."""
        packages: list[str] = []
        has_python_packages = bool(image.python_requirements)
        for method, arguments in image.steps:
            into = self.steps if has_python_packages else self.system_steps
            if method in _LISTS_PACKAGES:
                has_python_packages = True
            elif method == "system_packages" and not self.system_steps:
                packages += arguments
            elif method == "system_packages":
                self.system_steps.append(Step(packages=self._docker(Image(), arguments).system_packages))
            elif method == "run":
                self._command(arguments[0], into)
            elif method == "run_script":
                self._script(arguments[0], self._told_place(method), into)
            elif method == "build_include":
                for path in arguments:
                    self._include(path, self._told_place(method))
        return self._docker(image, packages)

    def script(self, path: str | None, place: Callable[[str], Problem]) -> None:
        """A script that is run once the packages are there."""
        if path is not None:
            self._script(path, place, self.steps)

    def template(self, path: str | None, place: Callable[[str], Problem]) -> str | None:
        """The text of the project's own Dockerfile."""
        if path is None or (found := self._file(path, place)) is None:
            return None
        text = read_text(found)
        if (problem := problem_of(text)) is not None:
            line, message = problem
            self.problems.append(Problem(found, line, message))
        return text

    def _docker(self, image: Image, packages: list[str] | tuple[str, ...]) -> ServiceDocker:
        said = {
            "distro": image.distro,
            "base_image": image.base_image or None,
            "system_packages": packages,
            **({} if image.python_version is None else {"python_version": image.python_version}),
        }
        try:
            return Docker.model_validate(said)
        except ValidationError as error:
            for item in error.errors():
                self._say(str(item["loc"][0]), in_words(item, Docker))
            return ServiceDocker()

    def _command(self, command: str, into: list[Step]) -> None:
        try:
            into.append(Step(command=some_lines(command)))
        except TemplateValueError as error:
            self._say("run", str(error))

    def _script(self, path: str, place: Callable[[str], Problem], into: list[Step]) -> None:
        found = self._file(path, place)
        if found is not None:
            name = found.relative_to(self.root).as_posix()
            self.files.add(name)
            into.append(Step(script=name))

    def _include(self, path: str, place: Callable[[str], Problem]) -> None:
        """A file, or all files of a folder but those that are never part of a project."""
        named = self._inside(path, place)
        if named is None:
            return
        if named.is_file():
            self.files.add(named.relative_to(self.root).as_posix())
            return
        folder = named.relative_to(self.root)
        everything = self.bentofile.model_copy(update={"include": ("*",), "exclude": ()})
        found = [file for file in project_files(self.root, everything) if file.is_relative_to(folder)]
        if not found:
            self.problems.append(place(f"{path!r} is no file and no folder with files in it"))
        self.files.update(file.as_posix() for file in found)

    def _file(self, path: str, place: Callable[[str], Problem]) -> Path | None:
        found = self._inside(path, place)
        if found is not None and not found.is_file():
            self.problems.append(place(f"{path!r} is no file of the project"))
            return None
        return found

    def _inside(self, path: str, place: Callable[[str], Problem]) -> Path | None:
        """The path below the project, where it leads nowhere else."""
        try:
            found = self.root / project_path(path)
        except ValueError as error:
            self.problems.append(place(str(error)))
            return None
        if found.resolve() != self.root.resolve() / found.relative_to(self.root):
            self.problems.append(place(f"{path!r} leads through a link"))
            return None
        return found

    def _told_place(self, method: str) -> Callable[[str], Problem]:
        return lambda message: self.at(f"`image` of {self.service}, `{method}`: {message}")

    def _say(self, what: str, message: str) -> None:
        self.problems.append(self._told_place(what)(message))


def unused_notes(bentofile: Bentofile, has_gpu: bool) -> Iterator[str]:
    """What is said of images and has no effect in this project."""
    if bentofile.docker.cuda_version is not None and not has_gpu:
        yield (
            f"`docker.cuda_version` is {bentofile.docker.cuda_version}, and no service asks for a GPU: one "
            'that does says `@bentoml.service(resources={"gpu": 1})`'
        )
