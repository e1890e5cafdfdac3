"""Bentos as one file: the same bytes each time, and nothing but a Bento comes in."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cli.store.test_store import fill

import bentoml
from bento_cli.errors import BentoError, NotFoundError
from bento_cli.project.models import LocalModel
from bento_cli.store import Store
from bento_cli.store.archive import SUFFIXES, ArchiveError, Limits, form_of, unpack, write_archive
from bento_cli.store.bento import Bento, content_digest, load_bento, manifest_text, seal
from bento_cli.store.bento_transfer import export_bento, import_bento
from bentoml._model_store import files_digest
from bentoml.exceptions import BentoMLException

Member = tuple[str, bytes, bytes]
WriteTar = Callable[..., Path]

EXAMPLES = int(os.environ.get("BENTO_FUZZ_EXAMPLES", "150"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def bento(store: Store) -> Bento:
    with store.workspace() as folder:
        complete(folder)
        return store.add(folder)[0]


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """A store that what was exported is imported to."""
    return Store(tmp_path / "elsewhere")


def complete(folder: Path) -> None:
    """A Bento with all that an import looks for."""
    fill(folder, "demo:1")
    service = folder / "services" / "Entry"
    service.mkdir(parents=True)
    (service / "Dockerfile").write_text("FROM scratch\n")
    (service / "requirements.txt").write_text("")
    (folder / "src" / "start.sh").write_text("#!/bin/sh\n")
    (folder / "src" / "start.sh").chmod(0o755)
    seal(folder)


def complete_with_model(folder: Path) -> None:
    """A Bento whose image is to hold a model of the store."""
    complete(folder)
    model = folder / "models" / "voice" / "v1"
    model.mkdir(parents=True)
    (model / "weights.bin").write_bytes(b"weights")
    held = LocalModel(tag="voice:v1", version="v1", digest=files_digest(model))
    manifest = load_bento(folder).manifest
    service = manifest.services[0].model_copy(update={"models": (held,)})
    changed = manifest.model_copy(update={"services": (service,)})
    (folder / "bento.yaml").write_text(manifest_text(changed))
    seal(folder)


def files_below(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of every file."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): (p.stat().st_mode & 0o777, p.read_bytes()) for p in found}


def nothing_is_left(store: Store) -> bool:
    with store.workspace() as own:
        return store.bentos() == [] and list(own.parent.iterdir()) == [own]


@pytest.fixture
def tar(tmp_path: Path) -> WriteTar:
    """`tar(("name", tarfile.REGTYPE, b"content"))`: an archive of what is given, whatever it is."""

    def write(*members: Member, **attributes: object) -> Path:
        path = tmp_path / "hostile.tar"
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            for name, kind, content in members:
                member = tarfile.TarInfo(name)
                member.type, member.size, member.linkname = kind, len(content), "/etc/passwd"
                for attribute, value in attributes.items():
                    setattr(member, attribute, value)
                archive.addfile(member, io.BytesIO(content))
        return path

    return write


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_exported_is_imported_as_it_was(
    bento: Bento, other: Store, tmp_path: Path, suffix: str
) -> None:
    path = export_bento(bento, tmp_path / f"demo{suffix}")

    imported, is_new = import_bento(path, other)

    assert is_new
    assert imported.manifest == bento.manifest
    assert files_below(imported.path) == files_below(bento.path)


@pytest.mark.parametrize("suffix", [".bento", ".tar.gz", ".tar.bz2", ".tar", ".zip"])
def test_a_bento_gives_the_same_bytes_whenever_and_by_whomever_it_is_exported(
    bento: Bento, tmp_path: Path, suffix: str
) -> None:
    first = export_bento(bento, tmp_path / f"first{suffix}").read_bytes()
    for path in bento.path.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(path.stat().st_mode & ~0o022 | 0o020)

    assert export_bento(bento, tmp_path / f"second{suffix}").read_bytes() == first


def test_a_file_is_named_after_the_bento_in_a_folder(bento: Bento, tmp_path: Path) -> None:
    assert export_bento(bento, tmp_path) == tmp_path / "demo-1.bento"
    assert export_bento(bento, tmp_path, form="zip") == tmp_path / "demo-1.zip"


def test_the_content_of_a_file_says_how_it_is_packed_not_its_name(
    bento: Bento, other: Store, tmp_path: Path
) -> None:
    path = export_bento(bento, tmp_path / "demo.zip").rename(tmp_path / "demo.bento")

    assert import_bento(path, other)[1]


def test_what_is_there_already_stays(bento: Bento, store: Store, tmp_path: Path) -> None:
    path = export_bento(bento, tmp_path)

    assert import_bento(path, store) == (bento, False)


@pytest.mark.parametrize("path", ["s3://bucket/demo.bento", "https://example.org/demo.bento"])
def test_a_url_is_refused_with_what_to_do(bento: Bento, store: Store, path: str) -> None:
    with pytest.raises(BentoError, match="files of this machine") as caught:
        export_bento(bento, path)
    with pytest.raises(BentoError, match="files of this machine"):
        import_bento(path, store)

    assert caught.value.hint is not None


def test_python_has_both_ways_too(
    bento: Bento, other: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bentoml.export_bento(bento, tmp_path, "gz")
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "elsewhere"))

    assert path == str(tmp_path / "demo-1.tar.gz")
    assert bentoml.import_bento(path) == other.get("demo")


def test_python_has_the_rest_of_the_store_too(
    bento: Bento, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))

    assert bentoml.bentos.list() == [bentoml.bentos.get("demo")] == [bento]
    bentoml.bentos.delete("demo:*")
    assert bentoml.bentos.list() == []


def test_an_unknown_form_is_refused_with_those_that_there_are(bento: Bento) -> None:
    with pytest.raises(BentoMLException, match="valid: xz, gz, bz2, tar, zip"):
        bentoml.export_bento(bento, output_format="rar")


def test_an_ending_that_says_nothing_is_refused_with_those_that_do() -> None:
    with pytest.raises(BentoError, match=r"'demo\.rar'.* valid: \.bento, \.tar\.xz"):
        form_of(Path("demo.rar"))


def test_a_bento_that_was_changed_in_the_store_is_not_exported(bento: Bento, tmp_path: Path) -> None:
    (bento.path / "src" / "service.py").write_text("import os")

    with pytest.raises(BentoError, match="is not what was built"):
        export_bento(bento, tmp_path)

    assert list(tmp_path.glob("*.bento")) == []


def test_an_export_that_fails_leaves_nothing_and_what_was_there(tmp_path: Path) -> None:
    folder, target = tmp_path / "folder", tmp_path / "out.tar"
    folder.mkdir()
    target.write_text("kept")
    (folder / "link").symlink_to("/etc/passwd")

    with pytest.raises(ArchiveError, match="is a link"):
        write_archive(folder, [folder / "link"], target, "tar")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "out.tar"]
    assert target.read_text() == "kept"


def test_names_that_are_one_on_some_systems_are_not_exported(tmp_path: Path) -> None:
    for name in ("README", "readme"):
        (tmp_path / name).write_text(name)

    with pytest.raises(ArchiveError, match="'readme' and 'README' are one file"):
        write_archive(tmp_path, sorted(tmp_path.iterdir()), tmp_path / "out.tar", "tar")


REGULAR = tarfile.REGTYPE

HOSTILE: dict[str, tuple[Member, ...]] = {
    "is an absolute path": (("/etc/cron.d/x", REGULAR, b""),),
    "leaves the folder": (("../x", REGULAR, b""),),
    "'src/../../x': leaves the folder": (("src/../../x", REGULAR, b""),),
    "backslash": (("src\\..\\x", REGULAR, b""),),
    "control characters": (("a\x1b[2Jb", REGULAR, b""),),
    "is no path in its shortest form": (("a//b", REGULAR, b""),),
    "folders deep": (("a/" * 65 + "b", REGULAR, b""),),
    "is longer than": (("a" * 256, REGULAR, b""),),
    "is a link": (("src", tarfile.SYMTYPE, b""), ("src/x", REGULAR, b"")),
    "'hard' is a link": (("hard", tarfile.LNKTYPE, b""),),
    "is a device": (("null", tarfile.CHRTYPE, b""),),
    "'disk' is a device": (("disk", tarfile.BLKTYPE, b""),),
    "is a pipe": (("pipe", tarfile.FIFOTYPE, b""),),
    "no known kind": (("odd", b"Q", b""),),
    "'a' stands there twice": (("a", REGULAR, b"1"), ("a", REGULAR, b"2")),
    "'b' stands there twice": (("b", REGULAR, b""), ("b/c", REGULAR, b"")),
    "'c' stands there twice": (("c/d", REGULAR, b""), ("c", REGULAR, b"")),
    "'A' and 'a' are one file": (("a", REGULAR, b""), ("A", REGULAR, b"")),
    "'Src' and 'src' are one file": (("src/a", REGULAR, b""), ("Src/b", REGULAR, b"")),
    "are one file where letters": (("caf\u00e9", REGULAR, b""), ("cafe\u0301", REGULAR, b"")),
}


@pytest.mark.parametrize("words", HOSTILE)
def test_an_archive_of_something_else_than_files_below_it_is_refused(
    tar: WriteTar, other: Store, words: str
) -> None:
    with pytest.raises(ArchiveError, match=words):
        import_bento(tar(*HOSTILE[words]), other)

    assert nothing_is_left(other)


def test_nothing_of_a_file_is_written_through_a_link_that_was_there_before(
    tar: WriteTar, tmp_path: Path
) -> None:
    (tmp_path / "into").mkdir()
    (tmp_path / "target").write_text("kept")
    (tmp_path / "into" / "a").symlink_to(tmp_path / "target")

    with pytest.raises(BentoError, match="File exists"):
        unpack(tar(("a", REGULAR, b"changed")), tmp_path / "into")

    assert (tmp_path / "target").read_text() == "kept"


def test_rights_to_become_somebody_else_are_not_unpacked(tar: WriteTar, tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()

    unpack(tar(("a", REGULAR, b""), mode=0o6777), tmp_path / "into")

    assert stat.S_IMODE((tmp_path / "into" / "a").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("name", "attributes", "words"),
    [
        ("../x", 0, "leaves the folder"),
        ("a\\b", 0, "backslash"),
        ("a\x00b", 0, "control characters"),
        ("link", stat.S_IFLNK | 0o777, "is a link"),
        ("pipe", stat.S_IFIFO | 0o777, "is a device"),
    ],
)
def test_a_zip_is_refused_like_that_too(
    tmp_path: Path, other: Store, name: str, attributes: int, words: str
) -> None:
    with zipfile.ZipFile(tmp_path / "hostile.zip", "w") as archive:
        member = zipfile.ZipInfo("placeholder")
        member.filename, member.external_attr = name, attributes << 16
        archive.writestr(member, "x")

    with pytest.raises(ArchiveError, match=words):
        import_bento(tmp_path / "hostile.zip", other)

    assert nothing_is_left(other)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_small_file_that_unpacks_to_very_much_is_refused(
    tar: WriteTar, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    bomb, folder = tmp_path / "bomb", tmp_path / "into"
    bomb.write_bytes(pack(tar(("zeros", REGULAR, bytes(3 << 20))).read_bytes()))
    folder.mkdir()

    with pytest.raises(ArchiveError, match="unpacks to more than"):
        unpack(bomb, folder, Limits(small=1 << 20, ratio=10))

    assert sum(path.stat().st_size for path in folder.iterdir()) <= 2 << 20


def test_a_zip_that_unpacks_to_very_much_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(3 << 20))
    (tmp_path / "into").mkdir()

    with pytest.raises(ArchiveError, match="unpacks to more than"):
        unpack(tmp_path / "bomb", tmp_path / "into", Limits(small=1 << 20, ratio=10))


def test_more_entries_than_any_bento_has_are_refused(tar: WriteTar, tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()

    with pytest.raises(ArchiveError, match="more than 2 entries"):
        unpack(tar(*((name, REGULAR, b"") for name in "abc")), tmp_path / "into", Limits(entries=2))


def test_a_header_that_asks_for_very_much_memory_is_refused(tar: WriteTar, other: Store) -> None:
    path = tar(("a", REGULAR, b""), pax_headers={"comment": "x" * (2 << 20)})

    with pytest.raises(ArchiveError, match="has a header of"):
        import_bento(path, other)


def test_headers_of_headers_without_end_are_refused(tar: WriteTar, tmp_path: Path, other: Store) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 0
    (tmp_path / "deep.tar").write_bytes(header.tobuf(tarfile.USTAR_FORMAT) * 5000)

    with pytest.raises(ArchiveError, match="damaged, or no archive"):
        import_bento(tmp_path / "deep.tar", other)


def test_a_size_that_leads_back_is_refused(tar: WriteTar, tmp_path: Path, other: Store) -> None:
    member = tarfile.TarInfo("a")
    data = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    data[124:136] = b"\xff" * 4 + struct.pack(">q", -(1 << 20))
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    (tmp_path / "back.tar").write_bytes(bytes(data) * 3)

    with pytest.raises(ArchiveError):
        import_bento(tmp_path / "back.tar", other)

    assert nothing_is_left(other)


def test_an_xz_that_needs_very_much_memory_is_refused(tar: WriteTar, tmp_path: Path, other: Store) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    packed = lzma.compress(tar(("a", REGULAR, b"")).read_bytes(), filters=filters)
    (tmp_path / "wide.xz").write_bytes(packed)

    with pytest.raises(ArchiveError, match="Memory usage limit"):
        import_bento(tmp_path / "wide.xz", other)


def without(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def renamed(folder: Path, old: str, new: str) -> None:
    manifest = (folder / "bento.yaml").read_text().replace(old, new)
    (folder / "bento.yaml").write_text(manifest)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: without(folder, "bento.yaml"), "has no bento.yaml at its top"),
        (lambda folder: (folder / "bento.yaml").write_text("a: ["), "not YAML"),
        (lambda folder: (folder / "bento.yaml").write_text("a: 1"), "`service` is missing"),
        (lambda folder: without(folder, "services/Entry/Dockerfile"), "Entry/Dockerfile is missing"),
        (lambda folder: renamed(folder, "name: Entry", "name: ../../etc"), "there are files of Entry"),
        (lambda folder: renamed(folder, "entry_service: Entry", "entry_service: X"), "names the entry 'X'"),
        (lambda folder: renamed(folder, "name: demo", "name: ../demo"), "'../demo' is no name"),
        (lambda folder: renamed(folder, "version: '1'", "version: '2'"), "has another digest"),
        (lambda folder: (folder / "src" / "service.py").write_text("import os"), "has another digest"),
        (lambda folder: (folder / "src" / "more.py").write_text(""), "has another digest"),
        (lambda folder: (folder / "src" / "start.sh").chmod(0o644), "has another digest"),
    ],
)
def test_a_bento_that_is_not_what_its_manifest_says_is_refused(
    tmp_path: Path, other: Store, change: Callable[[Path], object], words: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    complete(folder)
    change(folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    write_archive(folder, files, tmp_path / "changed.tar", "tar")

    with pytest.raises(BentoError, match=words):
        import_bento(tmp_path / "changed.tar", other)

    assert nothing_is_left(other)


def test_models_that_images_hold_travel_with_the_bento(store: Store, other: Store, tmp_path: Path) -> None:
    with store.workspace() as folder:
        complete_with_model(folder)
        bento, _ = store.add(folder)

    imported, _ = import_bento(export_bento(bento, tmp_path), other)

    assert (imported.path / "models" / "voice" / "v1" / "weights.bin").read_bytes() == b"weights"


@pytest.mark.parametrize(
    "change",
    [
        lambda models: (models / "voice" / "v1" / "weights.bin").write_bytes(b"others"),
        lambda models: (models / "voice" / "v1" / "weights.bin").unlink(),
        lambda models: (models / "voice" / "v1" / "more.bin").write_bytes(b""),
        lambda models: (models / "voice" / "v1").rename(models / "voice" / "v2"),
        lambda models: (models / "stray").write_bytes(b""),
    ],
)
def test_models_that_are_not_those_of_the_manifest_are_refused(
    tmp_path: Path, other: Store, change: Callable[[Path], object]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    complete_with_model(folder)
    change(folder / "models")
    files = [path for path in folder.rglob("*") if path.is_file()]
    write_archive(folder, files, tmp_path / "changed.tar", "tar")

    with pytest.raises(BentoError, match=r"names models, and models/\S+ is none of them, or not as it was"):
        import_bento(tmp_path / "changed.tar", other)

    assert nothing_is_left(other)


@pytest.mark.parametrize(("name", "words"), [("none.bento", "no such file"), ("", "is a folder")])
def test_what_is_no_file_is_not_found(tmp_path: Path, other: Store, name: str, words: str) -> None:
    with pytest.raises(NotFoundError, match=words):
        import_bento(tmp_path / name, other)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\x00", b"x" * 600])
def test_what_is_no_archive_is_refused_in_words(tmp_path: Path, other: Store, content: bytes) -> None:
    (tmp_path / "odd").write_bytes(content)

    with pytest.raises(BentoError, match="damaged, or no archive"):
        import_bento(tmp_path / "odd", other)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A good archive in each form."""
    folder = tmp_path_factory.mktemp("good")
    complete(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    forms = {}
    for suffix in (".tar", ".tar.gz", ".tar.bz2", ".bento", ".zip"):
        target = tmp_path_factory.mktemp("archives") / f"demo{suffix}"
        write_archive(folder, files, target, form_of(target))
        forms[suffix] = target.read_bytes()
    return forms


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    suffix=st.sampled_from([".tar", ".tar.gz", ".tar.bz2", ".bento", ".zip"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    kept=st.floats(0, 1),
    is_cut=st.booleans(),
)
def test_a_file_with_odd_bytes_is_refused_or_is_the_same_bento(
    archives: dict[str, bytes], suffix: str, changes: list[tuple[float, int]], kept: float, is_cut: bool
) -> None:
    data = bytearray(archives[suffix])
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    if is_cut:
        del data[int(kept * len(data)) :]
    with tempfile.TemporaryDirectory() as folder:
        path, store = Path(folder, "odd"), Store(Path(folder, "home"))
        path.write_bytes(data)

        try:
            bento, _ = import_bento(path, store)
        except BentoError:
            assert nothing_is_left(store)
        else:
            assert content_digest(bento.path) == bento.manifest.digest


NAMES = st.lists(
    st.sampled_from(["a", "A", "b", "..", ".", "", "/", "\\", "é", "\x00", "c:", "src"]), max_size=4
).map("/".join)
KINDS = st.sampled_from([REGULAR, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])


@settings(max_examples=EXAMPLES, deadline=None)
@given(members=st.lists(st.tuples(NAMES, KINDS, st.sampled_from(["a", "..", "/tmp"])), max_size=5))
def test_whatever_an_archive_holds_nothing_is_written_outside(members: list[tuple[str, bytes, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, into = Path(folder, "odd.tar"), Path(folder, "deep", "into")
        into.mkdir(parents=True)
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
            for name, kind, link in members:
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, link
                archive.addfile(member)

        with suppress(ArchiveError):
            unpack(path, into)

        outside = [found for found in Path(folder).rglob("*") if not found.is_relative_to(into)]
        assert sorted(outside) == [Path(folder, "deep"), path]
        assert all(not found.is_symlink() for found in into.rglob("*"))
