"""Tags and manifests."""

from __future__ import annotations

from pathlib import Path

import pytest

from bento_cli.errors import BentoError, InputError, NotFoundError
from bento_cli.store.bento import Manifest, Tag, as_tag, load_bento, manifest_text
from bento_cli.yaml_file import parse_yaml, validate


def test_a_tag_is_written_as_name_and_version() -> None:
    assert str(Tag("control_net", "1.0.0")) == "control_net:1.0.0"


def test_an_image_is_named_after_the_bento_and_the_service() -> None:
    image = Tag("control_net", "1.0.0").image("SDXLControlNetService")

    assert image == "control_net/sdxl-control-net-service:1.0.0"


@pytest.mark.parametrize("name", ["Control_Net", "a--b", "control_net.", "team/control_net", "x" * 64, ""])
def test_a_name_that_no_image_can_have_is_refused(name: str) -> None:
    with pytest.raises(BentoError, match="is no name of a Bento"):
        Tag(name, "1")


@pytest.mark.parametrize("version", ["V1", "1.", "a/b", "--", "latest", "x" * 64, ""])
def test_a_version_that_no_image_can_have_is_refused(version: str) -> None:
    with pytest.raises(BentoError, match="is no version of a Bento"):
        Tag("control_net", version)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("control_net", ("control_net", None)),
        ("control_net:latest", ("control_net", None)),
        ("control_net:abc", ("control_net", "abc")),
        ("../control_net", None),
        ("control_net:", None),
        ("a:b:c", None),
        ("control_net:../x", None),
    ],
)
def test_a_tag_on_the_command_line(text: str, expected: tuple[str, str | None] | None) -> None:
    assert as_tag(text) == expected


MANIFEST = """
service: service:Entry
name: entry
version: '1'
bentoml_version: 0.1.0
creation_time: '2026-01-01T00:00:00+00:00'
entry_service: Entry
services:
- name: Other
  target: service:Other
  base_image: python:3.11-slim
  base_reason: asks for no GPU
  python_version: '3.11'
- name: Entry
  target: service:Entry
  dependencies:
  - attribute: other
    service: Other
  - attribute: iris
    url: http://iris:3000
  base_image: python:3.11-slim
  base_reason: asks for no GPU
  python_version: '3.11'
"""


def test_a_manifest_reads_back_as_it_was_written() -> None:
    manifest = validate(parse_yaml(MANIFEST, Path("bento.yaml")), Manifest)

    assert validate(parse_yaml(manifest_text(manifest), Path("bento.yaml")), Manifest) == manifest


def test_the_graph_is_in_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "bento.yaml").write_text(MANIFEST, encoding="utf-8")

    graph = load_bento(tmp_path).graph

    assert [node.name for node in graph] == ["Other", "Entry"]
    assert graph.peers("Entry") == ("Other",)


def test_a_manifest_of_a_newer_version_may_say_more(tmp_path: Path) -> None:
    (tmp_path / "bento.yaml").write_text(f"{MANIFEST}\nsigned_by: someone\n", encoding="utf-8")

    assert load_bento(tmp_path).tag == Tag("entry", "1")


def test_a_folder_without_a_manifest_is_no_bento(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        load_bento(tmp_path)


def test_a_manifest_without_its_services_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bento.yaml").write_text(MANIFEST.partition("services:")[0], encoding="utf-8")

    with pytest.raises(InputError, match="`services` is missing"):
        load_bento(tmp_path)
