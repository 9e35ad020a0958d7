"""A full check of 100,000 small images in the layout of NIH ChestX-ray14: seconds and memory, of `load` and in all."""

import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from nbcore.data import load
from nbcore.data.check import check
from tests.benchmarks.timing import THREADS

IMAGES, PICTURES, SIDE, FOLDERS = 100_000, 500, 64, 12
FINDINGS = ("No Finding", "Effusion", "Mass|Nodule", "Infiltration", "Atelectasis|Effusion|Edema")


def write(root: Path) -> None:
    """`IMAGES` names, all of them hard links of `PICTURES` files, three images a patient."""
    rng = np.random.default_rng(0)
    (root / "pictures").mkdir()
    sources = [root / "pictures" / f"{i}.png" for i in range(PICTURES)]
    for source in sources:
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), np.uint8)).save(source)
    folders = [root / f"images_{i:03d}" / "images" for i in range(1, FOLDERS + 1)]
    for folder in folders:
        folder.mkdir(parents=True)
    names = [f"{i // 3:08d}_{i % 3:03d}.png" for i in range(IMAGES)]
    for i, name in enumerate(names):
        (folders[i * FOLDERS // IMAGES] / name).hardlink_to(sources[i % PICTURES])
    heading = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
    rows = [f"{name},{FINDINGS[i % 5]},{i % 3},{i // 3},50,F,PA" for i, name in enumerate(names)]
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join([heading, *rows]) + "\n")
    learnt = IMAGES * 4 // 5 // 3 * 3
    (root / "train_val_list.txt").write_text("\n".join(names[:learnt]))
    (root / "test_list.txt").write_text("\n".join(names[learnt:]))


def _peak() -> int:
    """MiB this process has taken at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(root := Path(folder))
        before, start = _peak(), time.perf_counter()
        load("nih-chestxray14", root)
        print(f"load of {IMAGES} images: {time.perf_counter() - start:.1f} s, {_peak() - before} MiB")
        for jobs in dict.fromkeys((1, THREADS)):
            start, used = time.perf_counter(), time.process_time()
            report = check("nih-chestxray14", root, jobs=jobs)
            took, ours = time.perf_counter() - start, time.process_time() - used
            workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
            print(
                f"check of {report.pictures.decoded} images, {jobs} processes: {took:.0f} s, of which {ours:.0f} s "
                f"outside them; at most {_peak()} MiB, a process {workers} MiB"
            )
