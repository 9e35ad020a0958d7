"""Files and hashes: atomic writes, digests of configurations, fingerprints of data files."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_EDGE = 4096  # bytes read at each end of a file for its fingerprint


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced to disk and renamed to `path`, else removed.

    A reader, or a process started after a crash, sees the old file or the new one, never a part of either.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        _sync_directory(path.parent)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def _sync_directory(directory: Path) -> None:
    """Make a rename durable (POSIX; a no-op where a directory cannot be opened)."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content` (text as UTF-8), all or nothing."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def digest(value: Any) -> str:
    """A 16-character hash of any JSON-like value, independent of the order of its keys."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def file_fingerprint(path: Path) -> str:
    """A hash of a file's size and of its first and last 4 KiB.

    A compressed image that changes anywhere changes its length or its last bytes, so this stands for its content
    at a cost that 200,000 radiographs can bear.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        edges = file.read(_EDGE)
        if size > _EDGE:
            file.seek(max(_EDGE, size - _EDGE))
            edges += file.read()
    return hashlib.blake2b(size.to_bytes(8, "big") + edges, digest_size=8).hexdigest()
