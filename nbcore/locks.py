"""One writer at a time: a lock between processes that falls with the process that holds it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_PATIENCE = 5.0  # seconds of waiting without a word


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; wait while another process holds it, and say so when that lasts.

    The operating system frees the lock when its holder ends, however it ends; the empty file stays behind, because
    removing it would let two processes lock two files of the same name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        print(f"Waiting for another process that works in {path.parent} ...", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
