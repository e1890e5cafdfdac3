"""What pip takes as a requirement, and what an image is made with then."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bento_cli.requirements.forms import build_packages, local_wheel, with_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("numpy>=2", "numpy>=2"),
        ("mine @ https://host/mine-1.0.tar.gz", "mine @ https://host/mine-1.0.tar.gz"),
        (
            "git+https://host/org/Mine.git@v1.2#egg=mine[all]",
            "mine[all] @ git+https://host/org/Mine.git@v1.2#egg=mine[all]",
        ),
        (
            "git+https://host/mine.git@main#subdirectory=python",
            "mine @ git+https://host/mine.git@main#subdirectory=python",
        ),
        ("git+ssh://git@host/org/mine.git", "mine @ git+ssh://git@host/org/mine.git"),
        (
            "https://host/my_words-1.0-py3-none-any.whl#sha256=aa",
            "my-words @ https://host/my_words-1.0-py3-none-any.whl#sha256=aa",
        ),
        ("https://host/words-1.0.tar.gz", "words @ https://host/words-1.0.tar.gz"),
        (
            "https://host/words-1.0.zip ; python_version < '3.12'",
            "words @ https://host/words-1.0.zip ; python_version < '3.12'",
        ),
    ],
)
def test_a_url_alone_gets_its_name(text: str, expected: str) -> None:
    assert with_name(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".", "'.': the project itself is in every image; list what it requires"),
        (".[gpu]", "'.[gpu]': the project itself is in every image"),
        ("hg+https://host/mine", "'hg+https://host/mine': images are made of repositories of git alone"),
        ("https://host/archive/main.zip", "does not say what it is: write `NAME @ https://host/archive/"),
    ],
)
def test_what_no_image_can_be_made_with_says_what_to_write(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        with_name(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a wheel, its version a local one."""
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "my_words-1.0+cpu-py3-none-any.whl").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "./wheels/my_words-1.0+cpu-py3-none-any.whl",
        "wheels/my_words-1.0+cpu-py3-none-any.whl",
        "file:wheels/my_words-1.0%2Bcpu-py3-none-any.whl",
        "my-words @ file:./wheels/my_words-1.0+cpu-py3-none-any.whl",
    ],
)
def test_a_wheel_of_the_project_is_required_by_its_version(root: Path, text: str) -> None:
    found = local_wheel(text, root, root)

    assert found == ("my-words==1.0+cpu", Path("wheels/my_words-1.0+cpu-py3-none-any.whl"))


def test_a_path_starts_where_its_file_is(root: Path) -> None:
    found = local_wheel("./my_words-1.0+cpu-py3-none-any.whl ; python_version > '3'", root, root / "wheels")

    assert found is not None
    assert found[0] == "my-words==1.0+cpu ; python_version > '3'"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("./wheels", "of the project's own files images take wheels; `uv build --wheel` makes one"),
        ("file:///etc/mine-1.0-py3-none-any.whl", "leads out of the project"),
        ("../mine-1.0-py3-none-any.whl", "leads out of the project"),
        ("./wheels/other-1.0-py3-none-any.whl", "there is no such file"),
    ],
)
def test_other_files_of_this_machine_are_refused(root: Path, text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        local_wheel(text, root, root)


def test_a_wheel_is_called_as_wheels_are(root: Path) -> None:
    (root / "mine.whl").write_bytes(b"")

    with pytest.raises(ValueError, match="expected the name of a wheel, such as"):
        local_wheel("./mine.whl", root, root)


@pytest.mark.parametrize(
    "text", ["numpy", "numpy==2.*", "a @ https://host/a.whl", "git+https://host/a.git", "."]
)
def test_what_is_no_file_of_this_machine_is_left_alone(root: Path, text: str) -> None:
    assert local_wheel(text, root, root) is None


def test_a_repository_needs_git_where_packages_are_installed() -> None:
    assert build_packages(["numpy", "clip @ git+https://host/clip.git@main"]) == ("git",)
    assert build_packages(["numpy", "gitpython", "a @ https://host/git+a.whl"]) == ()
