"""Independent steps of a study at the same time, each in a process of its own.

Small networks hardly gain from a second thread: two processes of one thread finish nearly twice as much. A step leaves
its result in the cache, so it does not matter which process computes it, and nothing is lost when one is killed.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple

from tqdm.auto import tqdm

_PATIENCE = 3.0  # seconds of silence before a progress bar appears
_study: Any = None  # of a worker process


class Step(NamedTuple):
    """A call of a study's method."""

    method: str
    arguments: tuple[Any, ...]
    changes: dict[str, Any] = {}  # noqa: RUF012  never changed


class SideBySide:
    """A pool of processes that hold the same study; they start with the first steps and end with this process.

    Args:
        jobs: number of processes.
        open_study: makes the study in a process; a function of a module, with its arguments as a `functools.partial`.
    """

    def __init__(self, jobs: int, open_study: Callable[[], Any]):
        self._jobs, self._open_study = jobs, open_study
        self._pool: ProcessPoolExecutor | None = None

    def run(self, steps: Sequence[Step], title: str) -> list[Any]:
        """The results of the steps, in order. Errors: that of the first step that fails; no further one begins."""
        if self._pool is None:
            context = get_context("spawn")
            self._pool = ProcessPoolExecutor(self._jobs, context, _begin, (self._open_study, os.getpid()))
        futures = [self._pool.submit(_take, step) for step in steps]
        try:
            return [future.result() for future in tqdm(futures, title, delay=_PATIENCE, leave=False, unit="step")]
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def _begin(open_study: Callable[[], Any], parent: int) -> None:
    global _study
    os.environ["TQDM_DISABLE"] = "1"  # one bar is enough
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _study = open_study()


def _end_with(parent: int) -> None:
    """Leave no orphan behind when the parent is killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _take(step: Step) -> Any:
    return getattr(_study, step.method)(*step.arguments, **step.changes)
