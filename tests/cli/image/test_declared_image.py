"""What a project says of the image of one service, with `image=` and in its bentofile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import WriteProject, load_bentofile

from bento_cli.errors import InputError, Problem
from bento_cli.image.declared import DeclaredImage, Step, declared_image, unused_notes
from bentoml.images import Image

Declared = Callable[..., DeclaredImage]

IMAGE = "`image` of Entry"


@pytest.fixture
def declared(project: WriteProject) -> Declared:
    """`declared(Image().run("ls"), docker="{...}", own="{...}")`: what such a project says of `Entry`."""

    def declare(
        image: Image | None = None,
        *,
        docker: str = "{}",
        own: str = "{}",
        files: dict[str, str] | None = None,
    ) -> DeclaredImage:
        text = f"service: service:Entry\ndocker: {docker}\nservices: {{Entry: {{docker: {own}}}}}\n"
        root = project({"bentofile.yaml": text, **(files or {})})
        bentofile, file = load_bentofile(root)
        at = Problem(root / "service.py", 3, "")
        return declared_image(
            root, "Entry", bentofile, file, image, lambda message: Problem(at.path, at.line, message)
        )

    return declare


def problems(declare: Callable[[], object]) -> list[str]:
    with pytest.raises(InputError) as caught:
        declare()
    return [str(problem) for problem in caught.value.problems]


def test_a_project_that_says_nothing_declares_nothing(declared: Declared) -> None:
    assert declared() == DeclaredImage()


@pytest.mark.parametrize(
    ("image", "docker", "own", "base_image", "source"),
    [
        (Image("a"), "{}", "{}", "a", IMAGE),
        (Image("a"), "{base_image: b}", "{}", "b", "docker.base_image of bentofile.yaml"),
        (
            *(Image("a"), "{base_image: b}", "{base_image: c}", "c"),
            "services.Entry.docker.base_image of bentofile.yaml",
        ),
    ],
)
def test_the_file_wins_over_the_source_and_one_service_over_all(
    declared: Declared, image: Image, docker: str, own: str, base_image: str, source: str
) -> None:
    said = declared(image, docker=docker, own=own)

    assert (said.base_image, said.base_source) == (base_image, source)


def test_a_service_may_have_a_python_of_its_own(declared: Declared) -> None:
    image = Image(python_version="3.10")

    assert declared(image).python_version == "3.10"
    assert declared(image, docker="{python_version: '3.11'}").python_version == "3.11"
    assert declared(image, own="{python_version: '3.12'}").python_version == "3.12"


def test_system_packages_add_up(declared: Declared) -> None:
    image = Image().system_packages("git", "curl")

    packages = declared(
        image, docker="{system_packages: [curl]}", own="{system_packages: [jq]}"
    ).system_packages

    assert packages == {
        "git": IMAGE,
        "curl": "docker.system_packages of bentofile.yaml",
        "jq": "services.Entry.docker.system_packages of bentofile.yaml",
    }


def test_commands_are_run_before_python_packages_or_after_as_they_are_told(declared: Declared) -> None:
    image = Image().run("a").run("b; $c").python_packages("numpy").run("d\ne")

    said = declared(image)

    assert said.system_steps == (Step(command="a"), Step(command="b; $c"))
    assert said.steps == (Step(command="d\ne"),)


def test_system_packages_that_need_a_command_come_after_it(declared: Declared) -> None:
    image = Image().system_packages("curl").run("add-source").system_packages("from-there")

    said = declared(image)

    assert said.system_packages == {"curl": IMAGE}
    assert said.system_steps == (Step(command="add-source"), Step(packages=("from-there",)))


def test_a_script_and_what_it_needs_are_there_while_it_runs(declared: Declared) -> None:
    image = Image().build_include("data", "one.txt").run_script("./scripts/setup.sh")
    files = {"data/a/b.txt": "", "data/.git/config": "", "one.txt": "", "scripts/setup.sh": ""}

    said = declared(image, files=files)

    assert said.files == ("data/a/b.txt", "one.txt", "scripts/setup.sh")
    assert said.system_steps == (Step(script="scripts/setup.sh"),)


def test_the_setup_script_comes_last(declared: Declared) -> None:
    image = Image().python_packages("numpy").run("a")

    said = declared(image, docker="{setup_script: setup.sh}", files={"setup.sh": ""})

    assert said.steps == (Step(command="a"), Step(script="setup.sh"))


def test_an_image_may_say_that_its_packages_are_not_locked(declared: Declared) -> None:
    assert not declared(Image(lock_python_packages=False)).locks_packages


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (Image("a b"), "`base_image`: 'a b' is no image reference such as `python:3.11-slim`"),
        (
            Image(distro="alpine"),
            "`distro`: 'alpine': images stand on `debian`, for which nearly all packages",
        ),
        (Image(python_version="3.9"), "`python_version`: '3.9' is too old: the runtime needs 3.10 or newer"),
        (Image().system_packages("a;b"), "`system_packages`: 'a;b' is no name of a Debian package"),
        (Image().run("a").system_packages("$(id)"), "`system_packages`: '$(id)' is no name of a Debian"),
        (Image().run("a\0b"), "`run`: expected text, found a NUL in it"),
        (Image().run_script("/etc/passwd"), "`run_script`: '/etc/passwd': expected a path in the project"),
        (Image().run_script("../x.sh"), "`run_script`: '../x.sh': expected a path in the project"),
        (Image().run_script("missing.sh"), "`run_script`: 'missing.sh' is no file of the project"),
        (Image().build_include("missing"), "`build_include`: 'missing' is no file and no folder with files"),
    ],
)
def test_what_no_image_can_be_made_of_is_said_where_it_is_told(
    declared: Declared, image: Image, problem: str
) -> None:
    [found] = problems(lambda: declared(image))

    assert found.startswith(f"service.py:3: {IMAGE}, {problem}")


def test_all_problems_of_an_image_come_at_once(declared: Declared) -> None:
    image = Image("a b", distro="ubi8").run("\0").run_script("..")

    assert len(problems(lambda: declared(image))) == 4


def test_a_script_of_the_bentofile_that_is_not_there_is_said_with_its_line(declared: Declared) -> None:
    assert problems(lambda: declared(docker="{setup_script: no.sh}")) == [
        "bentofile.yaml:2: `docker.setup_script`: 'no.sh' is no file of the project"
    ]


def test_a_link_is_no_file_of_the_project(declared: Declared, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("#!/bin/sh")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "setup.sh").symlink_to(tmp_path / "secret")

    [problem] = problems(lambda: declared(own="{setup_script: setup.sh}"))

    assert problem.endswith("`services.Entry.docker.setup_script`: 'setup.sh' leads through a link")


def test_a_folder_behind_a_link_is_not_of_the_project(declared: Declared, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "data").symlink_to("/etc")

    [problem] = problems(lambda: declared(Image().build_include("data/passwd")))

    assert problem.endswith("`build_include`: 'data/passwd' leads through a link")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("FROM x", "Dockerfile.j2: expected `{% extends bento_base_template %}` as its beginning"),
        ("{% extends 'other' %}", "Dockerfile.j2:1: extends another template than `bento_base_template`"),
        ("{% extends bento_base_template %}\n{% if %}", "Dockerfile.j2:2: not a template: "),
        (
            "{% extends bento_base_template %}\n{% block SETUP_USER %}{% endblock %}",
            "Dockerfile.j2:2: no block 'SETUP_USER'; there are SETUP_BENTO_BASE_IMAGE, ",
        ),
        (
            "{% extends bento_base_template %}\n{{ secrets }}",
            "Dockerfile.j2: nothing is called 'secrets' here; known: bento__base_image, ",
        ),
    ],
)
def test_a_template_that_is_none_is_said_with_its_line(
    declared: Declared, template: str, problem: str
) -> None:
    files = {"Dockerfile.j2": template}

    [found] = problems(lambda: declared(docker="{dockerfile_template: Dockerfile.j2}", files=files))

    assert found.startswith(problem)


def test_a_cuda_that_nobody_asks_a_gpu_for_is_noted(project: WriteProject) -> None:
    root = project({"bentofile.yaml": "service: service:Entry\ndocker: {cuda_version: 12.4}\n"})
    bentofile, _ = load_bentofile(root)

    assert list(unused_notes(bentofile, has_gpu=True)) == []
    assert list(unused_notes(bentofile, has_gpu=False)) == [
        "`docker.cuda_version` is 12.4, and no service asks for a GPU: one that does says "
        '`@bentoml.service(resources={"gpu": 1})`'
    ]
