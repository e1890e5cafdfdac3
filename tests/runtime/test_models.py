"""Models as attributes of a service: which one is said in the class, where it is on the instance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.hub import HubModel, running_hub
from tests.runtime.conftest import service_of

import bentoml
from bentoml._environment import MODELS, ModelPlace, models_text
from bentoml.exceptions import NotFound
from bentoml.models import BentoModel, HuggingFaceModel, StoredModel


@bentoml.service
class Speaker:
    voice = BentoModel("voice")
    words = HuggingFaceModel("org/words", revision="v1", include=["*.json"])

    def __init__(self) -> None:
        self.loaded = self.voice


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of models with two versions of `voice`."""
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    folder = tmp_path / "models" / "voice"
    for version in ("old", "new"):
        (folder / version).mkdir(parents=True)
    (folder / "latest").write_text("new")
    return folder


def test_a_service_lists_its_models() -> None:
    assert list(map(str, service_of(Speaker).models)) == [
        "BentoModel('voice')",
        "HuggingFaceModel('org/words', revision='v1')",
    ]


def test_an_instance_has_the_path_when_its_init_runs(store: Path) -> None:
    instance: Any = Speaker()

    assert instance.loaded.path == str(store / "new")
    assert isinstance(instance.voice, StoredModel)


def test_a_version_may_be_named(store: Path) -> None:
    assert BentoModel("voice:old").resolve().path_of("weights") == str(store / "old" / "weights")


@pytest.mark.parametrize("tag", ["voice:other", "other"])
def test_a_model_that_the_store_does_not_hold_is_told(store: Path, tag: str) -> None:
    with pytest.raises(NotFound, match=f"no model '{tag}' in {store.parent}"):
        BentoModel(tag).resolve()


def test_a_model_of_an_image_is_found_without_a_store_and_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"org/words@v1": ModelPlace(path="/models/words"), "voice": ModelPlace(path="/models/voice/v2")}
    monkeypatch.setenv(MODELS, models_text(places))

    instance: Any = Speaker()

    assert instance.words == "/models/words"
    assert (instance.voice.path, str(instance.voice.tag)) == ("/models/voice/v2", "voice:v2")


def test_the_latest_model_is_the_one_that_it_was_when_the_bento_was_built(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODELS, models_text({"voice": ModelPlace(revision="voice:old")}))

    assert BentoModel("voice").resolve().path == str(store / "old")


@pytest.mark.parametrize("tag", ["", "Voice", "../voice", "voice:", "voice:../x", "a:b:c"])
def test_what_is_no_tag_is_refused_where_it_stands(tag: str) -> None:
    with pytest.raises(ValueError, match="expected the tag of a model, `name` or `name:version`"):
        BentoModel(tag)


def test_a_model_of_the_hub_is_found_in_its_cache(
    in_new_python: Callable[[str], str], tmp_path: Path
) -> None:
    snapshot = tmp_path / "hub" / "models--org--words" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    refs = tmp_path / "hub" / "models--org--words" / "refs"
    refs.mkdir()
    (refs / "v1").write_text("abc")
    program = f"""
import os
os.environ.update(HF_HUB_CACHE={str(tmp_path / "hub")!r}, HF_HUB_OFFLINE="1")
import bentoml

@bentoml.service
class Speaker:
    words = bentoml.models.HuggingFaceModel("org/words", revision="v1", include=["*.json"])

print(Speaker().words)
"""

    assert in_new_python(program) == str(snapshot)


def test_a_branch_of_the_hub_is_the_commit_that_it_was_when_the_bento_was_built(
    in_new_python: Callable[[str], str], tmp_path: Path
) -> None:
    with running_hub({"org/words": HubModel({"words.txt": b"first"})}) as hub:
        built = hub.models["org/words"]
        hub.models["org/words"] = HubModel({"words.txt": b"second"}, older=(built,))
        program = f"""
import os
os.environ.update(HF_HOME={str(tmp_path)!r}, HF_ENDPOINT={hub.url!r}, HF_HUB_DISABLE_PROGRESS_BARS="1")
os.environ[{MODELS!r}] = {models_text({"org/words@main": ModelPlace(revision=built.commit)})!r}
import bentoml

print(open(bentoml.models.HuggingFaceModel("org/words").resolve() + "/words.txt").read())
"""
        assert in_new_python(program) == "first"


def test_the_package_of_the_hub_is_named_where_it_is_missing(in_new_python: Callable[[str], str]) -> None:
    program = """
import sys
sys.modules["huggingface_hub"] = None
from bentoml.models import HuggingFaceModel
try:
    HuggingFaceModel("org/words").resolve()
except ImportError as error:
    print(error)
"""

    assert in_new_python(program) == (
        "HuggingFaceModel('org/words', revision='main') needs the package `huggingface_hub`; "
        "add it to `python.packages` of bentofile.yaml"
    )
