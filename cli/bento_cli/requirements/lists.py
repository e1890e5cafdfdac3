"""What a project lists: requirements, where they are looked for, and versions to keep to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from bento_cli.errors import InputError, Problem, shown
from bento_cli.project.bentofile import Bentofile, is_url, require_no_password
from bento_cli.project.pyproject import PYPROJECT, named_dependencies, project_dependencies, uv_indexes
from bento_cli.requirements.forms import is_wheel, local_wheel, with_name
from bento_cli.yaml_file import YamlFile, read_text
from bentoml.images import Image

# Lines of a requirements.txt that are no requirements, by the names that are written out.
_SHORT_OPTIONS: Final = {
    "-c": "--constraint",
    "-e": "--editable",
    "-f": "--find-links",
    "-i": "--index-url",
    "-r": "--requirement",
}
_INDEX_OPTIONS: Final = frozenset({"--index-url", "--extra-index-url", "--find-links"})
_WHICH_FILES: Final = frozenset({"--no-binary", "--only-binary"})
# What is so anyway: locks have hashes, and wheels come first.
_NOT_NEEDED: Final = frozenset({"--prefer-binary", "--require-hashes", "--use-pep517"})
_INSTEAD: Final = {
    "--pre": "a requirement that names a pre-release, such as `numpy>=3.0rc1`, may be one",
    "--trusted-host": "an index is asked with `http://`, or with a certificate that can be checked",
}
_REQUIREMENTS_TXT: Final = "requirements.txt"
_UV_LOCK: Final = "uv.lock"


@dataclass(frozen=True)
class Line:
    """One requirement as the project wrote it.

    Args:
        hashes: of the files that may be installed for it; any file where there are none.
        place: where it stands.
        why: a service holds it, where more than its source says so.
        wheel: the file of the project that it is.
    """

    text: str
    name: str
    hashes: tuple[str, ...] = ()
    place: Problem | None = field(default=None, compare=False)
    wheel: Path | None = field(default=None, compare=False)
    why: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What a project lists: requirements, where they are looked for, and versions to keep to.

    Args:
        constraints: versions and hashes of distributions, for those that are needed at all.
        wheels: of the project, which are found for whoever requires them.
    """

    lines: tuple[Line, ...]
    options: tuple[str, ...] = ()
    wheels: tuple[Path, ...] = ()
    constraints: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()

    def wheels_of(self, held: Collection[str]) -> list[Path]:
        """Those that an image with these requirements may be made of."""
        own = (line.wheel for line in self.lines if line.wheel is not None and line.text in held)
        return sorted({*self.wheels, *own})


def project_requirements(
    root: Path, bentofile: Bentofile, file: YamlFile, *, images_list: bool = False
) -> Listed:
    """What `python.requirements_txt`, or else `python.packages`, lists.

    Where the bentofile has neither, it is the dependencies in pyproject.toml, or else requirements.txt.

    Args:
        images_list: whether `image=` of a service lists packages, so that those files are not what is meant.

    Raises:
        InputError: a file that is not there, and lines that are no requirements, each with its place.
    """
    python = bentofile.python
    options = [f"--index-url {python.index_url}"] if python.index_url else []
    options += [f"--extra-index-url {url}" for url in python.extra_index_url]
    options += [f"--find-links {url}" for url in python.find_links if is_url(url)]
    options += ["--no-index"] if python.no_index else []
    reader = _RequirementsReader(root)
    for i, folder in enumerate(python.find_links):
        if not is_url(folder):
            reader.add_wheels(root / folder, file.problem(("python", "find_links", i), ""))
    reader.read_options(python.pip_args or "", file.problem(("python", "pip_args"), ""))
    notes = []
    if python.trusted_host:
        notes.append(
            "`python.trusted_host` has no effect: certificates are checked, `http://` needs no trust"
        )
    if not options and (indexes := uv_indexes(root)):
        options = _checked(indexes)
        notes.append(f"packages are looked for where `[[tool.uv.index]]` of {PYPROJECT} says")
    path, place = python.requirements_txt, file.problem(("python", "requirements_txt"), "")
    if path is None:
        places = [file.problem(("python", "packages", i), "") for i in range(len(python.packages))]
        texts = list(zip(python.packages, places, strict=True))
        if not texts and not images_list and (texts := project_dependencies(root)):
            notes.append(f"packages are the dependencies in {PYPROJECT}, as {file.path.name} lists none")
        if texts or images_list or not (root / _REQUIREMENTS_TXT).is_file():
            reader.add(texts)
        else:
            path = _REQUIREMENTS_TXT
            notes.append(f"packages are those of {path}, as {file.path.name} lists none")
    elif python.packages:
        notes.append(
            f"{file.path.name}: `python.packages` is not read, as `python.requirements_txt` names a file"
        )
    if path is not None:
        reader.read(root / path, place)
    reader.add(
        [(f"./{path}", file.problem(("python", "wheels", i), "")) for i, path in enumerate(python.wheels)]
    )
    for key, table, names in (
        ("extras", "project.optional-dependencies", python.extras),
        ("dependency_groups", "dependency-groups", python.dependency_groups),
    ):
        asked = [(name, file.problem(("python", key, i), "")) for i, name in enumerate(names)]
        reader.add(named_dependencies(root, table, asked))
    lines, constraints = reader.parsed()
    if python.index_url:  # there is one index that all others come on top of
        reader.options = [option for option in reader.options if not option.startswith("--index-url ")]
    return Listed(
        lines=tuple(lines),
        options=tuple(dict.fromkeys([*options, *reader.options])),
        constraints=tuple(dict.fromkeys(constraints)),
        wheels=tuple(dict.fromkeys(reader.wheels)),
        notes=tuple(notes),
    )


def image_requirements(root: Path, image: Image, why: str, place: Problem) -> Listed:
    """What `image=` of a service lists.

    Args:
        why: what its service holds that for.
        place: where the service says it.

    Raises:
        InputError: a file that is not there, and lines that are no requirements.
    """
    reader = _RequirementsReader(root)
    reader.read_lines(image.python_requirements, place)
    for method, arguments in image.steps:
        match method:
            case "python_packages":
                reader.read_lines("\n".join(arguments), place)
            case "requirements_file":
                reader.read(root / arguments[0], place)
            case "pyproject_toml" | "uv_lock" if arguments in ((PYPROJECT,), (_UV_LOCK,)):
                reader.lines += parse_requirement(project_dependencies(root))
            case "pyproject_toml" | "uv_lock":
                message = f"`{method}({arguments[0]!r})`: the project's own file is read, and no other"
                reader.problems.append(replace(place, message=message))
    lines, constraints = reader.parsed()
    return Listed(
        lines=tuple(replace(line, why=why) for line in lines),
        options=tuple(dict.fromkeys(reader.options)),
        wheels=tuple(dict.fromkeys(reader.wheels)),
        constraints=tuple(dict.fromkeys(constraints)),
    )


def with_images(listed: Listed, images: Mapping[str, Listed]) -> Listed:
    """What a project lists, with what its services list in `image=`: others may need some of that, too.

    Raises:
        InputError: two of them say differently where all packages are looked for first.
    """
    lines, options = list(listed.lines), list(listed.options)
    problems = []
    for service, told in images.items():
        names = {line.name for line in lines}
        lines += (line for line in told.lines if line.name not in names)
        first = next((option for option in options if option.startswith("--index-url ")), None)
        for option in told.options:
            if first is not None and option.startswith("--index-url ") and option != first:
                place = next(line.place for line in told.lines if line.place is not None)
                message = (
                    f"`image` of {service} has {option!r}, and the project {first!r}: there is one index"
                )
                problems.append(replace(place, message=message))
        options += told.options
    if problems:
        raise InputError(problems)
    return replace(
        listed,
        lines=tuple(lines),
        options=tuple(dict.fromkeys(options)),
        wheels=tuple(
            dict.fromkeys([*listed.wheels, *(path for told in images.values() for path in told.wheels)])
        ),
        constraints=tuple(
            dict.fromkeys([*listed.constraints, *(c for told in images.values() for c in told.constraints)])
        ),
    )


def _checked(indexes: Sequence[tuple[str, str, Problem]]) -> list[str]:
    """Lines of a requirements.txt that say where packages are looked for."""
    problems = [
        replace(place, message=message)
        for option, url, place in indexes
        if (message := _url_problem(option, url)) is not None
    ]
    if problems:
        raise InputError(problems)
    return [f"{option} {url}" for option, url, _ in indexes]


def _url_problem(option: str, url: str) -> str | None:
    if not is_url(url):
        return f"`{option}`: expected a URL, found {url!r}: a folder is not in the image"
    try:
        require_no_password(url)
    except ValueError as error:
        return f"`{option}`: {error}"
    return None


@dataclass
class _RequirementsReader:
    """Reads a requirements.txt, and those that it names with `-r` and `-c`.

    Of a file that a resolver wrote, what is there for the sake of others is a constraint: which services need
    it is for those to say.
    """

    root: Path
    lines: list[Line] = field(default_factory=list)
    constraints: list[Line] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    wheels: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    seen: set[tuple[Path, bool]] = field(default_factory=set)
    required_by: dict[str, set[str]] = field(default_factory=dict)

    def parsed(self) -> tuple[list[Line], list[Line]]:
        """The requirements, and the constraints."""
        if self.problems:
            raise InputError(self.problems)
        names = {line.name for line in self.lines}
        brought = {name for name, by in self.required_by.items() if by <= names}
        lines = [line for line in self.lines if line.name not in brought]
        return lines, [*self.constraints, *(line for line in self.lines if line.name in brought)]

    def add(self, texts: Sequence[tuple[str, Problem]]) -> None:
        """Requirements that stand in no file of their own."""
        try:
            self.lines += parse_requirement(texts, self.root)
        except InputError as error:
            self.problems += error.problems

    def add_wheels(self, folder: Path, place: Problem) -> None:
        """All wheels of a folder of the project."""
        root, folder = self.root.resolve(), folder.resolve()
        if not folder.is_dir() or not folder.is_relative_to(root):
            message = f"`find_links`: expected a URL or a folder of the project, found {shown(folder)!r}"
            self.problems.append(replace(place, message=message))
        paths = sorted(path for path in folder.glob("*.whl") if is_wheel(path.name))
        self.wheels += [path.relative_to(root) for path in paths if path.is_relative_to(root)]

    def read_options(self, text: str, place: Problem) -> None:
        """Options as on pip's command line."""
        for option in re.findall(r"-\S+(?:\s+[^-\s]\S*)*", text):
            self._read_option(*_option(option), place, are_constraints=False)

    def read(self, path: Path, named_by: Problem, *, are_constraints: bool = False) -> None:
        if not path.resolve().is_relative_to(self.root.resolve()):
            self.problems.append(replace(named_by, message=f"{path.name!r} leads out of the project"))
        elif not path.is_file():
            self.problems.append(replace(named_by, message=f"names {shown(path)}, which is no file"))
        elif (path.resolve(), are_constraints) not in self.seen:
            self.seen.add((path.resolve(), are_constraints))
            content = read_text(path)
            self.required_by.update(_required_by(content))
            for number, text in _logical_lines(content):
                self._read_line(text, Problem(path, number, ""), are_constraints)

    def read_lines(self, text: str, place: Problem) -> None:
        """Lines that stand in no file of their own; `place` is where a file that they name is looked for."""
        for _, line in _logical_lines(text):
            self._read_line(line, place, are_constraints=False)

    def _read_line(self, text: str, place: Problem, are_constraints: bool) -> None:
        if text.startswith("-"):
            self._read_option(*_option(text), place, are_constraints)
            return
        requirement, *options = re.split(r"\s--(?=[a-z])", text)
        hashes, others = _hashes(options)
        for name in others:
            message = f"`--{name}` of {requirement.strip()!r} is not read here; `--hash` is"
            self.problems.append(replace(place, message=message))
        try:
            [line] = parse_requirement([(requirement, place)], self.root, place.path.parent)
        except InputError as error:
            self.problems += error.problems
        else:
            into = self.constraints if are_constraints else self.lines
            into.append(replace(line, hashes=hashes or line.hashes))

    def _read_option(self, option: str, value: str, place: Problem, are_constraints: bool) -> None:
        if option == "--requirement":
            self.read(place.path.parent / value, place, are_constraints=are_constraints)
        elif option == "--constraint":
            self.read(place.path.parent / value, place, are_constraints=True)
        elif option == "--editable":
            self._read_line(value, place, are_constraints)
        elif option == "--no-index" and not value:
            self.options.append(option)
        elif option in _NOT_NEEDED:
            pass
        elif option in _WHICH_FILES and re.fullmatch(r":all:|:none:|[\w.-]+(,[\w.-]+)*", value):
            self.options.append(f"{option} {value}")
        elif option not in _INDEX_OPTIONS:
            known = ", ".join(["-c", "-r", *sorted({*_INDEX_OPTIONS, *_WHICH_FILES, "--no-index"})])
            message = _INSTEAD.get(option, f"what is: {known}")
            self.problems.append(replace(place, message=f"`{option}` is not read here; {message}"))
        elif option == "--find-links" and "://" not in value:
            self.add_wheels(place.path.parent / value, place)
        elif (instead := _url_problem(option, value)) is not None:
            self.problems.append(replace(place, message=instead))
        else:
            self.options.append(f"{option} {value}")


def _hashes(options: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The hashes among the options of a requirement, and the names of others."""
    pairs = [re.split(r"[=\s]", option.strip(), maxsplit=1) for option in options]
    hashes = tuple(pair[1].strip() for pair in pairs if pair[0] == "hash" and len(pair) > 1)
    return hashes, [pair[0] for pair in pairs if pair[0] != "hash"]


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, each with its number; a backslash at the end joins the next."""
    pending, start = "", 0
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        start = start if pending else number
        line = pending + re.sub(r"(^|\s)#.*$", "", raw)
        pending = line[:-1] if line.endswith("\\") else ""
        if not line.endswith("\\") and line.strip():
            yield start, line.strip()


def _required_by(text: str) -> Iterator[tuple[str, set[str]]]:
    """For each distribution of a file that pip-compile or uv wrote, who requires it, by its comments."""
    entry = r"^([\w.-]+)[^#\n]*(?:\n[ \t]+--hash.*)*\s+# via(.*(?:\n[ \t]+#   .*)*)"
    for match in re.finditer(entry, text, re.MULTILINE):
        names = (name.strip(" #\t") for name in re.split(r"[,\n]", match[2]))
        # The name of another file or of the project itself is that of no distribution here.
        yield (
            canonicalize_name(match[1]),
            {canonicalize_name(name.partition("[")[0]) for name in names if name},
        )


def _option(text: str) -> tuple[str, str]:
    """`-r file`, `--requirement file` and `--requirement=file` alike."""
    match = re.fullmatch(r"(--[a-z-]+|-[a-z])\s*=?\s*(.*)", text)
    option, value = (match[1], match[2]) if match else (text, "")
    return _SHORT_OPTIONS.get(option, option), value


def parse_requirement(
    lines: Sequence[tuple[str, Problem]], root: Path | None = None, folder: Path | None = None
) -> list[Line]:
    """Lines as they are written, each with its place.

    Args:
        root: the project, of whose wheels a line may be one.
        folder: what a path in a line starts from; `root` where there is none.
    """
    parsed: list[Line] = []
    problems: list[Problem] = []
    for text, place in lines:
        try:
            require_no_password(text)
            own = local_wheel(text, root, folder or root) if root is not None else None
            requirement = own[0] if own else with_name(text.strip())
            line = Line(requirement, canonicalize_name(Requirement(requirement).name), place=place)
            if own and root is not None:
                digest = hashlib.sha256((root / own[1]).read_bytes()).hexdigest()
                line = replace(line, hashes=(f"sha256:{digest}",), wheel=own[1])
            parsed.append(line)
        except InvalidRequirement as error:
            reason = str(error).splitlines()[0]
            message = f"{text!r} is no requirement such as `numpy>=2`: {reason}"
            problems.append(replace(place, message=message))
        except ValueError as error:
            problems.append(replace(place, message=str(error)))
    if problems:
        raise InputError(problems)
    return parsed
