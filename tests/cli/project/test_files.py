"""Which files of a project go into its Bento."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.cli.conftest import WriteProject

from bento_cli.errors import InputError
from bento_cli.project.bentofile import Bentofile
from bento_cli.project.files import project_files

FilesOf = Callable[..., list[str]]


@pytest.fixture
def files_of(project: WriteProject) -> FilesOf:
    """`files_of("a.py", "b/c.py", include=[...])`: those of these files that go into the Bento."""

    def find(*names: str, ignore: dict[str, str] | None = None, **fields: list[str]) -> list[str]:
        root = project({**dict.fromkeys(names, ""), **(ignore or {})})
        bentofile = Bentofile.model_validate({"service": "a:B", **fields})
        return [path.as_posix() for path in project_files(root, bentofile)]

    return find


def test_all_files_go_in_unless_something_is_said(files_of: FilesOf) -> None:
    assert files_of("b.py", "a/c.txt", ".hidden") == [".hidden", "a/c.txt", "b.py"]


def test_secrets_of_a_developers_machine_stay_there(files_of: FilesOf) -> None:
    assert files_of("b.py", ".env", "a/.env") == ["b.py"]


def test_include_is_read_as_gitignore_patterns(files_of: FilesOf) -> None:
    names = ("a.py", "b/a.py", "b/c.txt", "models/x.bin", "d.txt")

    assert files_of(*names, include=["/a.py", "b/", "!b/a.py"]) == ["a.py", "b/c.txt"]


def test_exclude_wins_over_include(files_of: FilesOf) -> None:
    assert files_of("a.py", "tests/b.py", include=["*.py"], exclude=["tests/"]) == ["a.py"]


def test_the_bentofile_itself_always_goes_in(files_of: FilesOf) -> None:
    assert files_of("bentofile.yaml", "a.py", "b.py", include=["a.py"]) == ["a.py", "bentofile.yaml"]


def test_environments_and_caches_never_go_in(files_of: FilesOf) -> None:
    names = (".venv/a.py", "venv/b.py", ".git/c", "x/__pycache__/d.pyc", "x/.DS_Store", "x/e.py")

    assert files_of(*names, include=["*", ".venv/"], exclude=["!.venv/"]) == ["x/e.py"]


def test_an_ignore_file_holds_for_its_folder_and_what_is_below(files_of: FilesOf) -> None:
    found = files_of(
        "a.csv",
        "data/a.csv",
        "data/b.txt",
        "data/deep/a.csv",
        "other/a.csv",
        ignore={"data/.bentoignore": "*.csv\n# a comment\n", "other/.bentoignore": ".bentoignore\n"},
    )

    assert found == ["a.csv", "data/.bentoignore", "data/b.txt", "other/a.csv"]


def test_the_innermost_ignore_file_wins(files_of: FilesOf) -> None:
    found = files_of(
        "a.csv",
        "data/a.csv",
        "data/b.csv",
        ignore={".bentoignore": "*.csv\n.bentoignore\n", "data/.bentoignore": "!a.csv\n"},
    )

    assert found == ["data/a.csv"]


def test_a_folder_that_is_ignored_is_not_entered(files_of: FilesOf) -> None:
    found = files_of("data/a.csv", "b.py", ignore={".bentoignore": "data/\n!data/a.csv\n.bentoignore"})

    assert found == ["b.py"]


def test_links_are_left_out(project: WriteProject) -> None:
    root = project({"a.py": "", "../secret/key": "x"})
    (root / "key").symlink_to(root.parent / "secret" / "key")
    (root / "secret").symlink_to(root.parent / "secret")

    assert project_files(root, Bentofile(service="a:B")) == [(root / "a.py").relative_to(root)]


def test_a_pattern_that_is_none_is_shown_with_its_line(files_of: FilesOf) -> None:
    with pytest.raises(InputError) as caught:
        files_of("a.py", ignore={"data/.bentoignore": "*.csv\n!\n"})

    assert caught.value.message == "data/.bentoignore:2: '!' is no pattern as in a .gitignore"


def test_an_ignore_file_that_is_no_text_is_refused(project: WriteProject) -> None:
    root = project({"a.py": ""})
    (root / ".bentoignore").write_bytes(b"\xff")

    with pytest.raises(InputError, match=r"\.bentoignore:1: not UTF-8"):
        project_files(root, Bentofile(service="a:B"))
