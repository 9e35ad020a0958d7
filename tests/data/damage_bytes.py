"""Damages of a text file that need not know what is in it: see `damage`."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from hypothesis import strategies as st

Meaning = Literal["nothing", "local", "anything"]


def rewrite(path: Path, content: str | bytes) -> None:
    """Put a new file in the place of a link."""
    path.unlink()
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)


def emptied(path: Path, draw: Callable) -> Meaning:
    rewrite(path, b"")
    return "anything"


def truncated(path: Path, draw: Callable) -> Meaning:
    content = path.read_bytes()
    rewrite(path, content[: draw(st.integers(0, max(0, len(content) - 1)), label="length")])
    return "anything"


def removed(path: Path, draw: Callable) -> Meaning:
    path.unlink()
    return "anything"


def a_folder(path: Path, draw: Callable) -> Meaning:
    path.unlink()
    path.mkdir()
    return "anything"


def compressed(path: Path, draw: Callable) -> Meaning:
    content = gzip.compress(path.read_bytes())
    path.unlink()
    lost = draw(st.integers(0, len(content)), label="bytes lost") if draw(st.booleans(), label="damaged") else 0
    path.with_name(path.name + ".gz").write_bytes(content[: len(content) - lost])
    return "anything"  # of a list that may lack, the loss is lawful


def recoded(path: Path, draw: Callable) -> Meaning:
    coding = draw(st.sampled_from(["utf-16", "utf-8-sig", "utf-32"]), label="coding")
    rewrite(path, path.read_text("utf-8").encode(coding))
    return "nothing"


def windows(path: Path, draw: Callable) -> Meaning:
    rewrite(path, path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    return "nothing"


def odd_bytes(path: Path, draw: Callable) -> Meaning:
    content = bytearray(path.read_bytes())
    place = draw(st.integers(0, max(0, len(content) - 1)), label="place")
    content[place : place + draw(st.integers(0, 3))] = draw(
        st.sampled_from([b"\xff\xfe", b"\xe9", b"\x00", b"\x00\x00\x00", b'"', b"\x1a", b"\r"])
    )
    rewrite(path, bytes(content))
    return "anything"


def other_content(path: Path, draw: Callable) -> Meaning:
    page = b"<!DOCTYPE html><html><body>404: Not Found</body></html>"
    rewrite(
        path, draw(st.sampled_from([page, b"\x89PNG\r\n\x1a\n\x00\x00", b"\n\n\n", b"null", b"{}", b"[]", b",,,\n"]))
    )
    return "anything"
