"""One file from the internet, whole: goes on where it stopped, tries again, and never mixes two versions of it."""

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from tqdm.auto import tqdm

from nbcore.errors import UserError

_CHUNK = 1 << 20
_TIMEOUT = (20, 60)  # seconds to connect, and between two pieces
_TRIES = 5  # in a row that bring nothing
_PAUSE = 1.0  # seconds before the second try; doubles
_LONGEST = 60.0  # pause, whatever the server asks for
_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "nbcore (research data)"}


class _TryAgain(Exception):
    """What went wrong may be right the next time; `pause` is how long the server asks to wait."""

    def __init__(self, why: str, pause: float = 0.0) -> None:
        super().__init__(why)
        self.pause = pause


def download(url: str, path: Path) -> None:
    """Write what lies at `url` (http, https or file) to `path`, which appears only when it is complete.

    What came so far is in `path`.part, and goes on from there if the server says that the file is still the same (its
    ETag, else its date); otherwise it is started anew. Nothing is done where `path` exists.

    Raises UserError for another scheme, also behind a redirect, an answer that will not change (404 ...), or after 5
    tries in a row that brought nothing.
    """
    if path.exists():
        return
    part = path.with_name(path.name + ".part")
    if _scheme(url) == "file":
        _copy(url, part)
    else:
        tries, furthest = 0, 0
        while True:
            try:
                _transfer(url, part)
                break
            except _TryAgain as error:
                got = part.stat().st_size if part.exists() else 0
                tries, furthest = (1 if got > furthest else tries + 1), max(got, furthest)
                if tries >= _TRIES:
                    raise UserError(f"cannot download {url} ({error}): run it again later to go on") from None
                time.sleep(min(max(error.pause, _PAUSE * 2 ** (tries - 1)), _LONGEST))
    part.replace(path)
    _note(part).unlink(missing_ok=True)


def remote_size(url: str) -> int | None:
    """Bytes at `url`, or None where the server does not say."""
    if _scheme(url) == "file":
        source = _local(url)
        return source.stat().st_size if source.is_file() else None
    with contextlib.suppress(requests.RequestException, UserError, ValueError):
        answer = requests.head(url, headers=_HEADERS, timeout=_TIMEOUT, allow_redirects=True)
        if answer.ok:
            return int(answer.headers["Content-Length"]) if "Content-Length" in answer.headers else None
    return None


def file_hash(path: Path, kind: str) -> str:
    """The hexadecimal "sha256" or "md5" of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _scheme(url: str) -> str:
    scheme = urlsplit(url).scheme.lower()
    if scheme not in {"http", "https", "file"}:
        raise UserError(f"{url} is neither http(s) nor file: nothing else is downloaded")
    return scheme


def _local(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def _copy(url: str, part: Path) -> None:
    try:
        shutil.copyfile(_local(url), part)
    except OSError as error:
        raise UserError(f"cannot read {url}: {error}") from error


def _note(part: Path) -> Path:
    """Where it is written of which version of which file a part is."""
    return part.with_name(part.name + ".json")


def _resume(url: str, part: Path) -> tuple[int, str]:
    """(bytes that are there, the version they are of); (0, "") to start anew."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        note = json.loads(_note(part).read_text(encoding="utf-8"))
        if note["url"] == url and note["version"]:
            return part.stat().st_size, str(note["version"])
    return 0, ""


def _version(answer: requests.Response) -> str:
    """A strong ETag, else the date, else nothing."""
    tag = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _transfer(url: str, part: Path) -> None:
    """One try. Leaves a whole `part`, or raises _TryAgain or UserError."""
    have, version = _resume(url, part)
    headers = _HEADERS | ({"Range": f"bytes={have}-", "If-Range": version} if have else {})
    with _answer(url, headers) as answer:
        if answer.status_code == 416:  # the part is whole already, or of another file
            if answer.headers.get("Content-Range") == f"bytes */{have}" and _version(answer) in ("", version):
                return
            part.unlink(missing_ok=True)
            raise _TryAgain("the file has changed")
        _assert_good(url, answer)
        total = _total(answer, have)
        if answer.status_code == 206 and (total is None or _version(answer) not in ("", version)):
            part.unlink(missing_ok=True)
            raise _TryAgain("the server sent another part than was asked for")
        if answer.status_code != 206:
            have = 0
            part.unlink(missing_ok=True)
            note = {"url": url, "version": _version(answer)}
            _note(part).write_text(json.dumps(note), encoding="utf-8")
        with part.open("ab") as file:
            _append(answer, file, part.name, have, total)
    if total is not None and part.stat().st_size != total:
        if part.stat().st_size > total:
            part.unlink()
        raise _TryAgain("the connection broke off")


def _append(answer: requests.Response, file: IO[bytes], name: str, have: int, total: int | None) -> None:
    bar = tqdm(total=total, initial=have, desc=name.removesuffix(".part"), unit="B", unit_scale=True, leave=False)
    try:
        for block in answer.raw.stream(_CHUNK, decode_content=False):  # a .tgz may be sent as "encoded"
            file.write(block)
            bar.update(len(block))
    except (urllib3.exceptions.HTTPError, ConnectionError, TimeoutError) as error:
        raise _TryAgain("the connection broke off") from error
    finally:
        bar.close()


@contextlib.contextmanager
def _answer(url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
    try:
        answer = requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT)
    except requests.exceptions.InvalidSchema as error:
        raise UserError(f"{url} redirects to something that is not http(s): refused") from error
    except requests.exceptions.TooManyRedirects as error:
        raise UserError(f"{url} redirects in a circle") from error
    except (requests.exceptions.InvalidURL, UnicodeError) as error:
        raise UserError(f"{url} is no address: {error}") from error
    except requests.RequestException as error:
        raise _TryAgain(f"no connection, {type(error).__name__}") from error
    with answer:
        if _scheme(url) == "https" and any(_scheme(step.url) != "https" for step in [*answer.history, answer]):
            raise UserError(f"{url} redirects from https to http: refused")
        yield answer


def _assert_good(url: str, answer: requests.Response) -> None:
    if answer.status_code in _AGAIN:
        wait = answer.headers.get("Retry-After", "")
        raise _TryAgain(f"the server says {answer.status_code}", float(wait) if wait.isdigit() else 0.0)
    if answer.status_code not in (200, 206):
        raise UserError(
            f"{url} cannot be had, the server says {answer.status_code} {answer.reason}: see the data set's homepage"
        )


def _total(answer: requests.Response, have: int) -> int | None:
    """How long the whole file is; None where it is not said, or a part is not the one after `have` bytes."""
    if answer.status_code == 206:
        place, _, total = answer.headers.get("Content-Range", "").partition("/")
        right = place.startswith(f"bytes {have}-") and total.isdigit()
        return int(total) if right else None
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None
