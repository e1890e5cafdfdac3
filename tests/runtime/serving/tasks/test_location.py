from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from tests.runtime.serving.tasks.conftest import RedisServer, task_request

from bentoml._serving.tasks.location import default_file, store_from
from bentoml.exceptions import BentoMLConfigException


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_path_names_a_file(tmp_path: Path) -> None:
    path = tmp_path / "painter.db"

    store_from("Painter", {"BENTOML_RESULT_STORE": str(path)}).close()

    assert path.is_file()


def test_a_folder_is_refused_with_what_to_write_instead(tmp_path: Path) -> None:
    with pytest.raises(
        BentoMLConfigException, match=rf"{tmp_path} is a folder, .* such as {tmp_path}/tasks.db"
    ):
        store_from("Painter", {"BENTOML_RESULT_STORE": str(tmp_path)})


@pytest.mark.redis
def test_a_url_names_a_redis_server(redis_server: RedisServer) -> None:
    with closing(store_from("Painter", {"BENTOML_RESULT_STORE": redis_server.url})) as store:
        store.submit(task_request("a"))

    with closing(redis_server.client()) as client:
        assert client.exists("bentoml:tasks:1:{Painter}:task:a")


def test_a_url_of_anything_else_is_refused() -> None:
    with pytest.raises(
        BentoMLConfigException, match="no store is known for `postgres://`, expected a file or"
    ):
        store_from("Painter", {"BENTOML_RESULT_STORE": "postgres://user:s3cret@db/tasks"})


def test_without_a_word_tasks_are_kept_in_a_folder_of_this_user_alone(temporary: Path) -> None:
    store_from("Painter", {}).close()

    (folder,) = temporary.iterdir()
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    assert [file.name.startswith("Painter-") for file in folder.iterdir()] == [True]


def test_a_folder_that_others_can_reach_is_not_used(temporary: Path) -> None:
    folder = default_file("Painter", {}).parent
    folder.chmod(0o755)

    with pytest.raises(
        BentoMLConfigException, match="expected a folder of this user alone; set BENTOML_RESULT"
    ):
        store_from("Painter", {})


def test_where_no_folder_can_be_made_the_error_says_what_to_set(temporary: Path) -> None:
    (temporary / f"bentoml-{temporary.stat().st_uid}").write_text("in the way")

    with pytest.raises(
        BentoMLConfigException, match=r"no folder for tasks can be made: .* set BENTOML_RESULT"
    ):
        store_from("Painter", {})


def test_a_link_that_others_made_is_not_followed(
    temporary: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (temporary / f"bentoml-{temporary.stat().st_uid}").symlink_to(tmp_path_factory.mktemp("theirs"))

    with pytest.raises(BentoMLConfigException, match="expected a folder of this user alone"):
        store_from("Painter", {})


def test_home_holds_them_where_it_is_set(tmp_path: Path) -> None:
    store_from("Painter", {"BENTOML_HOME": str(tmp_path)}).close()

    assert [path.suffix for path in (tmp_path / "tasks").iterdir()] == [".db"]


HOME = {"BENTOML_HOME": "/home", "BENTOML_PROJECT": "/project", "BENTOML_PORT": "3000"}


def test_the_file_is_the_same_after_a_restart() -> None:
    assert default_file("Painter", HOME) == default_file("Painter", dict(HOME))


@pytest.mark.parametrize("change", [{"BENTOML_PROJECT": "/another"}, {"BENTOML_PORT": "3001"}])
def test_another_deployment_on_the_machine_has_another_file(change: dict[str, str]) -> None:
    assert default_file("Painter", HOME | change) != default_file("Painter", HOME)


def test_a_service_whose_name_is_no_file_name_has_one() -> None:
    assert default_file("../Painter", HOME).parent == Path("/home/tasks")
