from __future__ import annotations

from pathlib import Path, PurePosixPath

import ormsgpack
import pytest
from tests.runtime.codec.frames import encoded, frame, packed, round_trip

from bentoml import codec
from bentoml.codec._extensions import Code
from bentoml.exceptions import BadInput


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    return tmp_path / "sent"


@pytest.fixture
def arrived(tmp_path: Path) -> Path:
    folder = tmp_path / "arrived"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("size", [0, 3, 2**20])
def test_a_path_arrives_as_one_to_the_same_contents(sent: Path, arrived: Path, size: int) -> None:
    sent.write_bytes(bytes(size))
    value = codec.decode(encoded({"file": (sent,)}), directory=arrived)["file"][0]

    assert value.parent == arrived
    assert value.read_bytes() == bytes(size)


def test_files_of_one_name_do_not_meet(sent: Path, arrived: Path) -> None:
    sent.write_bytes(b"a")
    paths = codec.decode(encoded([sent, sent]), directory=str(arrived))

    assert len({*paths}) == len(list(arrived.iterdir())) == 2


def test_the_folder_may_be_one_that_is_made_when_a_file_comes(sent: Path, arrived: Path) -> None:
    asked = []

    def folder() -> Path:
        asked.append(1)
        return arrived

    sent.write_bytes(b"a")
    codec.decode(encoded([1, (2,)]), directory=folder)
    assert not asked

    codec.decode(encoded([sent, (sent,)]), directory=folder)
    assert asked == [1]


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("photo.png", "-photo.png"),
        ("archive.tar.gz", "-archive.tar.gz"),
        ("../../../etc/passwd", "-passwd"),
        ("/etc/cron.d/x", "-x"),
        ("..", "-"),
        ("a\x00b.txt", "-b.txt"),
        ("ünïcode.pdf", "-code.pdf"),
        ("x" * 5000, "-" + "x" * 64),
        ("", "-"),
    ],
)
def test_only_the_end_of_a_name_is_taken_from_the_sender(arrived: Path, name: str, ending: str) -> None:
    tree = packed(Code.FILE, [name, b"contents"])
    path = codec.decode(frame(tree), directory=arrived)

    assert path.parent == arrived
    assert path.name[12:] == ending
    assert path.read_bytes() == b"contents"


def test_without_a_folder_a_file_is_refused(sent: Path) -> None:
    sent.write_bytes(b"a")
    with pytest.raises(BadInput, match="frame: a file, and there is no folder for it here"):
        round_trip([sent])


def test_a_frame_that_is_refused_leaves_no_file(arrived: Path) -> None:
    tree = b"\x92" + packed(Code.FILE, ["a", b"contents"]) + ormsgpack.packb(ormsgpack.Ext(99, b""))
    with pytest.raises(BadInput, match="unknown extension type 99"):
        codec.decode(frame(tree), directory=arrived)

    assert list(arrived.iterdir()) == []


def test_a_path_to_nothing_is_named_with_its_path(sent: Path) -> None:
    with pytest.raises(codec.EncodeError, match=r"^`value\[0\]` is a pathlib.*: .*No such file or directory"):
        codec.encode([sent])


def test_a_path_to_a_folder_cannot_travel(arrived: Path) -> None:
    with pytest.raises(codec.EncodeError, match="Is a directory"):
        codec.encode(arrived)


def test_a_path_that_is_to_no_file_of_this_machine_cannot_travel() -> None:
    with pytest.raises(codec.EncodeError, match=r"`value` is a pathlib.*PurePosixPath, which cannot travel"):
        codec.encode(PurePosixPath("a"))
