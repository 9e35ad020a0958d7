"""Unpacks an archive from the internet: the whole of it or nothing, and nothing outside its own folder.

An archive is not trusted. What it wants to write is looked at by name and kind before a byte is written, and what it
writes is counted, whatever it declares.
"""

import bz2
import errno
import gzip
import io
import lzma
import re
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nbcore.errors import UserError

_CHUNK = 1 << 20
_HEADER = 4 << 20  # bytes of a tar read in one go: a longer name is an attack on the memory
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, struct.error, ValueError)
_TARS: dict[str, Callable[..., IO[bytes]]] = {
    ".tar": open,
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.xz": lzma.open,
    ".txz": lzma.open,
    ".tar.bz2": bz2.open,
    ".tbz2": bz2.open,
}


@dataclass(frozen=True)
class Limits:
    """How much an archive may unpack to, at most.

    `size` in bytes, where the unpacked size is known; else `ratio` times the archive's own size, of which the first
    `free` bytes are never too many (short tables shrink a lot).
    """

    size: int | None = None
    ratio: int = 100
    free: int = 64 << 20
    members: int = 1_000_000

    def bytes(self, archive: Path) -> int:
        """The most that `archive` may unpack to."""
        return self.size if self.size is not None else max(self.free, self.ratio * archive.stat().st_size)


def is_archive(name: str) -> bool:
    """Whether `unpack` opens a file of that name; else it is data as it stands (a .csv, a .csv.gz)."""
    return name.lower().endswith((".zip", *_TARS))


def unpack(archive: Path, target: Path, limits: Limits | None = None, prefix: str = "") -> None:
    """Unpack a zip, a tar (plain, .gz, .xz, .bz2) or one gzipped file as the new folder `target`: whole or not at all.

    It is written beside `target`, as "NAME.partial", and renamed. With a `prefix`, a folder of the archive, only what
    lies in it is unpacked, and directly.

    Raises UserError, in one sentence that names archive and member, for what is no archive or a damaged one; a member
    with an absolute path, a drive, a backslash, a control character or ".."; a link, a device or a pipe; two members
    of the same place, also where only the case differs; an encrypted member; more bytes or members than `limits`.
    """
    limits = limits or Limits()
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with _one_sentence(archive):
            _Writer(archive, partial, limits, prefix).write_all()
        if not any(partial.iterdir()):
            raise UserError(f"{archive} holds nothing{f' in {prefix}' if prefix else ''}: is it the right file?")
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _one_sentence(archive: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise UserError(f"{archive} is damaged or no such archive ({' '.join(str(error).split())})") from error
    except (NotImplementedError, RuntimeError) as error:  # zipfile: a method it does not know, a password
        raise UserError(f"{archive} cannot be unpacked: {error}") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(f"no space left to unpack {archive}: make room and try again") from error
        if error.errno is None:  # gzip and bz2 say so
            raise UserError(f"{archive} is damaged or no such archive ({error})") from error
        raise UserError(f"cannot unpack {archive}: {error}") from error


class _Writer:
    """Writes members of one archive below one folder, and refuses what does not belong there."""

    def __init__(self, archive: Path, folder: Path, limits: Limits, prefix: str) -> None:
        self.archive, self.folder, self.members = archive, folder, limits.members
        self.limit, self.written = limits.bytes(archive), 0
        self.prefix = tuple(part for part in prefix.split("/") if part)
        self.spelt: dict[tuple[str, ...], tuple[str, ...]] = {}  # path without regard to case -> as it came first
        self.files: set[tuple[str, ...]] = set()
        self.folders: set[tuple[str, ...]] = set()

    def write_all(self) -> None:
        name = self.archive.name.lower()
        if not self.archive.stat().st_size:
            raise EOFError("it is empty")
        if name.endswith(".zip"):
            return self._zip()
        for suffix, opened in _TARS.items():
            if name.endswith(suffix):
                return self._tar(opened)
        if name.endswith(".gz"):
            with gzip.open(self.archive, "rb") as packed:
                return self._file(self._place(self.archive.name[:-3], is_file=True), packed)
        raise UserError(f"{self.archive} is no zip, tar or gz")

    def _zip(self) -> None:
        with zipfile.ZipFile(self.archive) as packed:
            infos = packed.infolist()
            self._allow(len(infos), sum(info.file_size for info in infos))
            places = []
            for info in infos:  # all are looked at before any is written
                if info.flag_bits & 0x1:
                    self._refuse(info.filename, "is encrypted")
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    self._refuse(info.filename, "is a link or a device")
                places.append(self._place(info.orig_filename, is_file=not info.is_dir()))
            for info, place in zip(infos, places, strict=True):
                if info.is_dir():
                    self._folder(place)
                else:
                    with packed.open(info) as content:
                        self._file(place, content, info.file_size)

    def _tar(self, opened: Callable[..., IO[bytes]]) -> None:
        number = 0

        def count(place: int) -> None:  # of the tar itself, headers and padding included
            self._allow(number, place - (number << 12) - _HEADER)

        with opened(self.archive, "rb") as plain:
            counted = _Counted(plain, count)
            with tarfile.open(fileobj=counted, mode="r:") as packed:
                while (member := packed.next()) is not None:
                    packed.members = []  # it would keep every header
                    number += 1
                    self._allow(number, member.size)
                    if not (member.isreg() or member.isdir()):
                        self._refuse(member.name, "is a link or a device")
                    place = self._place(member.name, is_file=member.isreg())
                    if member.isdir():
                        self._folder(place)
                    else:
                        self._file(place, packed.extractfile(member), member.size)
            if counted.last.strip(b"\0") or not counted.last:  # tarfile takes a broken header for the end
                raise tarfile.ReadError("it ends in the middle")
            while counted.read(_CHUNK):  # to the checksum at the end
                pass

    def _place(self, name: str, is_file: bool) -> Path | None:
        """Where a member of this name goes; None for what is outside the prefix."""
        if re.search(r"[\\\x00-\x1f\x7f]", name) or re.match(r"/|[A-Za-z]:", name) or not name:
            self._refuse(name, "is no plain relative path")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if ".." in parts:
            self._refuse(name, "leads out of its folder")
        folded = tuple(unicodedata.normalize("NFC", part).casefold() for part in parts)
        for depth in range(1, len(parts) + 1):
            here, is_last = folded[:depth], depth == len(parts)
            spelt = self.spelt.setdefault(here, parts[:depth])
            new_file = is_last and is_file
            if spelt != parts[:depth] or here in self.files or (new_file and here in self.folders):
                self._refuse(name, f"is in the way of {'/'.join(spelt)!r}")
            (self.files if new_file else self.folders).add(here)
        inside = parts[: len(self.prefix)] == self.prefix and len(parts) > len(self.prefix)
        return self.folder.joinpath(*parts[len(self.prefix) :]) if inside else None

    def _folder(self, place: Path | None) -> None:
        if place is not None:
            place.mkdir(parents=True, exist_ok=True)

    def _file(self, place: Path | None, content: IO[bytes], size: int | None = None) -> None:
        """Write (or only read, for its checksum) a member, and count what it really holds."""
        written = 0
        self._folder(None if place is None else place.parent)
        with io.BytesIO() if place is None else place.open("xb") as file:
            while block := content.read(_CHUNK):
                written += len(block)
                self.written += len(block)
                self._allow(0, self.written)
                if place is not None:
                    file.write(block)
        if size is not None and written != size:
            raise EOFError(f"a member has {written} bytes instead of {size}")

    def _allow(self, members: int, size: int) -> None:
        if members > self.members:
            raise UserError(f"{self.archive} has more than {self.members} members, which is too many to be right")
        if size > self.limit:
            raise UserError(f"{self.archive} unpacks to more than {self.limit} bytes, which is too much to be right")

    def _refuse(self, name: str, why: str) -> None:
        raise UserError(f"{self.archive} is not to be trusted: its member {name!r} {why}; nothing of it was unpacked")


class _Counted(io.RawIOBase):
    """A tar, read on from its beginning; `count` is told how far that is."""

    def __init__(self, plain: IO[bytes], count: Callable[[int], None]) -> None:
        self.plain, self.count, self.last = plain, count, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _HEADER:
            raise tarfile.ReadError("a header is too long")
        self.last = self.plain.read(size)
        self.count(self.plain.tell())
        return self.last

    def seek(self, place: int, whence: int = 0) -> int:
        while whence == 0 and (rest := place - self.plain.tell()) > 0:
            if not self.read(min(rest, _CHUNK)):
                break
        return self.plain.tell() if self.plain.tell() == place else self.plain.seek(place, whence)

    def tell(self) -> int:
        return self.plain.tell()
