"""Models as attributes of a service: which one is said in the class, where it is on the instance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.conftest import service_of

import bentoml
from bentoml.exceptions import NotFound
from bentoml.models import BentoModel, HuggingFaceModel


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

    assert instance.loaded == str(store / "new")


def test_a_version_may_be_named(store: Path) -> None:
    assert BentoModel("voice:old").resolve() == str(store / "old")


@pytest.mark.parametrize("tag", ["voice:other", "other", "other:latest"])
def test_a_model_that_the_store_does_not_hold_is_told(store: Path, tag: str) -> None:
    with pytest.raises(NotFound, match=f"no model '{tag}' in {store.parent}"):
        BentoModel(tag).resolve()


def test_a_store_cannot_lead_elsewhere(store: Path) -> None:
    (store / "latest").write_text("../../elsewhere")

    with pytest.raises(NotFound):
        BentoModel("voice").resolve()


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
