"""Which images a Bento is to have, which of them are built, and what is said of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from bento_cli.commands._image_progress import Lines, Plain, Silent
from bento_cli.commands.containerize import as_data, row
from bento_cli.console import Console
from bento_cli.containerize import (
    INPUTS_LABEL,
    ContainerizeOptions,
    as_base_images,
    containerize,
    name_of,
    plan_images,
    platform_notes,
    replaced_images,
)
from bento_cli.engine import (
    BuildOptions,
    BuildProgress,
    Built,
    Container,
    EngineFacts,
    Image,
    ImageBuild,
)
from bento_cli.errors import BentoError, EngineError
from bento_cli.store.bento import Bento, Manifest, ManifestDependency, ManifestLock, ManifestService

DOCKERFILE = """\
FROM python:3.11-slim AS python
FROM python AS packages
COPY --from=ghcr.example/uv:1 /uv /usr/local/bin/uv
FROM python
COPY --from=packages /tree/ /
"""

MakeBento = Callable[..., Bento]


class FakeEngine:
    """Keeps what it builds, unless it pushes it, and what it was asked for."""

    def __init__(self) -> None:
        self.images: dict[str, Image] = {}
        self.asked: list[list[str]] = []
        self.checked: list[list[bool]] = []

    def check(self) -> EngineFacts:
        return EngineFacts(version="28.0", has_gpu=False)

    def build(
        self, images: Sequence[ImageBuild], progress: BuildProgress, options: BuildOptions
    ) -> dict[str, Built]:
        self.asked.append([image.name for image in images])
        self.checked.append([image.arguments["CHECK"] == "imported" for image in images])
        for image in images if not options.push else ():
            self.images[image.tags[0]] = Image(
                reference=image.tags[0],
                identifier=f"sha256:{image.name}",
                size=5_000_000,
                labels=image.labels,
            )
        return {image.name: Built(digest="sha256:pushed", seconds=2, is_cached=False) for image in images}

    def image(self, reference: str) -> Image | None:
        return self.images.get(reference)

    def has_image(self, labels: Mapping[str, str]) -> bool:
        return any(image.labels.items() >= labels.items() for image in self.images.values())

    def file(self, image: Image, path: str) -> bytes | None:
        return b"3000000 opencv_python\n1000 numpy\n"

    def containers(self, labels: object) -> list[Container]:
        raise NotImplementedError

    def log_tail(self, container: Container, lines: int) -> str:
        raise NotImplementedError

    def compose(self, folder: Path, *arguments: str) -> None:
        raise NotImplementedError


@pytest.fixture
def bento(tmp_path: Path) -> MakeBento:
    """`bento("Cart", "Shop")`: a Bento of these services, the last of which calls the others."""

    def make(*names: str, requirements: str = "numpy\n", secrets: tuple[str, ...] = ()) -> Bento:
        edges = tuple(ManifestDependency(attribute=name.lower(), service=name) for name in names[:-1])
        services = tuple(
            ManifestService(
                name=name,
                target=f"service:{name}",
                base_image="python:3.11-slim",
                base_reason="asks for no GPU",
                python_version="3.11",
                dependencies=edges if name == names[-1] else (),
                secrets=secrets,
            )
            for name in names
        )
        manifest = Manifest(
            service=f"service:{names[-1]}",
            name="shop",
            version="v1",
            bentoml_version="0",
            creation_time="",
            entry_service=names[-1],
            services=services,
        )
        files = {"src/service.py": "", "runtime/bentoml/__init__.py": ""}
        for name in names:
            files[f"services/{name}/Dockerfile"] = DOCKERFILE
            files[f"services/{name}/requirements.txt"] = requirements
        for file, text in files.items():
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text(text)
        return Bento(tmp_path, manifest)

    return make


def test_each_service_has_an_image_of_its_own_dependencies_first(bento: MakeBento) -> None:
    builds = plan_images(bento("Cart", "Shop"))

    assert [(build.name, *build.tags) for build in builds] == [
        ("Cart", "shop/cart:v1"),
        ("Shop", "shop/shop:v1"),
    ]


def test_an_image_keeps_its_own_name_beside_others(bento: MakeBento) -> None:
    [build] = plan_images(bento("Shop"), ContainerizeOptions(names=("host:5000/mine:2",)))

    assert build.tags == ("host:5000/mine:2", "shop/shop:v1")


def test_images_that_are_there_and_made_of_the_same_are_not_built(bento: MakeBento) -> None:
    engine, made = FakeEngine(), bento("Cart", "Shop")

    first, again = (containerize(made, engine, Silent()) for _ in range(2))

    assert engine.asked == [["Cart", "Shop"]]
    assert [built.is_cached for built in (*first, *again)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("file", "rebuilt"),
    [
        ("services/Cart/requirements.txt", ["Cart"]),
        ("services/Shop/Dockerfile", ["Shop"]),
        ("src/service.py", ["Cart", "Shop"]),
        ("src/other.py", ["Cart", "Shop"]),
        ("runtime/bentoml/__init__.py", ["Cart", "Shop"]),
    ],
)
def test_an_image_is_built_again_when_what_goes_into_it_changes(
    bento: MakeBento, file: str, rebuilt: list[str]
) -> None:
    engine, made = FakeEngine(), bento("Cart", "Shop")
    containerize(made, engine, Silent())
    (made.path / file).write_text("changed")

    containerize(made, engine, Silent())

    assert engine.asked[1:] == [rebuilt]


@pytest.mark.parametrize(
    "options",
    [
        ContainerizeOptions(base_images={"python": "mirror/python"}),
        ContainerizeOptions(build=BuildOptions(platforms=("linux/arm64",))),
        ContainerizeOptions(build=BuildOptions(use_cache=False)),
        ContainerizeOptions(build=BuildOptions(pull=True)),
        ContainerizeOptions(names=("registry.example/shop",)),
    ],
)
def test_an_image_is_built_again_when_it_is_to_be_made_otherwise(
    bento: MakeBento, options: ContainerizeOptions
) -> None:
    engine, made = FakeEngine(), bento("Shop")
    containerize(made, engine, Silent())

    containerize(made, engine, Silent(), options)

    assert engine.asked == [["Shop"], ["Shop"]]


SERVICE = """
import numpy

class Shop:
    def buy(self):
        return 1
"""


@pytest.mark.parametrize(
    ("old", "new", "is_tried"),
    [
        ("", "# a comment", False),
        ("return 1", "return 2", False),
        ("return 1", "import torch", True),
        ("import numpy", "import torch", True),
        ("class Shop:", "class Shop(numpy.Shop):", True),
        ("class Shop:", "class Shop", True),
    ],
)
def test_a_service_is_imported_again_when_what_runs_while_it_loads_changes(
    bento: MakeBento, old: str, new: str, is_tried: bool
) -> None:
    engine, made = FakeEngine(), bento("Shop")
    for text in (SERVICE, SERVICE.replace(old, new, 1)):
        (made.source / "service.py").write_text(text)
        containerize(made, engine, Silent())

    assert engine.checked == [[True], [is_tried]]


def test_a_service_is_imported_again_when_its_packages_change(bento: MakeBento) -> None:
    engine = FakeEngine()
    for requirements in ("numpy", "torch"):
        containerize(bento("Cart", "Shop", requirements=requirements), engine, Silent())

    assert engine.checked == [[True, True], [True, True]]


def test_no_service_is_imported_where_the_caller_says_so(bento: MakeBento) -> None:
    engine = FakeEngine()

    containerize(bento("Shop"), engine, Silent(), ContainerizeOptions(imports_services=False))

    assert engine.checked == [[False]]


def test_the_same_inputs_give_the_same_label_wherever_the_bento_lies(
    bento: MakeBento, tmp_path: Path
) -> None:
    made = bento("Shop")
    copied = replace(made, path=tmp_path.rename(tmp_path.with_name("elsewhere")))

    labels = [plan_images(made)[0].labels for made in (copied, bento("Shop"))]

    assert labels[0] == labels[1]
    assert labels[0][INPUTS_LABEL].startswith("sha256:")


def test_an_engine_that_does_not_keep_what_it_builds_is_an_error(bento: MakeBento) -> None:
    engine = FakeEngine()
    engine.image = lambda reference: None  # type: ignore[method-assign]

    with pytest.raises(EngineError, match="is not there"):
        containerize(bento("Shop"), engine, Silent())


def test_of_images_that_are_pushed_the_registrys_digest_is_told(bento: MakeBento) -> None:
    options = ContainerizeOptions(names=("host:5000/shop:2",), build=BuildOptions(push=True))

    [built] = containerize(bento("Shop"), FakeEngine(), Silent(), options)

    assert row(built) == ["Shop", "host:5000/shop:2", "–", "2.0 s", "built", "sha256:pushed", "–"]


def test_an_image_that_is_here_under_a_pushed_name_is_not_taken_for_the_pushed_one(bento: MakeBento) -> None:
    options = ContainerizeOptions(names=("host:5000/shop:2",), build=BuildOptions(push=True))
    engine = FakeEngine()
    engine.images["host:5000/shop:2"] = Image(
        reference="host:5000/shop:2", identifier="sha256:pulled", size=1, labels={}
    )

    [built] = containerize(bento("Shop"), engine, Silent(), options)

    assert built.image.digest == "sha256:pushed"


def test_a_platform_is_one_that_a_builder_knows(bento: MakeBento) -> None:
    options = ContainerizeOptions(build=BuildOptions(platforms=("arm64",)))

    with pytest.raises(BentoError, match="'arm64' is no platform, such as `linux/arm64`"):
        plan_images(bento("Shop"), options)


def test_a_lock_for_another_platform_is_told_of(bento: MakeBento) -> None:
    made = bento("Shop")
    lock = ManifestLock(python_version="3.11", platform="linux/amd64", packages={})
    service = made.manifest.services[0].model_copy(update={"lock": lock})
    locked = replace(made, manifest=made.manifest.model_copy(update={"services": (service,)}))

    [note] = platform_notes(locked, ("linux/amd64", "linux/arm64/v8"))

    assert note.startswith("Shop has a lock for linux/amd64: ")
    assert "`bento build --platform linux/arm64/v8`" in note


def test_pushing_needs_a_name_that_says_where_to(bento: MakeBento) -> None:
    with pytest.raises(BentoError, match="needs to know where to") as caught:
        plan_images(bento("Shop"), ContainerizeOptions(build=BuildOptions(push=True)))

    assert caught.value.hint == "name it: `-t REGISTRY/shop:v1 --push`"


def test_an_image_is_told_with_its_largest_packages(bento: MakeBento) -> None:
    [built] = containerize(bento("Shop"), FakeEngine(), Silent())

    assert row(built)[-1] == "opencv-python 3 MB, numpy 0.0 MB"
    assert as_data(built)["packages"] == {"opencv-python": 3_000_000, "numpy": 1000}


@pytest.mark.parametrize(
    ("name", "services", "expected"),
    [
        ("shop", ["Shop"], "shop:latest"),
        ("host:5000/team/shop:1.2", ["Shop"], "host:5000/team/shop:1.2"),
        ("host:5000/team/shop:1.2", ["Shop", "BigCart"], "host:5000/team/shop/shop:1.2"),
    ],
)
def test_a_name_stands_for_one_image_or_for_those_of_all_services(
    name: str, services: list[str], expected: str
) -> None:
    assert name_of(name, services[0], services) == expected


@pytest.mark.parametrize(
    "name", ["", "Shop:1", "shop:", "a b", "a@sha256:00", "shop:1\n", "$(id)", "-a", "a//b:.x"]
)
def test_what_names_no_image_is_refused(name: str) -> None:
    with pytest.raises(BentoError, match="no name of an image"):
        name_of(name, "Shop", ["Shop"])


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, {}),
        ({"python:3.11-slim": "mine:1"}, {"python:3.11-slim": "mine:1"}),
        ({"python": "mirror:5000/python"}, {"python:3.11-slim": "mirror:5000/python:3.11-slim"}),
        ({"ghcr.example/": "mirror/"}, {"ghcr.example/uv:1": "mirror/uv:1"}),
        ({"ghcr.example/": "a/", "ghcr.example/uv": "b"}, {"ghcr.example/uv:1": "b:1"}),
        ({"packages": "x"}, {}),
    ],
)
def test_other_images_stand_in_for_those_that_a_dockerfile_names(
    rules: dict[str, str], expected: dict[str, str]
) -> None:
    assert replaced_images(DOCKERFILE, rules) == expected


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("python", "a b", "'a b' is no image"), ("a/", "b", "both end with `/`"), ("", "b", "'' is no image")],
)
def test_a_rule_that_names_no_image_is_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(BentoError, match=message):
        as_base_images([(old, new)])


def test_secrets_are_named_to_the_builder_and_their_values_are_not(
    bento: MakeBento, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INDEX_PASSWORD", "xyzzy")

    [build] = plan_images(bento("Shop", secrets=("INDEX_PASSWORD",)))

    assert build.secrets == ("INDEX_PASSWORD",)
    assert "xyzzy" not in repr(build)


def test_a_secret_without_a_value_is_named_before_anything_is_built(bento: MakeBento) -> None:
    with pytest.raises(BentoError, match="packages of Shop are installed with NOWHERE_SET"):
        containerize(bento("Shop", secrets=("NOWHERE_SET",)), FakeEngine(), Silent())


def test_a_time_that_is_none_is_refused(bento: MakeBento, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")

    with pytest.raises(BentoError, match="SOURCE_DATE_EPOCH='yesterday': expected seconds"):
        plan_images(bento("Shop"))


def tell(progress: BuildProgress) -> None:
    progress.step("Cart", "RUN pip")
    progress.output("Cart", "found it")
    progress.step_done("Cart", "RUN pip", 2.5)
    progress.step_done("Cart", "COPY a b", 0.1)
    progress.step("Shop", "COPY src")
    progress.done("Cart", 3)


def test_without_a_terminal_what_took_its_time_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Plain(Console(), shows_output=False))

    assert capsys.readouterr().err.splitlines() == ["  Cart: RUN pip (2.5 s)", "  Cart is built (3.0 s)"]


def test_all_that_steps_write_is_shown_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Plain(Console(), shows_output=True))

    assert capsys.readouterr().err.splitlines() == [
        "  Cart: RUN pip",
        "  Cart | found it",
        "  Shop: COPY src",
        "  Cart is built (3.0 s)",
    ]


def test_on_a_terminal_each_image_has_one_line() -> None:
    lines = Lines()
    tell(lines)
    terminal = RichConsole(file=io.StringIO(), width=60)

    with terminal.capture() as shown:
        terminal.print(lines)

    cart, shop = (line.split() for line in shown.get().splitlines())
    assert cart == ["✓", "Cart", "3.0", "s", "built"]
    assert shop[1] == "Shop"
    assert shop[-2:] == ["COPY", "src"]
