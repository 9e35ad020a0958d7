"""Every image of a data set opened once, by processes that may hang, crash or run out of memory on a bad file.

What comes back has the same few bytes an image whatever the images are. Shapes: m images looked at.
"""

import hashlib
import os
import signal
import sys
import time
import warnings
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from nbcore.data.images import image_size, read_image
from nbcore.data.masks import boxes_in_square, has_outline, masks
from nbcore.data.samples import Samples
from nbcore.errors import UserError
from nbcore.interrupts import no_interrupt

FACTS = np.dtype([("content", "V16"), ("width", "u4"), ("height", "u4"), ("read", "?"), ("blank", "?")])
PATIENCE = 30.0  # seconds for one image
_CHUNK = 64  # images a process is given at a time
_KEPT = 50  # problems kept
_MOST_PIXELS = 178_956_970  # of a DICOM image: where Pillow refuses the others
_MEMORY = 4 << 30  # bytes a process may take beyond what it has at its start
_SMALL = 16  # side to which masks are fitted to see whether they can be
_KINDS = {
    "1": "1-bit", "L": "grey 8-bit", "LA": "grey 8-bit, alpha", "P": "palette", "RGB": "colour 8-bit",
    "RGBA": "colour 8-bit, alpha", "CMYK": "CMYK 8-bit", "I;16": "grey 16-bit", "I;16B": "grey 16-bit",
    "I": "grey 32-bit", "F": "grey, floating point",
}  # fmt: skip


@dataclass
class Scan:
    """What is in the files: FACTS (m,) in the order asked for, and what is the matter with some of them."""

    facts: np.ndarray
    kinds: Counter[str] = field(default_factory=Counter)  # mode and depth -> images
    unreadable: int = 0  # images that cannot be read, or do not fit their mask
    problems: dict[int, str] = field(default_factory=dict)  # the first of these, by position
    lost_boxes: int = 0  # empty, or outside their picture

    def _add(self, start: int, facts: np.ndarray, kinds: Counter[str], problems: dict[int, str], lost: int) -> None:
        self.facts[start : start + len(facts)] = facts
        self.kinds += kinds
        self.lost_boxes += lost
        self._complain(problems)

    def _complain(self, problems: dict[int, str]) -> None:
        self.unreadable += len(problems)
        self.problems = dict(sorted({**self.problems, **problems}.items())[:_KEPT])


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def scan(samples: Samples, jobs: int, patience: float = PATIENCE) -> Scan:
    """Decode every image with its mask and boxes, and hash its file, in `jobs` processes.

    An image that takes longer than `patience` seconds, or ends the process, is a problem like any other. Raises
    UserError if the processes cannot work at all.
    """
    found = Scan(np.zeros(len(samples), FACTS))
    todo = deque((start, min(start + _CHUNK, len(samples))) for start in range(0, len(samples), _CHUNK))
    workers = [_Worker(samples) for _ in range(min(jobs, len(todo)))]
    bar = tqdm(total=len(samples), desc=f"checking {samples.name}", leave=False, delay=3, mininterval=0.5, unit="image")
    try:
        while todo or any(worker.task for worker in workers):
            for worker in workers:
                if todo and not worker.task:
                    worker.give(todo.popleft())
            ready = set(wait([worker.pipe for worker in workers if worker.task], timeout=min(1.0, patience / 2)))
            for i, worker in enumerate(workers):
                if not worker.task:
                    continue
                (start, stop), answer = worker.task, worker.answer(worker.pipe in ready, patience)
                if isinstance(answer, tuple):
                    found._add(start, *answer)
                    bar.update(stop - start)
                elif answer:
                    row = worker.place.value
                    path = samples.root / samples.table["image"].iat[row]
                    found._complain({row: f"cannot read the image {path}: {answer}"})
                    bar.update(1)
                    todo.extendleft(part for part in ((row + 1, stop), (start, row)) if part[0] < part[1])
                    workers[i] = _Worker(samples)
    finally:
        bar.close()
        for worker in workers:
            worker.end()
    return found


class _Worker:
    """A process that looks at the images of a range at a time, and tells at which it is and since when."""

    def __init__(self, samples: Samples) -> None:
        context = get_context("fork" if sys.platform == "linux" else "spawn")  # a fork is there at once
        self.pipe, theirs = context.Pipe()
        self.place, self.since = context.RawValue("q", -1), context.RawValue("d", 0.0)
        self.process = context.Process(target=_work, args=(samples, theirs, self.place, self.since), daemon=True)
        with no_interrupt():
            self.process.start()
        theirs.close()
        self.task: tuple[int, int] | None = None

    def give(self, task: tuple[int, int]) -> None:
        self.task = task
        with suppress(OSError):  # it has ended: `answer` says so
            self.pipe.send(task)

    def answer(self, ready: bool, patience: float) -> tuple | str:
        """What it found in its task, a sentence on why it never will, or "" while it is at work."""
        if ready:
            try:
                found = self.pipe.recv()
            except (EOFError, OSError) as error:
                self.end()
                if self.place.value < 0:
                    raise UserError(
                        f"a process that reads images ended at once (exit {self.process.exitcode}): try --jobs 1"
                    ) from error
                return "its decoder crashed, or ran out of memory"
            self.task = None
            return found
        if self.place.value >= 0 and time.monotonic() - self.since.value > patience:
            self.end()
            return f"it takes longer than {patience:g} seconds"
        return ""

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _work(samples: Samples, pipe: Connection, place: Any, since: Any) -> None:
    """Answer every range (start, stop) that comes with FACTS, kinds, problems by position, and boxes lost."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and ends this process
    warnings.simplefilter("ignore")
    _limit_memory()
    outlined, images = has_outline(samples), samples.table["image"].tolist()
    with suppress(EOFError, OSError):
        while True:
            start, stop = pipe.recv()
            facts, kinds, problems, lost = np.zeros(stop - start, FACTS), Counter(), {}, 0
            for row in range(start, stop):
                since.value = time.monotonic()
                place.value = row
                try:
                    facts[row - start], kind = _look(samples.root / images[row])
                    kinds[kind] += 1
                    if outlined[row]:
                        lost += _fit_outline(samples.subset([row]))
                except UserError as error:
                    problems[row] = str(error)
                except Exception as error:  # of a mask or boxes: libraries raise whatever they like
                    problems[row] = f"cannot read the mask or boxes of {samples.root / images[row]}: {error!r}"
            place.value = -1
            pipe.send((facts, kinds, problems, lost))


def _limit_memory() -> None:
    """Let an image that unpacks to a multiple of the machine's memory fail, not the machine."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + _MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _look(path: Path) -> tuple[tuple, str]:
    """(a row of FACTS, kind) of one image; UserError if it cannot be read."""
    if not path.is_file():  # opening a pipe or a device would wait for ever
        raise UserError(f"cannot read the image {path}: it is no plain file")
    dicom = path.suffix.lower() in {".dcm", ".dicom"}
    if dicom and np.prod(image_size(path)) > _MOST_PIXELS:
        raise UserError(f"cannot read the image {path}: it claims to have more than {_MOST_PIXELS} pixels")
    pixels = read_image(path)  # (H, W)
    content = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    height, width = pixels.shape
    return (content, width, height, True, bool(pixels.min() == pixels.max())), _dicom_kind(path) if dicom else _kind(
        path
    )


def _kind(path: Path) -> str:
    with Image.open(path) as image:
        return f"{image.format} {_KINDS.get(image.mode, image.mode)}"


def _dicom_kind(path: Path) -> str:
    from pydicom import dcmread

    record = dcmread(path, stop_before_pixels=True, specific_tags=["BitsStored", "PhotometricInterpretation"])
    return f"DICOM {record.PhotometricInterpretation} {record.BitsStored}-bit"


def _fit_outline(one: Samples) -> int:
    """Fit the mask and the boxes of a single image to it: boxes lost. UserError if the mask does not fit."""
    masks(one, _SMALL)
    return len(one.table["boxes"].iat[0]) - len(boxes_in_square(one, _SMALL)[0])
