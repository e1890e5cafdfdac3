"""What a project may say about its packages besides their names, wherever it says it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Files, WriteProject

from bento_cli.build import plan_build
from bento_cli.errors import InputError
from bento_cli.project.bentofile import Bentofile, read_bentofile
from bento_cli.requirements.lists import Listed, project_requirements
from bento_cli.yaml_file import validate

ListedBy = Callable[[Files], Listed]

WHEEL = "wheels/my_words-1.0-py3-none-any.whl"
DIGEST = f"sha256:{hashlib.sha256(b'words').hexdigest()}"
PYPROJECT = """
    [project]
    name = "shop"
    dependencies = ["numpy"]

    [project.optional-dependencies]
    gpu = ["torch", "xformers; sys_platform == 'linux'"]

    [dependency-groups]
    web = ["httpx", {include-group = "Text_Tools"}]
    text-tools = ["regex", {include-group = "web"}]

    [tool.bentoml.build]
    service = "service:Entry"
    """
SERVICE = """
    import bentoml
    import my_words

    @bentoml.service
    class Entry: ...
    """


@pytest.fixture
def listed_by(project: WriteProject) -> ListedBy:
    """What a project of these files lists."""

    def find(files: Files) -> Listed:
        root = project({WHEEL: "words", **files})
        file = read_bentofile(root)
        return project_requirements(root, validate(file, Bentofile), file)

    return find


def refused(listed_by: ListedBy, files: Files) -> list[str]:
    with pytest.raises(InputError) as caught:
        listed_by(files)
    return [str(problem) for problem in caught.value.problems]


def test_extras_and_groups_of_a_project_are_listed_with_its_dependencies(listed_by: ListedBy) -> None:
    table = "\n    [tool.bentoml.build.python]\n    extras = ['GPU']\n    dependency_groups = ['web']\n"

    found = listed_by({"pyproject.toml": PYPROJECT + table})

    texts = [line.text for line in found.lines]
    assert texts == ["numpy", "torch", "xformers; sys_platform == 'linux'", "httpx", "regex"]


def test_a_bentofile_may_name_them_too(listed_by: ListedBy) -> None:
    bentofile = "service: service:Entry\npython: {packages: [pillow], extras: [gpu]}\n"

    found = listed_by({"pyproject.toml": PYPROJECT, "bentofile.yaml": bentofile})

    assert [line.name for line in found.lines] == ["pillow", "torch", "xformers"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "extras: [gpus]",
            "`project.optional-dependencies` of pyproject.toml has no 'gpus', did you mean `gpu`?",
        ),
        (
            "dependency_groups: [dev]",
            "`dependency-groups` of pyproject.toml has no 'dev'; names: text-tools, web",
        ),
        ("wheels: [wheels/other-1.0-py3-none-any.whl]", "there is no such file"),
        ("wheels: [../other-1.0-py3-none-any.whl]", "expected a path in the project"),
        ("find_links: [wheel]", "`find_links`: expected a URL or a folder of the project, found 'wheel'"),
        ("pip_args: --pre", "`--pre` is not read here; a requirement that names a pre-release"),
        ("pip_args: --index-url https://me:pass@host/simple", "holds a password"),
        ("packages: ['-e .']", "'-e .' is no requirement such as `numpy>=2`"),
        ("packages: [./wheels]", "of the project's own files images take wheels"),
    ],
)
def test_what_cannot_be_is_refused_at_its_line(listed_by: ListedBy, said: str, expected: str) -> None:
    bentofile = f"service: service:Entry\npython:\n  {said}\n"

    [problem] = refused(listed_by, {"pyproject.toml": PYPROJECT, "bentofile.yaml": bentofile})

    assert problem.startswith("bentofile.yaml:3: ")
    assert expected in problem
    assert "pass" not in problem.replace("password", "")


def test_extras_of_no_pyproject_are_refused(listed_by: ListedBy) -> None:
    [problem] = refused(listed_by, {"bentofile.yaml": "service: a:B\npython: {extras: [gpu]}\n"})

    assert problem == "bentofile.yaml:2: names what pyproject.toml lists, and there is no such file"


def test_options_of_pip_are_those_of_a_requirements_file(listed_by: ListedBy) -> None:
    arguments = (
        "--extra-index-url https://host/cpu -f https://host/w.html --only-binary=:all: --no-binary a,b"
    )
    bentofile = f"service: a:B\npython:\n  pip_args: '{arguments} --prefer-binary'\n"

    assert listed_by({"bentofile.yaml": bentofile}).options == (
        "--extra-index-url https://host/cpu",
        "--find-links https://host/w.html",
        "--only-binary :all:",
        "--no-binary a,b",
    )


def test_settings_that_change_nothing_here_may_stay(listed_by: ListedBy) -> None:
    python = "pack_git_packages: false, is_src_layout: true, trusted_host: [host], packages: [numpy]"

    found = listed_by({"bentofile.yaml": f"service: a:B\npython: {{{python}}}\n"})

    assert found.notes == (
        "`python.trusted_host` has no effect: certificates are checked, `http://` needs no trust",
    )


@pytest.mark.parametrize(
    "files",
    [
        {"bentofile.yaml": f"service: service:Entry\npython: {{wheels: [{WHEEL}]}}\n"},
        {"bentofile.yaml": f"service: service:Entry\npython: {{packages: [./{WHEEL}]}}\n"},
        {"bentofile.yaml": "service: service:Entry\n", "requirements.txt": f"./{WHEEL}\n"},
        {"bentofile.yaml": "service: service:Entry\n", "requirements.txt": f"{WHEEL} --hash={DIGEST}\n"},
        {
            "bentofile.yaml": "service: service:Entry\n",
            "requirements.txt": "my-words==1.0\n--find-links wheels",
        },
        {
            "bentofile.yaml": "service: service:Entry\n"
            "python: {packages: [my-words==1.0], find_links: [wheels]}\n"
        },
    ],
)
def test_a_wheel_of_the_project_is_where_packages_are_installed(project: WriteProject, files: Files) -> None:
    plan = plan_build(project({WHEEL: "words", "service.py": SERVICE, **files}))

    image = plan.images["Entry"]
    assert "my-words==1.0" in image.requirements
    assert (image.wheels, image.index_options[-1:]) == ((WHEEL,), ("--find-links /build/wheels",))


def test_no_other_file_is_taken_for_a_wheel_of_the_project(listed_by: ListedBy) -> None:
    found = listed_by({"bentofile.yaml": f"service: a:B\npython: {{wheels: [{WHEEL}]}}\n"})

    assert [(line.text, line.hashes) for line in found.lines] == [("my-words==1.0", (DIGEST,))]


def test_a_wheel_that_the_bento_does_not_hold_is_refused(project: WriteProject) -> None:
    bentofile = f"service: service:Entry\npython:\n  wheels: [{WHEEL}]\nexclude: ['*.whl']\n"
    root = project({WHEEL: "words", "service.py": SERVICE, "bentofile.yaml": bentofile})

    with pytest.raises(InputError, match=rf"bentofile\.yaml:3: {WHEEL} is no part of the Bento"):
        plan_build(root)


def test_a_service_without_it_has_no_wheel(project: WriteProject) -> None:
    bentofile = f"service: service:Entry\npython: {{wheels: [{WHEEL}]}}\n"
    service = "import bentoml\n\n@bentoml.service\nclass Leaf:\n    def words(self): import my_words\n\n"
    entry = "@bentoml.service\nclass Entry:\n    leaf = bentoml.depends(Leaf)\n"
    root = project({WHEEL: "words", "service.py": service + entry, "bentofile.yaml": bentofile})

    images = plan_build(root).images

    assert [images[name].wheels for name in ("Leaf", "Entry")] == [(WHEEL,), ()]


def test_a_repository_is_installed_with_git(project: WriteProject) -> None:
    bentofile = "service: service:Entry\npython: {packages: ['git+https://host/my-words.git@v1']}\n"
    root = project({"service.py": SERVICE, "bentofile.yaml": bentofile})

    image = plan_build(root).images["Entry"]

    assert "my-words @ git+https://host/my-words.git@v1" in image.requirements
    assert image.build_packages == ("git",)


def test_files_are_written_alike_on_every_machine(project: WriteProject, tmp_path: Path) -> None:
    bentofile = f"service: service:Entry\npython: {{wheels: [{WHEEL}]}}\n"
    plan = plan_build(project({WHEEL: "words", "service.py": SERVICE, "bentofile.yaml": bentofile}))

    assert str(tmp_path) not in repr((plan.images, plan.requirements))
