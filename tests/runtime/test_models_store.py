"""The store of models: what is in it is whole, never changes, and says what it is."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

import bentoml
from bento_cli.store import Store
from bentoml._model_store import ModelStore
from bentoml.exceptions import BentoMLException, InvalidArgument, NotFound


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    return tmp_path


def saved(tag: str, text: str = "weights", **said: Any) -> bentoml.models.StoredModel:
    """A model with one file."""
    with bentoml.models.create(tag, **said) as model:
        Path(model.path_of("weights.txt")).write_text(text)
    return model


def tags() -> list[str]:
    return [str(model.tag) for model in bentoml.models.list()]


def test_what_was_saved_is_found_with_what_was_said_of_it(home: Path) -> None:
    model = saved("voice:v1", labels={"speaker": "Ada"}, metadata={"rate": "16k"})

    found = bentoml.models.get("voice")
    assert found.path == model.path == str(home / "models" / "voice" / "v1")
    assert (found.info.labels, found.info.metadata) == ({"speaker": "Ada"}, {"rate": "16k"})
    assert found.info.digest.startswith("sha256:")


def test_a_model_is_a_path_wherever_one_is_asked_for() -> None:
    assert (Path(saved("voice")) / "weights.txt").read_text() == "weights"


def test_without_a_version_each_model_gets_one_of_its_own() -> None:
    first, second = saved("voice"), saved("voice")

    assert first.tag != second.tag
    assert bentoml.models.get("voice:latest").tag == second.tag


def test_the_beginning_of_a_version_is_enough_where_it_means_one() -> None:
    saved("voice:v10")
    saved("voice:v11")

    assert str(bentoml.models.get("voice:v10").tag) == "voice:v10"
    with pytest.raises(NotFound, match="2 models begin like 'voice:v1'"):
        bentoml.models.get("voice:v1")


def test_an_error_while_a_model_is_saved_leaves_nothing(home: Path) -> None:
    with pytest.raises(ZeroDivisionError), bentoml.models.create("voice"):
        _ = 1 / 0

    assert tags() == []
    assert not any((home / "tmp").iterdir())


def test_what_is_left_of_a_process_that_was_killed_is_removed_by_the_next_build(home: Path) -> None:
    left = home / "tmp" / "of-somebody"
    left.mkdir(parents=True)

    with bentoml.models.create("voice") as model:
        with Store().workspace():
            found = [str(path) for path in (home / "tmp").iterdir()]

        assert model.path in found
        assert str(left) not in found


def test_the_same_files_may_be_saved_again_under_their_version() -> None:
    saved("voice:v1")
    saved("voice:v1")

    assert tags() == ["voice:v1"]


def test_other_files_do_not_take_the_place_of_a_version() -> None:
    saved("voice:v1")

    with pytest.raises(
        BentoMLException, match=r"voice:v1 is in the store with other files; .*delete voice:v1"
    ):
        saved("voice:v1", "others")
    assert Path(bentoml.models.get("voice:v1").path_of("weights.txt")).read_text() == "weights"


def test_two_who_save_one_version_at_once_leave_a_whole_one() -> None:
    barrier = threading.Barrier(2)
    failures: list[BentoMLException] = []

    def save(text: str) -> None:
        try:
            with bentoml.models.create("voice:v1") as model:
                Path(model.path_of("weights.txt")).write_text(text)
                barrier.wait(timeout=10)
        except BentoMLException as error:
            failures.append(error)

    threads = [threading.Thread(target=save, args=(text,)) for text in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(failures) == 1
    assert Path(bentoml.models.get("voice").path_of("weights.txt")).read_text() in ("one", "two")


def test_a_link_is_no_file_of_a_model() -> None:
    expected = pytest.raises(
        BentoMLException, match=r"secret\.txt of the model is neither a file nor a folder"
    )
    with expected, bentoml.models.create("voice") as model:
        Path(model.path_of("secret.txt")).symlink_to("/etc/passwd")

    assert tags() == []


def test_any_user_of_an_image_can_read_what_is_saved() -> None:
    old = os.umask(0o077)
    try:
        model = saved("voice")
    finally:
        os.umask(old)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (Path(model), *Path(model).iterdir())}
    assert set(modes.values()) == {0o755, 0o644}


def test_what_is_said_of_a_model_is_json_which_yaml_is_as_well() -> None:
    model = saved("voice:v1", labels={"speaker": "Ada"})

    said = json.loads(Path(model.path_of("model.yaml")).read_text())
    assert (said["name"], said["version"], said["labels"]) == ("voice", "v1", {"speaker": "Ada"})


def test_what_cannot_be_written_down_is_refused_before_anything_is_saved() -> None:
    expected = pytest.raises(InvalidArgument, match="what is said of voice:v1 cannot be written")
    with expected, bentoml.models.create("voice:v1", metadata={"model": object()}):
        pytest.fail("nothing is to be saved")


def test_of_a_model_that_another_tool_saved_its_tag_is_known(home: Path) -> None:
    folder = home / "models" / "voice" / "v1"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text("name: voice\nversion: v1\nmodule: ''\n")

    assert str(bentoml.models.get("voice").tag) == "voice:v1"


def test_a_store_cannot_lead_elsewhere(home: Path) -> None:
    saved("voice:v1")
    (home / "models" / "voice" / "latest").write_text("../../elsewhere")

    assert str(bentoml.models.get("voice").tag) == "voice:v1"


def test_the_newest_that_is_left_is_the_latest_after_another_was_deleted() -> None:
    saved("voice:v1")
    saved("voice:v2")

    bentoml.models.delete("voice:v2")

    assert str(bentoml.models.get("voice").tag) == "voice:v1"


def test_of_the_last_version_nothing_is_left(home: Path) -> None:
    saved("voice:v1")

    bentoml.models.delete("voice")

    assert list((home / "models").iterdir()) == []
    with pytest.raises(NotFound, match=r"no model 'voice' in .*; `bento models list` shows what is there"):
        bentoml.models.delete("voice")


def test_models_are_listed_the_newest_first_all_or_those_of_a_name() -> None:
    for tag in ("voice:v1", "words:v1", "voice:v2"):
        saved(tag)

    assert tags() == ["voice:v2", "words:v1", "voice:v1"]
    assert [str(model.tag) for model in ModelStore().models("voice")] == ["voice:v2", "voice:v1"]
    assert [str(model.tag) for model in bentoml.models.list("voice:v1")] == ["voice:v1"]


@pytest.mark.parametrize("packed", ["voice.bentomodel", "voice.tar", "voice.tar.gz", "voice.zip"])
def test_a_model_goes_to_another_store_as_one_file(
    home: Path, packed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = saved("voice:v1", labels={"speaker": "Ada"})
    file = bentoml.models.export_model("voice:v1", home / packed)
    monkeypatch.setenv("BENTOML_HOME", str(home / "elsewhere"))

    imported = bentoml.models.import_model(file)

    assert imported.path == str(home / "elsewhere" / "models" / "voice" / "v1")
    assert imported.info == model.info


def test_a_model_may_be_exported_as_a_folder_and_is_called_by_its_tag_in_one(home: Path) -> None:
    saved("voice:v1")

    assert bentoml.models.export_model("voice", home, "folder") == str(home / "voice-v1")
    assert bentoml.models.export_model("voice", home) == str(home / "voice-v1.bentomodel")
