"""Archives: good ones come out whole, bad ones not at all."""

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from nbcore.data.unpack import Limits, is_archive, unpack
from nbcore.errors import UserError

_GOOD = {"set/images/a.png": b"picture", "set/table.csv": b"a,b\n1,2\n", "readme.txt": b""}
_TARS = {".tar": "w:", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz", ".tar.bz2": "w:bz2"}


def _zip(path: Path, members: list[tuple[str, bytes]], mode: int = stat.S_IFREG | 0o644) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members:
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(info, content)
    return path


def _tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w:", **kind: object) -> Path:
    with tarfile.open(path, mode) as packed:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in kind.items():
                setattr(info, key, value)
            packed.addfile(info, io.BytesIO(content))
    return path


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("suffix", [".zip", *_TARS])
def test_good_archives_come_out_whole(tmp_path, suffix):
    path = tmp_path / f"good{suffix}"
    members = list(_GOOD.items())
    _zip(path, members) if suffix == ".zip" else _tar(path, members, _TARS[suffix])
    assert is_archive(path.name)
    unpack(path, tmp_path / "out")
    assert _files(tmp_path / "out") == _GOOD


def test_archives_as_programs_write_them(tmp_path):
    source = tmp_path / "source"
    (source / "a/b").mkdir(parents=True)
    (source / "a/b/x.txt").write_text("x")
    (source / ("long" * 40)).write_text("a name of 160 characters")
    with tarfile.open(tmp_path / "s.tar.gz", "w:gz", format=tarfile.GNU_FORMAT) as packed:
        packed.add(source, ".")  # "./a", "./a/b": as `tar .` does
    unpack(tmp_path / "s.tar.gz", tmp_path / "out")
    assert _files(tmp_path / "out") == _files(source)


def test_a_single_gzipped_file_and_a_table_that_stays_packed(tmp_path):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n"))
    unpack(path, tmp_path / "out")
    assert _files(tmp_path / "out") == {"table.csv": b"a,b\n"}
    assert not is_archive(path.name)


@pytest.mark.parametrize("suffix", [".zip", ".tgz"])
def test_a_prefix_is_taken_off_and_the_rest_left_out(tmp_path, suffix):
    path = tmp_path / f"good{suffix}"
    members = list(_GOOD.items())
    _zip(path, members) if suffix == ".zip" else _tar(path, members, "w:gz")
    unpack(path, tmp_path / "out", prefix="set")
    assert _files(tmp_path / "out") == {"images/a.png": b"picture", "table.csv": b"a,b\n1,2\n"}
    with pytest.raises(UserError, match="holds nothing in other"):
        unpack(path, tmp_path / "none", prefix="other")
    assert not (tmp_path / "none").exists()


_NAMES = ["/etc/x", "../x", "a/../../x", "a/..", "..", "C:/x", "c:x", "a\\..\\x", "\\\\host\\x", "a\nb", "a\x00b"]
_CLASHES = [["a", "a"], ["A/x", "a/y"], ["x.PNG", "x.png"], ["a", "a/b"], ["a/b", "a"], ["é", "e\u0301"]]


def _refused(path: Path, home: Path, match: str, limits: Limits | None = None) -> None:
    """Nothing of the archive may be left anywhere."""
    before = sorted(home.rglob("*"))
    with pytest.raises(UserError, match=match) as caught:
        unpack(path, home / "deep" / "er" / "out", limits)
    assert path.name in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(home.rglob("*")) == sorted([*before, home / "deep", home / "deep" / "er"])


@pytest.mark.parametrize(
    ("name", "suffix"),
    [(name, suffix) for name in _NAMES for suffix in (".zip", ".tar") if (suffix, name) != (".tar", "a\x00b")],
)  # a tar's names end at the first zero
def test_no_name_leads_out(tmp_path, name, suffix):
    members = [("fine.txt", b"fine"), (name, b"evil")]
    path = tmp_path / f"evil{suffix}"
    _zip(path, members) if suffix == ".zip" else _tar(path, members)
    _refused(path, tmp_path, "is not to be trusted: its member")


@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile, when the test writes it
@pytest.mark.parametrize("names", _CLASHES, ids=str)
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_no_member_overwrites_another(tmp_path, names, suffix):
    members = [(name, name.encode()) for name in names]
    path = tmp_path / f"clash{suffix}"
    _zip(path, members) if suffix == ".zip" else _tar(path, members)
    _refused(path, tmp_path, "is in the way of")


@pytest.mark.parametrize("kind", ["SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE"])
def test_no_links_or_devices_in_a_tar(tmp_path, kind):
    path = _tar(tmp_path / "evil.tgz", [("link", b"")], "w:gz", type=getattr(tarfile, kind), linkname="/etc/passwd")
    _refused(path, tmp_path, "is a link or a device")


def test_nothing_is_written_through_a_link(tmp_path):
    (tmp_path / "victim").mkdir()
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as packed:
        link = tarfile.TarInfo("a")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "victim")
        packed.addfile(link)
        file = tarfile.TarInfo("a/x")
        file.size = 4
        packed.addfile(file, io.BytesIO(b"evil"))
    _refused(path, tmp_path, "is a link or a device")


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_no_links_or_devices_in_a_zip(tmp_path, mode):
    _refused(_zip(tmp_path / "evil.zip", [("link", b"/etc/passwd")], mode | 0o777), tmp_path, "is a link or a device")


def test_no_encrypted_member(tmp_path):
    path = _zip(tmp_path / "secret.zip", [("a", b"a" * 100)])
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    path.write_bytes(content)
    _refused(path, tmp_path, "is encrypted")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.xz", ".gz"])
def test_no_bombs(tmp_path, suffix):
    zeros = bytes(3 << 20)
    path = tmp_path / f"bomb{suffix}"
    if suffix == ".zip":
        _zip(path, [("a", zeros)])
    elif suffix == ".gz":
        path.write_bytes(gzip.compress(zeros))
    else:
        _tar(path, [("a", zeros)], _TARS[suffix])
    _refused(path, tmp_path, "unpacks to more than", Limits(ratio=100, free=1 << 20))
    _refused(path, tmp_path / "deep", "unpacks to more than", Limits(size=1 << 20))
    unpack(path, tmp_path / "out", Limits(size=3 << 20))  # as large as it was said to be


def test_a_bomb_that_lies_about_its_size(tmp_path):
    path = _zip(tmp_path / "bomb.zip", [("a", bytes(3 << 20))])
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.index(mark) + offset, 10)
    path.write_bytes(content)
    _refused(path, tmp_path, "is damaged", Limits(size=1 << 20))


def test_a_bomb_behind_the_end_or_in_a_header(tmp_path):
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(bytes(20 << 20)))
    _refused(path, tmp_path, "unpacks to more than|is damaged", Limits(size=1 << 20))
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 16 << 20
    path.write_bytes(gzip.compress(header.tobuf() + b"a" * header.size))
    _refused(path, tmp_path / "deep", "a header is too long")


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_too_many_members(tmp_path, suffix):
    members = [(f"{number}", b"") for number in range(11)]
    path = tmp_path / f"many{suffix}"
    _zip(path, members) if suffix == ".zip" else _tar(path, members)
    _refused(path, tmp_path, "more than 10 members", Limits(members=10))


@pytest.mark.parametrize("suffix", [".zip", *_TARS, ".gz"])
def test_damaged_archives(tmp_path, suffix):
    path = tmp_path / f"good{suffix}"
    members = [("a", bytes(range(256)) * 40), ("b", bytes(range(256)) * 40), ("c", b"")]
    if suffix == ".zip":
        _zip(path, members)
    elif suffix == ".gz":
        path.write_bytes(gzip.compress(members[0][1]))
    else:
        _tar(path, members, _TARS[suffix])
    whole = path.read_bytes()
    broken = [b"", b"<html>please log in</html>" * 50, whole[: len(whole) // 2]]
    if suffix != ".tar":  # a plain tar has no checksum of its contents
        broken.append(whole[: len(whole) // 3] + b"\xff\x00\xff\x00" * 8 + whole[len(whole) // 3 + 32 :])
    else:
        broken.append(whole[: len(whole) - len(whole) % 10240 - 10240 + 1024])
    for number, content in enumerate(broken):
        path.write_bytes(content)
        home = tmp_path / str(number)
        home.mkdir()
        _refused(path, home, "is damaged")


def test_a_tar_with_a_broken_second_header_is_not_taken_for_a_short_one(tmp_path):
    path = _tar(tmp_path / "good.tar", [("a", b"a"), ("b", b"b")])
    content = bytearray(path.read_bytes())
    content[1024:1100] = b"\xff" * 76
    path.write_bytes(content)
    _refused(path, tmp_path, "is damaged")


def test_a_left_over_of_a_killed_run_is_replaced(tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "old").write_text("old")
    unpack(_zip(tmp_path / "good.zip", list(_GOOD.items())), tmp_path / "out")
    assert _files(tmp_path / "out") == _GOOD
    assert not (tmp_path / "out.partial").exists()
