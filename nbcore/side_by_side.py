"""Independent steps of a study at the same time, each in a process of its own.

Small networks hardly gain from a second thread: two processes of one thread finish nearly twice as much. A step leaves
its result in the cache, so it does not matter which process computes it, and nothing is lost when one is killed.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from nbcore.errors import UserError
from nbcore.interrupts import end_at_interrupt, no_interrupt

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
        """The results of the steps, in order.

        Ctrl-C ends the processes; the next steps start others.

        Raises the error of the first step that fails (no further one begins), and UserError when a process ended
        before its step did.
        """
        futures = self._submit(steps)
        try:
            return [future.result() for future in tqdm(futures, title, delay=_PATIENCE, leave=False, unit="step")]
        except BrokenProcessPool as error:
            self._pool = None
            raise UserError(
                f"a process ended in the middle of {title!r}, most likely for want of memory: try -p jobs=1"
            ) from error
        except KeyboardInterrupt:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
            raise
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def _submit(self, steps: Sequence[Step]) -> list[Future]:
        with no_interrupt():
            try:
                return [self._started().submit(_take, step) for step in steps]
            except BrokenProcessPool:  # Ctrl-C, meant for what the study did meanwhile, ended the idle processes
                self._pool = None
                return [self._started().submit(_take, step) for step in steps]

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = get_context("spawn")
            self._pool = ProcessPoolExecutor(self._jobs, context, _begin, (self._open_study, os.getpid()))
        return self._pool


def _begin(open_study: Callable[[], Any], parent: int) -> None:
    global _study
    end_at_interrupt()
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
