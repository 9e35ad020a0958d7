"""Speed, as medians and ratios of one run on two threads: `make bench`, or `python -m tests.benchmarks [NAME ...]`.

Each module beside this one has a `run()` that prints its lines. Nothing here is asserted: a time depends on the
machine, a ratio on what else it does.
"""

import sys
from importlib import import_module
from pathlib import Path

import torch

from tests.benchmarks.timing import THREADS


def main(names: list[str]) -> None:
    torch.set_num_threads(THREADS)
    found = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    for name in names or [name for name in found if name != "timing"]:
        import_module(f"tests.benchmarks.{name}").run()


if __name__ == "__main__":
    main(sys.argv[1:])
