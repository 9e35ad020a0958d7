"""Fetching, from a server that misbehaves: the data set arrives whole, once, or not at all."""

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from nbcore.__main__ import cli
from nbcore.data import download as downloads
from nbcore.data import fetch as fetching
from nbcore.data.download import download, file_hash, remote_size
from nbcore.data.fetch import fetch, instructions
from nbcore.data.manifest import Download, Manifest, list_manifests, load_manifest
from nbcore.data.phantom.twins import write_twin
from nbcore.errors import UsageError, UserError


class _Server(ThreadingHTTPServer):
    """Serves `files`; each request takes the next of `script` (a word for how to misbehave)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        self.script: list[str] = []
        self.seen: list[tuple[str, str | None]] = []  # (path, Range) of each GET
        self.sent = 0
        self.slow = 0.0  # seconds between pieces
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, request, client_address) -> None:
        pass  # a client that was killed


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    server: _Server

    def log_message(self, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        content = self.server.files.get(self.path[1:])
        self.send_response(404 if content is None else 200)
        if content is not None:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()

    def do_GET(self) -> None:
        server = self.server
        server.seen.append((self.path[1:], self.headers.get("Range")))
        how = server.script.pop(0) if server.script else ""
        if re.fullmatch(r"\d{3}", how):
            self.send_response(int(how))
            if how == "429":
                self.send_header("Retry-After", "0")
            self.end_headers()
            return
        if how.startswith("to "):
            self.send_response(302)
            self.send_header("Location", how[3:])
            self.end_headers()
            return
        if how.startswith("change"):
            server.files[self.path[1:]] = bytes(reversed(server.files[self.path[1:]]))
            server.tags[self.path[1:]] = '"new"'
        content = server.files.get(self.path[1:])
        if content is None:
            self.send_error(404)
            return
        self._send(content, server.tags.get(self.path[1:], '"one"'), how)

    def _send(self, content: bytes, tag: str, how: str) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = 0
        if asked and how != "no range" and self.headers.get("If-Range") == tag:
            start = int(asked[1])
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("ETag", tag)
                self.end_headers()
                return
            self.send_response(206)
            begin = start + 7 if how == "wrong part" else start
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        length = len(content) - start + {"long": 100, "short": -100}.get(how, 0)
        if how != "no length":
            self.send_header("Content-Length", str(length))
        if how != "no tag":
            self.send_header("ETag", tag)
        self.end_headers()
        stop = start + (len(content) - start) // 2 if how == "drop" else len(content)
        for place in range(start, stop, 4096):
            block = content[place : min(place + 4096, stop)]
            self.wfile.write(block)
            self.server.sent += len(block)
            time.sleep(self.server.slow)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "_PAUSE", 0.0)
    running = _Server()
    yield running
    running.shutdown()
    running.server_close()


_CONTENT = os.urandom(50_000)


def _parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("script", "ranges"),
    [
        ([], [0]),
        (["drop"], [0, 25_000]),
        (["drop"] * 8, None),  # each try brings something
        (["drop", "no range"], [0, 25_000]),
        (["drop", "wrong part"], [0, 25_000, 0]),
        (["drop", "500", "429", "503"], [0, 25_000, 25_000, 25_000, 25_000]),
        (["no length"], [0]),
        (["long", "long"], None),
        (["drop no tag"], None),
    ],
    ids=str,
)
def test_a_file_arrives_whole_whatever_the_server_does(server, tmp_path, script, ranges):
    server.files["x.bin"], server.script = _CONTENT, [*script]
    download(server.url("x.bin"), tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == _CONTENT
    assert _parts(tmp_path) == ["x.bin"]
    if ranges is not None:
        assert [wanted for _, wanted in server.seen] == [f"bytes={n}-" if n else None for n in ranges]
    count = len(server.seen)
    download(server.url("x.bin"), tmp_path / "x.bin")
    assert len(server.seen) == count


def test_two_versions_of_a_file_are_never_mixed(server, tmp_path):
    server.files["x.bin"], server.script = _CONTENT, ["drop", "change"]
    download(server.url("x.bin"), tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == bytes(reversed(_CONTENT))
    assert server.sent == 75_000  # half of the old, all of the new


def test_a_part_goes_on_in_a_later_run_and_not_from_another_address(server, tmp_path):
    server.files |= {"x.bin": _CONTENT, "y.bin": bytes(reversed(_CONTENT))}
    server.script = ["drop", "404"]
    with pytest.raises(UserError, match="the server says 404"):
        download(server.url("x.bin"), tmp_path / "x")
    assert (tmp_path / "x.part").stat().st_size == 25_000
    download(server.url("x.bin"), tmp_path / "x")
    assert server.seen[-1] == ("x.bin", "bytes=25000-")
    (tmp_path / "x").rename(tmp_path / "z.part")
    download(server.url("y.bin"), tmp_path / "z")
    assert server.seen[-1] == ("y.bin", None)
    assert (tmp_path / "z").read_bytes() == server.files["y.bin"]


@pytest.mark.parametrize(
    ("script", "match", "requests"),
    [
        (["404"], "the server says 404", 1),
        (["403"], "the server says 403", 1),
        (["500"] * 9, r"the server says 500\): run it again", 5),
        (["to ftp://example.org/x"], "redirects to something that is not http", 1),
        (["to file:///etc/passwd"], "redirects to something that is not http", 1),
    ],
)
def test_what_cannot_be_had_is_one_sentence(server, tmp_path, script, match, requests):
    server.files["x"], server.script = _CONTENT, script
    with pytest.raises(UserError, match=match) as caught:
        download(server.url("x"), tmp_path / "x")
    assert "\n" not in str(caught.value)
    assert len(server.seen) == requests
    assert not (tmp_path / "x").exists()


def test_a_redirect_to_http_is_followed(server, tmp_path):
    server.files |= {"x": b"wrong", "y": _CONTENT}
    server.script = [f"to {server.url('y')}"]
    download(server.url("x"), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == _CONTENT


def test_other_schemes_dead_servers_and_local_files(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "_PAUSE", 0.0)
    for url in ("ftp://example.org/x", "data:text/plain,x", "/etc/passwd"):
        with pytest.raises(UserError, match="neither http"):
            download(url, tmp_path / "x")
    with pytest.raises(UserError, match="no connection"):
        download("http://127.0.0.1:9/x", tmp_path / "x")
    source = tmp_path / "a file.bin"
    source.write_bytes(_CONTENT)
    download(source.as_uri(), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == _CONTENT
    assert remote_size(source.as_uri()) == len(_CONTENT)
    assert file_hash(tmp_path / "copy", "md5") == hashlib.md5(_CONTENT).hexdigest()
    with pytest.raises(UserError, match="cannot read file:"):
        download((tmp_path / "none").as_uri(), tmp_path / "y")


# ---- whole data sets: a twin of Kermany's, packed as its owner packs it


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("twin")
    write_twin(load_manifest("kermany"), root, images=30, size=32, seed=0)
    return root


def _packed(folder: Path, prefix: str = "") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, prefix + path.relative_to(folder).as_posix())
    return file.getvalue()


def _manifest(*items: Download) -> Manifest:
    return load_manifest("kermany").model_copy(update={"downloads": items})


@pytest.fixture
def packed(server, twin) -> Manifest:
    """Two downloads: an archive with a folder of its own, and a table that stays as it is."""
    server.files |= {"set.zip": _packed(twin, "set-master/"), "extra.csv": b"a,b\n"}
    return _manifest(
        Download(file="set.zip", url=server.url("set.zip"), prefix="set-master"),
        Download(file="extra.csv", url=server.url("extra.csv"), into="tables"),
    )


def _tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _expected(twin: Path) -> dict[str, bytes]:
    return _tree(twin) | {"tables/extra.csv": b"a,b\n"}


def _without_record(root: Path) -> dict[str, bytes]:
    return {name: content for name, content in _tree(root).items() if not name.startswith(".nbcore/")}


def test_a_set_is_fetched_recorded_checked_and_not_fetched_again(server, packed, twin, tmp_path):
    root, said = tmp_path / "new" / "kermany", []
    fetch(packed, root, say=said.append)
    assert _without_record(root) == _expected(twin)
    assert _parts(root.parent) == ["kermany"]
    record = json.loads((root / ".nbcore/downloads.json").read_text())
    content = server.files["set.zip"]
    assert record["set.zip"].pop("date")
    assert record["set.zip"] == {
        "url": server.url("set.zip"),
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "places": ["PHANTOM.json", "chest_xray"],
    }
    assert "complete" in said[-1] and "CC BY 4.0" in said[0]
    count = len(server.seen)
    fetch(packed, root, say=said.append)
    assert len(server.seen) == count
    assert "already" in said[-1]


def test_a_root_that_holds_the_set_or_other_things(server, packed, twin, tmp_path):
    said = []
    before = _tree(twin)
    fetch(packed, twin, say=said.append)
    assert "already" in said[0] and _tree(twin) == before
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other things than kermany"):
        fetch(packed, tmp_path, say=said.append)
    with pytest.raises(UserError, match="holds other things than kermany"):
        fetch(packed, tmp_path / "mine.txt", say=said.append)
    assert _parts(tmp_path) == ["mine.txt"]
    assert server.seen == []


def test_consent_is_asked_with_licence_and_size(server, packed, tmp_path):
    said, asked = [], []
    with pytest.raises(UserError, match="not accepted"):
        fetch(packed, tmp_path / "x", say=said.append, consent=lambda question: bool(asked.append(question)))
    size = sum(len(server.files[name]) for name in ("set.zip", "extra.csv"))
    assert asked == [f"Download {size / 1e6:.1f} MB under this licence?"]
    assert "CC BY 4.0" in said[0] and "Kermany" in said[0]
    assert server.seen == [] and _parts(tmp_path) == []


def test_only_some_then_the_rest_and_archives_are_kept(server, packed, twin, tmp_path):
    root, said = tmp_path / "x", []
    fetch(packed, root, only=["extra.csv"], say=said.append)
    assert _without_record(root) == {"tables/extra.csv": b"a,b\n"}
    assert said[-1] == "still to fetch: set.zip"
    fetch(packed, root, keep_archives=True, say=said.append)
    assert _without_record(root) == _expected(twin)
    assert [name for name, _ in server.seen] == ["extra.csv", "set.zip"]
    kept = root / ".nbcore/archives/set.zip"
    assert kept.read_bytes() == server.files["set.zip"]
    (root / "chest_xray").rename(tmp_path / "lost")  # the kept archive brings it back
    fetch(packed, root, say=said.append)
    assert _without_record(root) == _expected(twin)
    assert len(server.seen) == 2
    with pytest.raises(UsageError, match=r"no download 'set\.zap'"):
        fetch(packed, root, only=["set.zap"])


def test_what_comes_again_must_be_what_it_was(server, packed, tmp_path):
    root = tmp_path / "x"
    fetch(packed, root, say=lambda text: None)
    (root / "tables/extra.csv").unlink()
    server.files["extra.csv"] = b"c,d\n"
    with pytest.raises(UserError, match=r"extra\.csv is not what it was"):
        fetch(packed, root, say=lambda text: None)
    assert not (root / "tables/extra.csv").exists()
    server.files["extra.csv"] = b"a,b\n"
    fetch(packed, root, say=lambda text: None)
    assert (root / "tables/extra.csv").read_bytes() == b"a,b\n"


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_the_owners_checksum(server, twin, tmp_path, kind):
    server.files["set.zip"] = content = _packed(twin)
    good = f"{kind}:{hashlib.new(kind, content).hexdigest()}"
    fetch(_manifest(Download(file="set.zip", url=server.url("set.zip"), checksum=good)), tmp_path / "good", say=str)
    bad = f"{kind}:{hashlib.new(kind, b'other').hexdigest()}"
    with pytest.raises(UserError, match="does not have the owner's checksum"):
        fetch(_manifest(Download(file="set.zip", url=server.url("set.zip"), checksum=bad)), tmp_path / "bad", say=str)
    assert not (tmp_path / "bad").exists()


def _evil(name: str) -> bytes:
    file = io.BytesIO()
    if name == "link.tgz":
        link = tarfile.TarInfo("chest_xray")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        with tarfile.open(fileobj=file, mode="w:gz") as packed:
            packed.addfile(link)
    elif name == "page.zip":
        return b"<html>log in</html>"
    else:
        places = {"up.zip": "../up.txt", "root.zip": "/x.txt", "record.zip": ".nbcore/downloads.json"}
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            packed.writestr("fine.txt", "fine")
            packed.writestr(places.get(name, "zeros"), bytes(65 << 20) if name == "bomb.zip" else b"{}")
    return file.getvalue()


@pytest.mark.parametrize("name", ["link.tgz", "up.zip", "root.zip", "record.zip", "bomb.zip", "page.zip"])
def test_nothing_of_a_hostile_archive_remains(server, tmp_path, name):
    server.files[name] = _evil(name)
    with pytest.raises(UserError, match=re.escape(name)):
        fetch(_manifest(Download(file=name, url=server.url(name))), tmp_path / "x", say=str)
    assert not (tmp_path / "x").exists()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_two_archives_that_disagree(server, tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("one", "two"):
        (tmp_path / "a" / "same.txt").write_text(name)
        server.files[f"{name}.zip"] = _packed(tmp_path / "a")
    items = [Download(file=f"{name}.zip", url=server.url(f"{name}.zip")) for name in ("one", "two")]
    with pytest.raises(UserError, match=r"two\.zip and another download both hold same\.txt"):
        fetch(_manifest(*items), tmp_path / "x", say=str)
    assert not (tmp_path / "x").exists()


def test_too_little_room(server, packed, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 1000}))
    with pytest.raises(UserError, match=r"0\.0 MB free, but .* are needed"):
        fetch(packed, tmp_path / "x", say=str)
    assert server.seen == []


_CHILD = """
import sys
from nbcore.data.fetch import fetch
from nbcore.data.manifest import Download, load_manifest
url, root = sys.argv[1:]
items = (Download(file="set.zip", url=url + "set.zip", prefix="set-master"),
         Download(file="extra.csv", url=url + "extra.csv", into="tables"))
fetch(load_manifest("kermany").model_copy(update={"downloads": items}), root)
"""


def test_a_killed_fetch_is_finished_by_the_next(server, packed, twin, tmp_path):
    server.slow, root = 0.05, tmp_path / "x"
    total = len(server.files["set.zip"])
    assert total > 20_000
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, server.url(""), str(root)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    part = tmp_path / ".x.fetch/files/set.zip.part"
    deadline = time.monotonic() + 60
    while server.sent < 12_000 and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert part.exists() and not root.exists()
    server.slow = 0.0
    fetch(packed, root, say=str)
    assert _without_record(root) == _expected(twin)
    assert _parts(tmp_path) == ["x"]


class _Killed(BaseException):
    """What no handler of ours may catch."""


@pytest.mark.parametrize("earlier", [False, True], ids=["new root", "former fetch"])
def test_killed_at_any_point_leaves_nothing_or_the_whole(server, packed, tmp_path, monkeypatch, earlier):
    """Every renaming and deletion is a point at which the run dies once; the next run must still come to the end."""
    content = {"chest_xray/train/a.txt": b"a", "chest_xray/test/b.txt": b"b", "c.txt": b"c"}
    for name, text in content.items():
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(text)
    server.files["set.zip"] = _packed(tmp_path / "source", "set-master/")
    content["tables/extra.csv"] = server.files["extra.csv"]
    monkeypatch.setattr(fetching, "_conclude", lambda *args: None)  # no images to check here
    real = {name: getattr(Path, name) for name in ("replace", "rename", "unlink", "rmdir")}
    steps, number = 0, 0
    while True:
        number += 1
        root = tmp_path / f"{number}" / "x"
        if earlier:
            fetch(packed, root, only=["extra.csv"], say=str)
        left = number

        def dying(name):
            def call(self, *args, **kwargs):
                nonlocal left
                left -= 1
                if left == 0:
                    raise _Killed
                return real[name](self, *args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(Path, name, dying(name))
            try:
                fetch(packed, root, say=str)
                break
            except _Killed:
                steps += 1
        if not earlier:
            assert not root.exists() or _without_record(root) == content
        fetch(packed, root, say=str)
        assert _without_record(root) == content, number
        assert set(json.loads((root / ".nbcore/downloads.json").read_text())) == {"set.zip", "extra.csv"}
    assert steps > 8


# ---- by hand, and the command


@pytest.mark.parametrize("name", [name for name in list_manifests() if not load_manifest(name).downloads])
def test_sets_without_plain_links_say_how_to_get_them(name, tmp_path):
    manifest = load_manifest(name)
    ran = CliRunner().invoke(cli, ["data", "fetch", name, "--root", str(tmp_path / name)])
    assert isinstance(ran.exception, UserError) and ran.exception.exit_status == 1
    assert ran.output == instructions(manifest, tmp_path / name) + "\n"
    assert manifest.homepage in ran.output and manifest.how_to_get in ran.output
    assert all(str(tmp_path / name / mark) in ran.output for mark in manifest.layout.marks)
    assert _parts(tmp_path) == []


def test_only_open_sets_have_downloads_and_the_files_differ():
    for name in list_manifests():
        manifest = load_manifest(name)
        assert not manifest.downloads or manifest.access == "open", name
        files = [item.file for item in manifest.downloads]
        assert len({*files}) == len(files)


def test_what_has_no_plain_link_is_told_at_the_end(server, tmp_path):
    server.files["images.zip"] = _packed(Path(__file__).parent / "phantom", "images/")
    item = Download(file="images.zip", url=server.url("images.zip"), into="images_001")
    said = []
    with pytest.raises(UserError, match="get the rest as said above"):
        fetch(_manifest(item), tmp_path / "x", say=said.append)
    assert (tmp_path / "x/images_001/images").is_dir()
    assert "Then there must be at least one of these" in said[-1]


def test_the_command_asks_first(server, packed, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "load_manifest", lambda name: packed)
    command = ["data", "fetch", "kermany", "--root", str(tmp_path / "x")]
    ran = CliRunner().invoke(cli, command, input="n\n")
    assert isinstance(ran.exception, UserError) and server.seen == []
    ran = CliRunner().invoke(cli, [*command, "--yes"])
    assert ran.exit_code == 0 and "complete" in ran.output
