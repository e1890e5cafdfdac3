"""`bentoml.build` and `bentoml.serve`: the toolchain, asked by a program."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import PROJECTS, Files, WriteProject

from bentoml import _toolchain as toolchain
from bentoml.exceptions import BentoMLException, MissingDependencyException

SERVICE = """
    import bentoml

    arguments = bentoml.use_arguments()

    @bentoml.service
    class Entry:
        @bentoml.api
        def size(self) -> str:
            return arguments.size
    """

RunScript = Callable[[Files], str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, no_index: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def run_script(project: WriteProject) -> RunScript:
    """`run_script({"service.py": "..."})`: what a project's service.py prints when it is run."""

    def run(files: Files) -> str:
        root = project(files)
        result = subprocess.run(
            [sys.executable, "service.py"], cwd=root, capture_output=True, text=True, check=True, timeout=90
        )
        return result.stdout

    return run


def test_a_service_is_built_with_what_is_said_in_place_of_a_bentofile(project: WriteProject) -> None:
    root = project({"service.py": SERVICE, "bentofile.yaml": "service: nowhere:Else"})

    bento = toolchain.build("service:Entry", name="own", args={"size": "small"}, build_ctx=root)

    assert (bento.tag.name, bento.manifest.args) == ("own", {"size": "small"})


def test_a_service_object_is_built_where_its_modules_are(run_script: RunScript) -> None:
    program = """
    from bentoml import _toolchain

    if __name__ == "__main__":
        bento = _toolchain.build(Entry, args={"size": "small"}, version="1")
        print(bento.tag, bento.manifest.service, (bento.source / "service.py").is_file())
        """

    assert run_script({"service.py": SERVICE + program}) == "entry:1 service:Entry True\n"


def test_what_is_built_has_locks_unless_it_is_told_otherwise(project: WriteProject) -> None:
    root = project({"service.py": SERVICE})

    locked = toolchain.build("service:Entry", build_ctx=root)
    free = toolchain.build("service:Entry", build_ctx=root, python={"lock_packages": False})

    assert [bool(bento.service("Entry").lock) for bento in (locked, free)] == [True, False]


def test_an_index_that_does_not_answer_is_told_of(
    project: WriteProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = project({"service.py": SERVICE})
    monkeypatch.delenv("UV_NO_INDEX")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:1/simple")

    with pytest.raises(BentoMLException) as caught:
        toolchain.build("service:Entry", build_ctx=root)

    first, hint, *_ = str(caught.value).splitlines()
    assert first.startswith("no lock could be made: ")
    assert hint.startswith("hint: `bento build --no-lock`, or `lock_packages: false` below `python`")


def test_everything_that_cannot_be_built_is_said(project: WriteProject) -> None:
    root = project({"service.py": SERVICE})

    with pytest.raises(BentoMLException) as caught:
        toolchain.build("service:Other", labels={"a=b": "c"}, args={"x": {1}}, build_ctx=root)

    assert str(caught.value).splitlines() == [
        "bentoml.build(): `labels.a=b`: 'a=b': expected a label's key, with at least a character and no `=`",
        "bentoml.build(): `args.x`: `{1}` is no value that JSON has: write it in quotes",
        "bentoml.build(): service 'service:Other': service.py has no service 'Other'; services: Entry",
    ]


def test_a_graph_is_served_until_it_is_stopped(project: WriteProject) -> None:
    root = project({"service.py": SERVICE})

    serving = toolchain.serve("service:Entry", working_dir=root, port=0, args={"size": "small"})
    with serving as server, server.get_client() as client:
        answer = client.size()

    assert answer == "small"
    with pytest.raises(BentoMLException):
        server.get_client(server_ready_timeout=0.1)


def test_a_script_serves_its_own_service(run_script: RunScript) -> None:
    program = """
    from bentoml import _toolchain

    if __name__ == "__main__":
        with _toolchain.serve(Entry, port=0, args={"size": "small"}) as server:
            print(server.get_client().size())
        """

    assert run_script({"service.py": SERVICE + program}) == "small\n"


def test_a_script_serves_its_own_service_until_it_is_interrupted(run_script: RunScript) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    program = f"""
    import os, signal, threading

    def ask():
        try:
            with bentoml.SyncHTTPClient("http://127.0.0.1:{port}", server_ready_timeout=30) as client:
                print(client.size())
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    if __name__ == "__main__":
        threading.Thread(target=ask).start()
        Entry.serve_http(port={port})
        print("stopped")
        """

    bentofile = "service: service:Entry\nargs: {size: small}\n"

    assert run_script({"service.py": SERVICE + program, "bentofile.yaml": bentofile}) == "small\nstopped\n"


def test_a_bento_that_was_just_built_is_served(project: WriteProject) -> None:
    bento = toolchain.build(
        "service:Entry", args={"size": "small"}, build_ctx=project({"service.py": SERVICE})
    )

    with toolchain.serve(bento, port=0) as server, server.get_client() as client:
        answer = client.size()

    assert answer == "small"


def test_a_service_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSE_TO_START", "1")

    with pytest.raises(BentoMLException, match="told to refuse by REFUSE_TO_START"):
        toolchain.serve(PROJECTS / "pair", port=0)


def test_a_port_in_use_is_changed_by_an_argument(project: WriteProject) -> None:
    root = project({"service.py": SERVICE})

    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(BentoMLException, match="is in use\nhint: choose another with `port=` or `host=`"),
    ):
        toolchain.serve("service:Entry", working_dir=root, port=server.getsockname()[1])


def test_a_service_that_no_other_process_can_find_is_refused(project: WriteProject) -> None:
    import bentoml

    @bentoml.service
    class Hidden: ...

    with pytest.raises(BentoMLException, match="Hidden is no name of a module in a file"):
        toolchain.serve(Hidden)


@pytest.mark.parametrize("door", [toolchain.build, toolchain.serve])
def test_an_image_says_that_it_holds_no_toolchain(
    door: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bento_cli", None)  # as if it were not installed

    with pytest.raises(
        MissingDependencyException, match="needs the toolchain, and an image holds the runtime"
    ):
        door("service:Entry")
