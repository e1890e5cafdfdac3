"""Bento → images: one for each service, built in one go, and none where nothing has changed."""

from __future__ import annotations

import ast
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

from packaging.utils import canonicalize_name

from bento_cli.engine import Builder, BuildOptions, BuildProgress, Built, Image, ImageBuild
from bento_cli.errors import BentoError, EngineError
from bento_cli.image import ENVIRONMENT_FOLDER, LABEL_PREFIX, SIZES_NAME
from bento_cli.names import kebab_case
from bento_cli.store.bento import Bento

# What stands for all that an image was made of, and for all that its import ran and ran with.
INPUTS_LABEL: Final = f"{LABEL_PREFIX}inputs"
IMPORTED_LABEL: Final = f"{LABEL_PREFIX}imported"

BASE_IMAGE_MAP: Final = "BENTOML_BASE_IMAGE_MAP"
"""`IMAGE=OTHER`, with spaces between several: what stands in for base images where nothing else says it."""

# What the builder stamps on an image and on its files unless the caller's environment says otherwise.
_EPOCH: Final = "SOURCE_DATE_EPOCH"
# The stage of a Dockerfile that says whether its service can be imported.
_CHECK: Final = "CHECK"
_IMPORTED: Final = "IMPORTED"
_AT_ONCE: Final = 8
_REPOSITORY: Final = r"(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"
_PLATFORM: Final = r"[a-z0-9]+/[a-z0-9_]+(?:/[a-z0-9]+)?"
_TAG: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"

BaseImages: TypeAlias = Mapping[str, str]
"""What stands in for base images: whole references, repositories, or beginnings that end with `/`."""


@dataclass(frozen=True, kw_only=True)
class ContainerizeOptions:
    """What a caller may say about the images of a Bento.

    Args:
        names: that the images get as well, as `names_of` spells them out; those alone when they are pushed.
        base_images: what stands in for images that the Dockerfiles name.
        imports_services: whether each image is tried by importing its service once; again only when something
            changed that an import runs or needs.
    """

    names: tuple[str, ...] = ()
    base_images: BaseImages = field(default_factory=dict)
    imports_services: bool = True
    build: BuildOptions = field(default_factory=BuildOptions)


AS_USUAL: Final = ContainerizeOptions()


def options_to_run(*, imports_services: bool = True) -> ContainerizeOptions:
    """How images are made for whoever deploys them: base images as the environment says.

    Raises:
        BentoError: what it says names no image.
    """
    pairs = (text.partition("=") for text in os.environ.get(BASE_IMAGE_MAP, "").split())
    base_images = as_base_images([(old, new) for old, _, new in pairs])
    return ContainerizeOptions(base_images=base_images, imports_services=imports_services)


@dataclass(frozen=True, kw_only=True)
class ServiceImage:
    """The image of one service.

    Args:
        seconds: that its build took, steps that it shares with others included.
        is_cached: whether it was there already, or every step of it.
        sizes: bytes by package, the largest first.
    """

    service: str
    image: Image
    seconds: float = 0
    is_cached: bool = False
    sizes: Mapping[str, int] = field(default_factory=dict)


def plan_images(bento: Bento, options: ContainerizeOptions = AS_USUAL) -> list[ImageBuild]:
    """One build for each service, dependencies first.

    Raises:
        BentoError: a name cannot name images, or there is nowhere to push to.
    """
    if options.build.push and not options.names:
        raise BentoError("`--push` needs to know where to", hint=f"name it: `-t REGISTRY/{bento.tag} --push`")
    for platform in options.build.platforms:
        if re.fullmatch(_PLATFORM, platform) is None:
            raise BentoError(f"{platform!r} is no platform, such as `linux/arm64`")
    shared = tuple(_digest(_files(folder)) for folder in (bento.source, bento.path / "runtime"))
    return [_plan_image(bento, node.name, shared, options) for node in bento.graph]


def _plan_image(
    bento: Bento, service: str, shared: tuple[str, ...], options: ContainerizeOptions
) -> ImageBuild:
    """The build of one service's image; `shared` stands for what all of them hold."""
    folder = f"services/{service}"
    said = bento.service(service)
    dockerfile, requirements = (
        (bento.path / folder / name).read_text(encoding="utf-8")
        for name in ("Dockerfile", "requirements.txt")
    )
    base_images = replaced_images(dockerfile, options.base_images)
    epoch = _epoch()
    inputs = (
        *shared,
        dockerfile,
        requirements,
        _digest(_files(bento.path / folder / "build")),
        repr(sorted(base_images.items())),
        repr(sorted(options.build.platforms)),
        epoch,
    )
    services = list(bento.graph.services)
    own = () if options.build.push else (bento.tag.image(service),)
    return ImageBuild(
        name=service,
        context=bento.path,
        dockerfile=f"{folder}/Dockerfile",
        tags=tuple(dict.fromkeys([*(name_of(name, service, services) for name in options.names), *own])),
        labels={INPUTS_LABEL: _digest(inputs)},
        arguments={_EPOCH: epoch},
        base_images=base_images,
        secrets=(*said.secrets, *(name for name in said.hub_secrets if os.environ.get(name))),
    )


def platform_notes(bento: Bento, platforms: Sequence[str]) -> list[str]:
    """Services whose lock is for another platform than their images are to be for."""
    locks = [(service.name, service.lock) for service in bento.manifest.services if service.lock]
    return [
        f"{name} has a lock for {lock.platform}: packages that others need may be missing for {platform}; "
        f"`bento build --platform {platform}` makes a Bento for it"
        for name, lock in locks
        for platform in platforms
        if platform.split("/")[:2] != lock.platform.split("/")[:2]
    ]


def name_of(name: str, service: str, services: Sequence[str]) -> str:
    """What an image is called besides its own name: `name` itself where a Bento has one service.

    With several, the service stands between repository and tag: `registry/shop:1` → `registry/shop/cart:1`.

    Raises:
        BentoError: `name` is none of an image.
    """
    if re.fullmatch(f"{_REPOSITORY}(?::{_TAG})?", name) is None:
        raise BentoError(f"{name!r} is no name of an image, such as `registry.example/shop:1.2`")
    repository, tag = _split(name)
    if len(services) > 1:
        repository = f"{repository}/{kebab_case(service)}"
    return f"{repository}:{tag or 'latest'}"


def replaced_images(dockerfile: str, base_images: BaseImages) -> dict[str, str]:
    """The images that a Dockerfile stands on, by their names there, where others stand in for them."""
    named = re.findall(r"^(?:FROM |COPY --from=)(\S+)", dockerfile, re.MULTILINE)
    stages = re.findall(r"^FROM \S+ AS (\S+)", dockerfile, re.MULTILINE)
    found = ((name, _replaced(name, base_images)) for name in dict.fromkeys(named) if name not in stages)
    return {name: other for name, other in found if other != name}


def _replaced(name: str, base_images: BaseImages) -> str:
    """The most exact rule decides: the whole name, its repository, then the longest beginning."""
    if name in base_images:
        return base_images[name]
    repository, tag = _split(name)
    if repository in base_images:
        return f"{base_images[repository]}:{tag}" if tag else base_images[repository]
    beginnings = [old for old in base_images if old.endswith("/") and name.startswith(old)]
    if not beginnings:
        return name
    old = max(beginnings, key=len)
    return base_images[old] + name.removeprefix(old)


def as_base_images(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Rules for base images, checked.

    Raises:
        BentoError: one of them names no image.
    """
    for old, new in pairs:
        for text in (old, new):
            if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*", text) is None:
                raise BentoError(
                    f"{text!r} is no image, such as `python:3.11-slim-bookworm` or `mirror.example/`"
                )
        if old.endswith("/") != new.endswith("/"):
            raise BentoError(f"`{old}={new}`: both end with `/`, or neither")
    return dict(pairs)


def containerize(
    bento: Bento,
    engine: Builder,
    progress: BuildProgress,
    options: ContainerizeOptions = AS_USUAL,
) -> list[ServiceImage]:
    """Build the images that the Bento's services run as, those whose inputs have changed.

    Raises:
        BentoError: the options do not fit the Bento, or a secret has no value.
        EngineError: a step failed; holds its output.
    """
    builds = plan_images(bento, options)
    # What is pushed is built again, from what the builder kept: it alone knows what the registry has.
    may_skip = options.build.use_cache and not options.build.pull and not options.build.push
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        found = list(pool.map(lambda build: _unchanged(build, engine), builds)) if may_skip else []
        there = {build.name: image for build, image in zip(builds, found, strict=False) if image is not None}
        missing = [build for build in builds if build.name not in there]
        built = {}
        if missing:
            _require_secrets(missing)
            _stamp(bento.source, int(_epoch()))
            code = (*loading_code(bento.source), *_files(bento.path / "runtime"))
            loaded = _digest(code) if options.imports_services else None
            missing = list(pool.map(lambda build: _checked(build, loaded, engine, may_skip), missing))
            built = engine.build(missing, progress, options.build)
        return list(
            pool.map(lambda build: _service_image(build, there, built, engine, options.build), builds)
        )


def _checked(build: ImageBuild, loaded: str | None, engine: Builder, may_skip: bool) -> ImageBuild:
    """The build with what is to be found out by importing the service: nothing that is known already.

    Args:
        loaded: what stands for the code that importing runs; None where nothing is to be found out.
    """
    if loaded is None:
        return replace(build, arguments={**build.arguments, _CHECK: "unchecked"})
    dockerfile = (build.context / build.dockerfile).read_text(encoding="utf-8")
    steps = [line for line in dockerfile.splitlines() if not line.startswith(("#", "LABEL "))]
    requirements = (
        (build.context / build.dockerfile).with_name("requirements.txt").read_text(encoding="utf-8")
    )
    digest = _digest([*steps, requirements, repr(sorted(build.base_images.items())), loaded])
    label = {IMPORTED_LABEL: digest}
    # Said even where the Dockerfile says the same: some builders look no further for stages that they need.
    is_known = may_skip and engine.has_image(label)
    check = {_CHECK: "unchecked"} if is_known else {_CHECK: "imported", _IMPORTED: digest}
    return replace(build, arguments={**build.arguments, **check}, labels={**build.labels, **label})


def loading_code(folder: Path) -> Iterator[str]:
    """What of a project's Python code runs while it is imported: all but the insides of functions.

    What functions import is in it: one of them may be called while another module loads.
    """
    for path in sorted(folder.rglob("*.py")):
        yield path.relative_to(folder).as_posix()
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            yield _digest([path.read_bytes().hex()])
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                imports = (
                    inner for inner in ast.walk(node) if isinstance(inner, ast.Import | ast.ImportFrom)
                )
                node.body = list(imports)
        yield ast.dump(tree)


def _stamp(folder: Path, epoch: int) -> None:
    """Give sources the time that they are to have in images, so that the same ones give the same layer."""
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def _unchanged(build: ImageBuild, engine: Builder) -> Image | None:
    """The image, where it is there under all its names and was made of the same."""
    images = [engine.image(tag) for tag in build.tags]
    wanted = build.labels[INPUTS_LABEL]
    same = [image for image in images if image is not None and image.labels.get(INPUTS_LABEL) == wanted]
    return same[0] if len(same) == len(images) else None


def _service_image(
    build: ImageBuild,
    there: Mapping[str, Image],
    built: Mapping[str, Built],
    engine: Builder,
    options: BuildOptions,
) -> ServiceImage:
    how = built.get(build.name) or Built(digest="", seconds=0, is_cached=True)
    image = there.get(build.name) or engine.image(build.tags[0])
    if options.push and image is not None:
        # What is here may be another that somebody has pulled; what the registry says names what was pushed.
        is_pushed = image.labels.get(INPUTS_LABEL) == build.labels[INPUTS_LABEL]
        image = replace(image, pushed_digest=how.digest) if is_pushed else None
    if image is None and not options.push:
        raise EngineError(
            f"{build.tags[0]} was built and is not there", hint="does the builder load its images?"
        )
    return ServiceImage(
        service=build.name,
        image=image or Image(reference=build.tags[0], identifier=how.digest, size=None, labels=build.labels),
        seconds=how.seconds,
        is_cached=how.is_cached,
        sizes=_sizes(engine.file(image, f"{ENVIRONMENT_FOLDER}/{SIZES_NAME}")) if image else {},
    )


def _sizes(held: bytes | None) -> dict[str, int]:
    """What an image says of its packages' sizes; the names as indexes write them."""
    lines = (line.split(" ", 1) for line in (held or b"").decode(errors="replace").splitlines())
    return {canonicalize_name(name): int(size) for size, name in lines if size.isdigit()}


def _require_secrets(builds: Sequence[ImageBuild]) -> None:
    for build in builds:
        missing = [name for name in build.secrets if not os.environ.get(name)]
        if missing:
            raise BentoError(
                f"packages of {build.name} are installed with {', '.join(missing)}, which has no value here",
                hint=f"export {missing[0]}=…; it is handed to the builder as a secret, and no image holds it",
            )


def _epoch() -> str:
    """Seconds that all times in an image are to be."""
    text = os.environ.get(_EPOCH, "0")
    if re.fullmatch(r"[0-9]{1,11}", text) is None:
        raise BentoError(f"{_EPOCH}={text!r}: expected seconds since 1970")
    return text


def _split(name: str) -> tuple[str, str]:
    """Repository and tag of an image's name; no tag where it has none."""
    folder, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    return f"{folder}{slash}{last}", tag


def _files(folder: Path) -> Iterator[str]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        yield f"{path.relative_to(folder).as_posix()} {path.stat().st_mode:o} {content}"


def _digest(texts: Iterator[str] | Sequence[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogateescape")
        digest.update(f"{len(data)}:".encode() + data)
    return f"sha256:{digest.hexdigest()}"
