"""The local store: each version is there as a whole or not at all."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from bento_cli.app import app
from bento_cli.errors import BentoError, NotFoundError
from bento_cli.store import Store, bentoml_home
from bento_cli.store.bento import Bento, Manifest, ManifestService, content_digest, manifest_text, seal

Fill = Callable[[Path, str], None]
Add = Callable[..., tuple[Bento, bool]]
Command = Callable[..., Result]


def fill(folder: Path, tag: str, created: str = "2026-01-01", content: str = "same") -> None:
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
        entry_service="Entry",
        services=(service,),
    )
    (folder / "bento.yaml").write_text(manifest_text(manifest), encoding="utf-8")
    (folder / "src").mkdir()
    (folder / "src" / "service.py").write_text(content, encoding="utf-8")
    seal(folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def add(store: Store) -> Add:
    """`add("demo:1")`: put a Bento of that tag into the store."""

    def add_bento(tag: str, created: str = "2026-01-01", content: str = "same") -> tuple[Bento, bool]:
        with store.workspace() as folder:
            fill(folder, tag, created, content)
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
    first, _ = add("demo:1", content="a")

    with pytest.raises(BentoError, match="demo:1 is in the store with another content") as caught:
        add("demo:1", content="b")

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
from tests.cli.store.test_store import fill

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
from tests.cli.store.test_store import fill

with Store(Path(sys.argv[1])).workspace() as folder:
    fill(folder, "demo:1")
    print(folder, flush=True)
    sys.stdin.read()
"""

# Does an operation again and again, killed before the first thing that it asks of the system, the second, ...
DIE = """
import os, signal, sys
from pathlib import Path
from bento_cli.store import Store
from tests.cli.store.test_store import OPERATIONS

operation, store = OPERATIONS[sys.argv[2]], Store(Path(sys.argv[1]))
events = ("open", "os.", "shutil.", "tempfile.", "fcntl.")

def survives(step):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    left = step

    def die_in_time(event, arguments):
        nonlocal left
        left -= event.startswith(events)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(die_in_time)
    operation(store)
    os._exit(0)

step = 1
while not survives(step):
    step += 1
print(step)
"""

# Adds and deletes in processes that are killed wherever they happen to be.
CHAOS = """
import os, random, signal, sys, time
from pathlib import Path
from bento_cli.store import Store
from tests.cli.store.test_store import add_and_delete_for_ever

moment = random.Random(int(sys.argv[2]))
for _ in range(60):
    child = os.fork()
    if not child:
        add_and_delete_for_ever(Store(Path(sys.argv[1])), moment)
    time.sleep(moment.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def add_version(store: Store, version: str) -> None:
    with store.workspace() as folder:
        fill(folder, f"demo:{version}")
        store.add(folder)


def delete_version(store: Store, version: str) -> None:
    with suppress(NotFoundError):  # the other process was quicker
        store.delete(store.get(f"demo:{version}"))


def add_and_delete_for_ever(store: Store, moment: random.Random) -> None:
    while True:
        operation = add_version if moment.random() < 0.6 else delete_version
        operation(store, str(moment.randrange(5)))


OPERATIONS: dict[str, Callable[[Store], None]] = {
    "add the first": lambda store: add_version(store, "1"),
    "delete the last": lambda store: delete_version(store, "kept"),
    "add one more": lambda store: add_version(store, "2"),
}


def start(script: str, home: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(home), *arguments]
    root = Path(__file__).parents[3]
    return subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def damaged(store: Store) -> list[Bento]:
    """What is listed and is not what it says."""
    return [bento for bento in store.bentos() if content_digest(bento.path) != bento.manifest.digest]


def leftovers(home: Path) -> list[Path]:
    """What lies in the folder of what is being made once somebody has begun to make something."""
    with Store(home).workspace() as own:
        return [path for path in (home / "tmp").iterdir() if path != own]


def test_two_processes_that_add_the_same_versions_at_once_add_each_once(tmp_path: Path) -> None:
    processes = [start(ADD, tmp_path / "home") for _ in range(2)]

    outputs = [process.communicate()[0].splitlines() for process in processes]

    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(line for output in outputs for line in output if line.endswith("True")) == sorted(
        f"{version} True" for version in range(20)
    )


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_kill_before_any_step_leaves_a_store_that_is_whole(
    tmp_path: Path, store: Store, add: Add, operation: str
) -> None:
    if operation != "add the first":
        add("demo:kept")

    process = start(DIE, tmp_path / "home", operation)
    output, _ = process.communicate()

    assert int(output) > 10
    assert damaged(store) == []
    assert leftovers(tmp_path / "home") == []


def test_kills_at_random_moments_of_two_at_once_leave_a_store_that_is_whole(
    tmp_path: Path, store: Store, add: Add
) -> None:
    processes = [start(CHAOS, tmp_path / "home", str(seed)) for seed in range(2)]
    for process in processes:
        process.communicate()

    assert [process.returncode for process in processes] == [0, 0]
    assert damaged(store) == []
    assert leftovers(tmp_path / "home") == []
    assert add("demo:more")[0] == store.get("demo")


def test_what_a_killed_process_was_making_is_swept_and_what_another_makes_is_not(
    tmp_path: Path, store: Store
) -> None:
    processes = [start(WAIT, tmp_path / "home") for _ in range(2)]
    folders = [Path(process.stdout.readline().rstrip()) for process in processes if process.stdout]
    processes[0].send_signal(signal.SIGKILL)
    processes[0].communicate()

    remaining = leftovers(tmp_path / "home")

    processes[1].communicate()
    assert remaining == [folders[1]]
    assert store.bentos() == []


@pytest.mark.parametrize("file", ["src/service.py", "bento.yaml"])
def test_a_version_that_has_lost_something_is_made_whole_by_building_it_again(add: Add, file: str) -> None:
    bento, _ = add("demo:1")
    (bento.path / file).write_text("")

    again, is_new = add("demo:1")

    assert is_new
    assert content_digest(again.path) == again.manifest.digest


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("demo", ["demo:2", "demo:1"]),
        ("demo:1", ["demo:1"]),
        ("demo:latest", ["demo:2"]),
        ("demo:*", ["demo:2", "demo:1"]),
        ("*:1", ["other:1", "demo:1"]),
        ("[!d]*", ["other:1"]),
    ],
)
def test_several_are_meant_by_a_name_or_a_pattern(
    store: Store, add: Add, text: str, meant: list[str]
) -> None:
    add("demo:1", created="2026-01-01")
    add("demo:2", created="2026-01-02")
    add("other:1", created="2026-01-03")

    assert [str(bento.tag) for bento in store.matching(text)] == meant


def test_a_pattern_that_fits_nothing_is_not_found(store: Store, add: Add) -> None:
    add("demo:1")

    with pytest.raises(NotFoundError, match="no Bento is called 'other"):
        store.matching("other*")


@pytest.fixture
def bento(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`bento("list")`: what a person gets who types it, with this store."""
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    return lambda *arguments, typed="": CliRunner().invoke(app, arguments, input=typed)


def test_what_is_to_be_deleted_is_asked_once_and_shown_before(store: Store, add: Add, bento: Command) -> None:
    add("demo:1")
    add("demo:2")

    result = bento("delete", "demo", typed="y\n")

    assert result.exit_code == 0
    assert "delete these 2 Bentos?" in result.stderr
    assert store.bentos() == []


def test_nothing_is_deleted_where_the_answer_is_no(store: Store, add: Add, bento: Command) -> None:
    add("demo:1")

    result = bento("delete", "demo:1", typed="n\n")

    assert result.exit_code == 1
    assert tags(store) == ["demo:1"]


def test_nothing_is_deleted_where_one_of_several_is_not_there(store: Store, add: Add, bento: Command) -> None:
    add("demo:1")

    result = bento("delete", "demo:1", "other", "--yes")

    assert isinstance(result.exception, NotFoundError)
    assert tags(store) == ["demo:1"]


def test_a_bento_that_is_meant_twice_is_deleted_once(store: Store, add: Add, bento: Command) -> None:
    add("demo:1")

    assert bento("delete", "demo:1", "demo", "-y").exit_code == 0
    assert store.bentos() == []


@pytest.mark.parametrize(("output", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_programs_read_the_list(add: Add, bento: Command, output: str, read: Callable[[str], object]) -> None:
    made, _ = add("demo:1")

    size = sum(path.stat().st_size for path in made.path.rglob("*") if path.is_file())
    assert read(bento("list", "--output", output).stdout) == [
        {"tag": "demo:1", "services": ["Entry"], "size": size, "created": "2026-01-01"}
    ]


def test_people_read_it_as_a_table(add: Add, bento: Command) -> None:
    add("demo:1")

    assert bento("list").stdout.split() == [
        *("tag", "services", "size", "created"),
        *("demo:1", "Entry", "0.0", "MB", "2026-01-01"),
    ]


@pytest.mark.parametrize(("output", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_programs_read_what_a_bento_is(
    add: Add, bento: Command, output: str, read: Callable[[str], Mapping[str, object]]
) -> None:
    add("demo:1")

    assert read(bento("get", "demo", "-o", output).stdout)["version"] == "1"


def test_where_a_bento_lies_is_one_line(add: Add, bento: Command) -> None:
    made, _ = add("demo:1")

    assert bento("get", "demo:1", "-o", "path").stdout == f"{made.path}\n"


def test_what_the_lock_of_a_service_holds_is_printed(store: Store, bento: Command) -> None:
    with store.workspace() as folder:
        fill(folder, "demo:1")
        (folder / "services" / "Entry").mkdir(parents=True)
        (folder / "services" / "Entry" / "sbom.cdx.json").write_text('{"bomFormat": "CycloneDX"}\n')
        store.add(folder)

    assert json.loads(bento("get", "demo", "--sbom", "Entry").stdout) == {"bomFormat": "CycloneDX"}


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ("Entry", "has no lock to tell its packages from"),
        ("Entri", "'Entri', did you mean `Entry`?"),
    ],
)
def test_what_no_lock_tells_is_not_found(add: Add, bento: Command, service: str, words: str) -> None:
    add("demo:1")

    assert words in str(bento("get", "demo", "--sbom", service).exception)
