"""A folder as one file: written the same way each time, and unpacked as if its writer meant harm."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Final, Literal, TypeAlias, cast

from bento_cli.errors import BentoError, NotFoundError, shown

Form: TypeAlias = Literal["tar", "gz", "bz2", "xz", "zip"]
"""How a folder becomes one file."""

SUFFIXES: Final[dict[str, Form]] = {
    ".bento": "xz",
    ".tar.xz": "xz",
    ".txz": "xz",
    ".xz": "xz",
    ".tar.gz": "gz",
    ".tgz": "gz",
    ".gz": "gz",
    ".tar.bz2": "bz2",
    ".tbz2": "bz2",
    ".bz2": "bz2",
    ".tar": "tar",
    ".zip": "zip",
}
_BEGINNINGS: Final[dict[bytes, Form]] = {
    b"\x1f\x8b": "gz",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
}

_MAX_NAME_BYTES: Final = 1024
_MAX_PART_BYTES: Final = 255
_MAX_DEPTH: Final = 64
# The pieces in which files are copied, and more than any header needs.
_PIECE: Final = 1 << 20
# What unpacking xz may take of memory: twice what its strongest preset asks for.
_XZ_MEMORY: Final = 128 << 20
# The first moment that a zip can tell.
_ZIP_EPOCH: Final = (1980, 1, 1, 0, 0, 0)

# What reading an archive that is none, or a bad one, raises.
_DAMAGED: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    NotImplementedError,
    RecursionError,
    ValueError,
)


class ArchiveError(BentoError):
    """An archive that is damaged, or that holds what no archive of ours holds."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much an archive may hold.

    Args:
        total: bytes, all files together.
        ratio: how many times its own size, from `small` bytes on.
    """

    entries: int = 100_000
    total: int = 1 << 40
    ratio: int = 200
    small: int = 64 << 20

    def bytes_of(self, archive: Path) -> int:
        """What this very archive may hold."""
        return min(self.total, max(self.small, self.ratio * archive.stat().st_size))


AS_USUAL: Final = Limits()


@dataclass
class _Names:
    """The names of an archive, each checked beside those before it."""

    _known: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def path(self, name: str, *, is_folder: bool) -> PurePosixPath:
        """The name as a path below the folder that is unpacked to.

        Raises:
            ArchiveError: no file system may be shown it, or it means a file that another name means, too.
        """
        path = PurePosixPath(name)
        parts = name.removeprefix("./").rstrip("/").split("/")
        if problem := _problem(name, parts):
            raise ArchiveError(f"{name!r}: {problem}")
        for parent in reversed([*path.parents][:-1]):
            self._claim(str(parent), is_folder=True)
        self._claim(str(path), is_folder=is_folder)
        return path

    def _claim(self, name: str, *, is_folder: bool) -> None:
        key = unicodedata.normalize("NFC", name).casefold()
        if key not in self._known:
            self._known[key] = (name, is_folder)
            return
        known, was_folder = self._known[key]
        if known != name:
            raise ArchiveError(f"{name!r} and {known!r} are one file where letters have no case")
        if not (is_folder and was_folder):
            raise ArchiveError(f"{name!r} stands there twice")


def _problem(name: str, parts: list[str]) -> str | None:
    """What is wrong with one name."""
    if name.startswith("/"):
        return "is an absolute path"
    if ".." in parts:
        return "leaves the folder that it is unpacked to"
    if "\\" in name:
        return "holds a backslash, which some systems take for a slash"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        return "holds control characters, or bytes that are no UTF-8"
    if "" in parts or "." in parts:
        return "is no path in its shortest form"
    if len(parts) > _MAX_DEPTH:
        return f"is more than {_MAX_DEPTH} folders deep"
    if len(name.encode()) > _MAX_NAME_BYTES or any(len(part.encode()) > _MAX_PART_BYTES for part in parts):
        return f"is longer than {_MAX_NAME_BYTES} bytes, or a part of it than {_MAX_PART_BYTES}"
    return None


def form_of(path: Path) -> Form:
    """How a file of that name is written.

    Raises:
        BentoError: its ending says nothing.
    """
    for suffix, form in SUFFIXES.items():
        if path.name.endswith(suffix) and path.name != suffix:
            return form
    raise BentoError(f"{path.name!r}: the ending says how to write it; valid: {', '.join(SUFFIXES)}")


def as_form(text: str | None) -> Form | None:
    """What a caller says of the form.

    Raises:
        BentoError: there is no such form.
    """
    if text is None:
        return None
    forms: dict[str, Form] = {form: form for form in SUFFIXES.values()}
    if text not in forms:
        raise BentoError(f"{text!r} is no form of an archive; valid: {', '.join(forms)}")
    return forms[text]


def write_archive(folder: Path, files: Iterable[Path], target: Path, form: Form) -> None:
    """Write files of a folder into one, which is there as a whole or not at all; the same for the same files.

    Raises:
        BentoError: one of them is no file, or has a name that cannot be unpacked everywhere; or there is no
            writing `target`.
    """
    names = _Names()
    packed = [(path, path.relative_to(folder).as_posix()) for path in files]
    for path, name in packed:
        names.path(name, is_folder=False)
        if path.is_symlink() or not path.is_file():
            raise ArchiveError(f"{shown(path)}: is a link or a device; archives hold files alone")
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise BentoError(f"{shown(target)}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            if form == "zip":
                _write_zip(file, packed)
            else:
                with _compressing(file, form) as stream:
                    _write_tar(stream, packed)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _write_tar(stream: IO[bytes], packed: Iterable[tuple[Path, str]]) -> None:
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, name in packed:
            member = tarfile.TarInfo(name)  # of time 0, and nobody's
            member.size, member.mode = path.stat().st_size, _mode(path.stat().st_mode)
            with path.open("rb") as content:
                archive.addfile(member, content)


def _write_zip(stream: IO[bytes], packed: Iterable[tuple[Path, str]]) -> None:
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, name in packed:
            member = zipfile.ZipInfo(name, _ZIP_EPOCH)
            member.compress_type, member.create_system = zipfile.ZIP_DEFLATED, 3
            member.external_attr = (stat.S_IFREG | _mode(path.stat().st_mode)) << 16
            member.file_size = path.stat().st_size
            with path.open("rb") as content, archive.open(member, "w") as packing:
                shutil.copyfileobj(content, packing)


@contextmanager
def _compressing(file: IO[bytes], form: Form) -> Iterator[IO[bytes]]:
    if form == "tar":
        yield file
    elif form == "gz":
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as zipped:
            yield cast("IO[bytes]", zipped)
    elif form == "bz2":
        with bz2.BZ2File(file, "wb") as packed:
            yield cast("IO[bytes]", packed)
    else:
        with lzma.LZMAFile(file, "wb") as packed_well:
            yield cast("IO[bytes]", packed_well)


def unpack(archive: Path, folder: Path, limits: Limits = AS_USUAL) -> None:
    """Write what an archive holds into an empty folder: files and folders, and nothing but those.

    Whose folder it is removes it after an error: some of the files may be there by then.

    Raises:
        NotFoundError: there is no such file.
        ArchiveError: it is damaged, too large, or holds something else or a name that leads elsewhere.
    """
    if not archive.is_file():
        what = "is a folder, expected an archive" if archive.is_dir() else "no such file"
        raise NotFoundError(f"{shown(archive)}: {what}")
    try:
        with archive.open("rb") as file:
            budget = _Budget(limits.bytes_of(archive))
            members = _zip_members(file, budget) if _form_in(file) == "zip" else _tar_members(file, budget)
            _write_members(members, folder, limits.entries)
    except ArchiveError as error:
        raise ArchiveError(f"{shown(archive)} is refused: {error.message}") from None
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise BentoError(f"{shown(archive)} cannot be unpacked: {error.strerror}") from error
        raise ArchiveError(f"{shown(archive)}: damaged, or no archive: {error}") from error


@dataclass(frozen=True, kw_only=True)
class _Member:
    """What an archive says of one thing that it holds; `content` is a file's."""

    name: str
    kind: str
    is_executable: bool
    content: IO[bytes] | _Spending | None


def _write_members(members: Iterator[_Member], folder: Path, most: int) -> None:
    names = _Names()
    for count, member in enumerate(members):
        if count == most:
            raise ArchiveError(f"it has more than {most} entries")
        if member.kind not in ("file", "folder"):
            raise ArchiveError(f"{member.name!r} is a {member.kind}; archives hold files and folders alone")
        if member.kind == "folder" and member.name in (".", "./"):
            continue
        path = folder / names.path(member.name, is_folder=member.kind == "folder")
        if member.content is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        # The folder is our own and holds no link; what is there already is not written to, all the same.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o644), "wb") as file:
            while piece := member.content.read(_PIECE):
                file.write(piece)
        path.chmod(0o755 if member.is_executable else 0o644)


def _form_in(file: IO[bytes]) -> Form:
    beginning = file.read(max(map(len, _BEGINNINGS)))
    file.seek(0)
    for magic, form in _BEGINNINGS.items():
        if beginning.startswith(magic):
            return form
    return "tar"


def _tar_members(file: IO[bytes], budget: _Budget) -> Iterator[_Member]:
    with _decompressing(file) as stream, _opened_tar(_Spending(stream, budget)) as archive:
        while member := archive.next():
            kind = _TAR_KINDS.get(member.type, "thing of no known kind")
            yield _Member(
                name=member.name,
                kind="file with holes" if member.issparse() else kind,
                is_executable=bool(member.mode & 0o100),
                content=archive.extractfile(member) if kind == "file" else None,
            )


def _opened_tar(stream: _Spending) -> tarfile.TarFile:
    # It reads on and never back, as far as an archive is well made.
    return tarfile.TarFile(fileobj=cast("IO[bytes]", stream))


_TAR_KINDS: Final = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "link",
    tarfile.LNKTYPE: "link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
}


def _zip_members(file: IO[bytes], budget: _Budget) -> Iterator[_Member]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            # What the name was before zipfile cut it at a NUL or put slashes into it.
            name, mode = member.orig_filename, member.external_attr >> 16
            kind = "folder" if name.endswith("/") else "file"
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = "link" if stat.S_ISLNK(mode) else "device"
            elif member.flag_bits & 1:
                kind = "file with a password"
            elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                kind = f"file that is packed by method {member.compress_type}"
            content = _Spending(archive.open(member), budget) if kind == "file" else None
            yield _Member(name=name, kind=kind, is_executable=bool(mode & 0o100), content=content)


@contextmanager
def _decompressing(file: IO[bytes]) -> Iterator[IO[bytes] | _Xz]:
    form = _form_in(file)
    if form == "gz":
        with gzip.GzipFile(fileobj=file) as unzipped:
            yield cast("IO[bytes]", unzipped)
    elif form == "bz2":
        with bz2.BZ2File(file) as unpacked:
            yield cast("IO[bytes]", unpacked)
    else:
        yield _Xz(file) if form == "xz" else file


class _Xz:
    """What `lzma.LZMAFile` reads, which takes as much memory as the file says that it needs."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def read(self, size: int) -> bytes:
        """At most so many bytes, none at the end."""
        data = b""
        while not data and not self._decompressor.eof:
            packed = self._file.read(_PIECE) if self._decompressor.needs_input else b""
            if not packed and self._decompressor.needs_input:
                raise EOFError("it ends too early")
            data = self._decompressor.decompress(packed, size)
        return data


@dataclass
class _Budget:
    """The bytes that may be unpacked yet."""

    most: int
    spent: int = 0


class _Spending:
    """A stream that ends a budget, asks for little at once, and is read from its beginning to its end."""

    def __init__(self, stream: IO[bytes] | _Xz, budget: _Budget) -> None:
        self._stream = stream
        self._budget = budget
        self._position = 0

    def read(self, size: int) -> bytes:
        """So many bytes; fewer at the end.

        Raises:
            ArchiveError: that is more than there may be.
        """
        if size > _PIECE:
            raise ArchiveError(f"it has a header of {size} bytes")
        data = b""
        while len(data) < size and (piece := self._stream.read(size - len(data))):
            data += piece
        self._position += len(data)
        self._budget.spent += len(data)
        if self._budget.spent > self._budget.most:
            raise ArchiveError(f"it unpacks to more than {self._budget.most} bytes, too much for its size")
        return data

    def tell(self) -> int:
        """Where it is."""
        return self._position

    def seek(self, position: int) -> int:
        """Go on to there.

        Raises:
            ArchiveError: that is behind, where no archive of ours leads.
        """
        if position < self._position:
            raise ArchiveError("its headers do not fit together")
        while self._position < position and self.read(min(_PIECE, position - self._position)):
            pass
        return self._position


def _mode(mode: int) -> int:
    return 0o755 if mode & 0o100 else 0o644
