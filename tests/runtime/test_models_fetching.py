"""How a builder brings a model of the hub into an image: what it leaves is always the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hub import TOKEN, FakeHub, HubModel, running_hub

from bentoml import _fetch_model

WORDS = HubModel(
    {"config.json": b"{}", "notes.md": b"# Notes", "large/weights.bin": b"words"},
    large=frozenset({"large/weights.bin"}),
    is_gated=True,
)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with running_hub({"org/words": WORDS}) as hub:
        yield hub


def fetched(hub: FakeHub, folder: Path, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    """What fetching into `folder/tree/words` says; the builder's cache is beside it."""
    request = {"repo_id": "org/words", "revision": WORDS.commit, "ignore_patterns": ["*.md"]}
    return subprocess.run(
        [sys.executable, _fetch_model.__file__, json.dumps(request), str(folder / "tree" / "words")],
        env={**os.environ, "HF_HOME": str(folder / "cache"), "HF_ENDPOINT": hub.url, "HF_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_files_that_are_wanted_are_plain_files_of_one_time_that_anybody_can_read(
    hub: FakeHub, tmp_path: Path
) -> None:
    result = fetched(hub, tmp_path)

    assert result.returncode == 0, result.stderr
    tree = tmp_path / "tree"
    left = {path.relative_to(tree).as_posix(): path.lstat() for path in (tree, *tree.rglob("*"))}
    assert {name: oct(status.st_mode) for name, status in left.items()} == {
        ".": "0o40755",
        "words": "0o40755",
        "words/config.json": "0o100644",
        "words/large": "0o40755",
        "words/large/weights.bin": "0o100644",
    }
    assert {status.st_mtime for status in left.values()} == {0}


def test_what_the_builder_kept_is_not_downloaded_again(hub: FakeHub, tmp_path: Path) -> None:
    fetched(hub, tmp_path)
    (tmp_path / "tree").rename(tmp_path / "before")
    hub.downloads.clear()

    assert fetched(hub, tmp_path).returncode == 0
    assert hub.downloads == []


def test_who_may_not_have_it_is_told_so_in_a_few_lines(hub: FakeHub, tmp_path: Path) -> None:
    result = fetched(hub, tmp_path, token="")

    assert result.returncode == 1
    assert "the model cannot be had from the hub: 401 Client Error." in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "tree").exists()
