"""The local store: each version is there as a whole or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bento_cli.bento import Bento, Manifest, ManifestService, manifest_text
from bento_cli.errors import BentoError, NotFoundError
from bento_cli.store import Store, bentoml_home

Fill = Callable[[Path, str], None]
Add = Callable[..., tuple[Bento, bool]]


def fill(folder: Path, tag: str, created: str = "2026-01-01", digest: str = "same") -> None:
    """Write a Bento into a folder."""
    name, version = tag.split(":")
    service = ManifestService(
        name="Entry", target="service:Entry", base_image="a", base_reason="b", python_version="3.11"
    )
    manifest = Manifest(
        service="service:Entry",
        name=name,
        version=version,
        bentoml_version="0",
        creation_time=created,
        digest=digest,
        entry_service="Entry",
        services=(service,),
    )
    (folder / "bento.yaml").write_text(manifest_text(manifest), encoding="utf-8")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def add(store: Store) -> Add:
    """`add("demo:1")`: put a Bento of that tag into the store."""

    def add_bento(tag: str, created: str = "2026-01-01", digest: str = "same") -> tuple[Bento, bool]:
        with store.workspace() as folder:
            fill(folder, tag, created, digest)
            return store.add(folder)

    return add_bento


def tags(store: Store) -> list[str]:
    return [str(bento.tag) for bento in store.bentos()]


def test_it_lies_where_the_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))

    assert bentoml_home() == tmp_path


def test_it_lies_in_the_users_home_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BENTOML_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert bentoml_home() == tmp_path / "bentoml"


def test_what_was_added_is_found(store: Store, add: Add) -> None:
    bento, is_new = add("demo:1")

    assert is_new
    assert store.get("demo:1") == bento


def test_the_same_version_again_changes_nothing(store: Store, add: Add) -> None:
    first, _ = add("demo:1", created="2026-01-01")

    again, is_new = add("demo:1", created="2026-02-02")

    assert (again, is_new) == (first, False)


def test_the_same_version_with_another_content_is_refused(store: Store, add: Add) -> None:
    first, _ = add("demo:1", digest="a")

    with pytest.raises(BentoError, match="demo:1 is in the store with another content") as caught:
        add("demo:1", digest="b")

    assert caught.value.hint == "choose another version, or `bento delete demo:1` first"
    assert store.get("demo:1") == first


def test_the_beginning_of_a_version_is_enough_where_it_is_the_only_one(store: Store, add: Add) -> None:
    add("demo:abcdef")
    add("demo:abxyz")

    assert store.get("demo:abc").tag.version == "abcdef"
    with pytest.raises(NotFoundError, match="2 Bentos begin like 'demo:ab'"):
        store.get("demo:ab")


def test_a_whole_version_wins_over_one_that_only_begins_like_it(store: Store, add: Add) -> None:
    add("demo:abc")
    add("demo:abcd")

    assert store.get("demo:abc").tag.version == "abc"


@pytest.mark.parametrize("text", ["demo", "demo:latest"])
def test_the_latest_is_the_one_that_was_built_last(store: Store, add: Add, text: str) -> None:
    add("demo:1", created="2026-03-03")
    add("demo:2", created="2026-01-01")

    assert store.get(text).tag.version == "2"


def test_building_an_older_version_again_makes_it_the_latest(store: Store, add: Add) -> None:
    add("demo:1")
    add("demo:2")
    add("demo:1")

    assert store.get("demo").tag.version == "1"


def test_the_newest_is_the_latest_where_no_file_says_so(tmp_path: Path, store: Store, add: Add) -> None:
    add("demo:1", created="2026-03-03")
    add("demo:2", created="2026-01-01")
    (tmp_path / "home" / "bentos" / "demo" / "latest").unlink()

    assert store.get("demo").tag.version == "1"


@pytest.mark.parametrize("text", ["other", "other:1", "demo:2", "../demo", "demo:..", "demo:", ""])
def test_what_is_not_there_is_not_found(store: Store, add: Add, text: str) -> None:
    add("demo:1")

    with pytest.raises(NotFoundError):
        store.get(text)


def test_an_empty_store_lists_nothing(store: Store) -> None:
    assert store.bentos() == []


def test_bentos_are_listed_the_newest_first(store: Store, add: Add) -> None:
    add("demo:1", created="2026-01-01")
    add("other:1", created="2026-03-03")
    add("demo:2", created="2026-02-02")

    assert tags(store) == ["other:1", "demo:2", "demo:1"]
    assert [str(bento.tag) for bento in store.bentos("demo")] == ["demo:2", "demo:1"]


def test_deleting_the_latest_makes_the_newest_of_the_others_the_latest(store: Store, add: Add) -> None:
    for version in ("1", "2", "3"):
        add(f"demo:{version}", created=f"2026-01-0{version}")

    store.delete(store.get("demo:3"))

    assert store.get("demo").tag.version == "2"


def test_deleting_another_one_leaves_the_latest(store: Store, add: Add) -> None:
    add("demo:2", created="2026-01-02")
    add("demo:3", created="2026-01-03")
    add("demo:1", created="2026-01-01")

    store.delete(store.get("demo:2"))

    assert store.get("demo").tag.version == "1"


def test_deleting_the_last_one_leaves_nothing(tmp_path: Path, store: Store, add: Add) -> None:
    bento, _ = add("demo:1")

    store.delete(bento)

    assert list((tmp_path / "home" / "bentos").iterdir()) == []
    assert list((tmp_path / "home" / "tmp").iterdir()) == []


def test_deleting_what_another_process_has_deleted_is_not_found(store: Store, add: Add) -> None:
    bento, _ = add("demo:1")
    store.delete(bento)

    with pytest.raises(NotFoundError, match="no Bento 'demo:1'"):
        store.delete(bento)


def test_an_error_while_a_bento_is_made_leaves_nothing(tmp_path: Path, store: Store) -> None:
    def make_half_of_it() -> None:
        with store.workspace() as folder:
            fill(folder, "demo:1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        make_half_of_it()

    assert store.bentos() == []
    assert list((tmp_path / "home" / "tmp").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file", encoding="utf-8")

    with pytest.raises(BentoError) as caught, Store(tmp_path / "home").workspace():
        pass

    assert caught.value.hint == "BENTOML_HOME chooses another folder"


ADD = """
import sys
from pathlib import Path
from bento_cli.store import Store
from tests.cli.test_store import fill

store = Store(Path(sys.argv[1]))
for version in range(20):
    with store.workspace() as folder:
        fill(folder, f"demo:{version}")
        print(version, store.add(folder)[1])
"""

WAIT = """
import sys
from pathlib import Path
from bento_cli.store import Store
from tests.cli.test_store import fill

with Store(Path(sys.argv[1])).workspace() as folder:
    fill(folder, "demo:1")
    print("half-way", flush=True)
    sys.stdin.read()
"""


def start(script: str, home: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(home)]
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_that_add_the_same_versions_at_once_add_each_once(tmp_path: Path) -> None:
    processes = [start(ADD, tmp_path / "home") for _ in range(2)]

    outputs = [process.communicate()[0].splitlines() for process in processes]

    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(line for output in outputs for line in output if line.endswith("True")) == sorted(
        f"{version} True" for version in range(20)
    )


def test_a_process_that_is_killed_half_way_leaves_nothing_listed(tmp_path: Path, store: Store) -> None:
    process = start(WAIT, tmp_path / "home")
    assert process.stdout is not None
    assert process.stdout.readline() == "half-way\n"

    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert store.bentos() == []
