"""Compare our losses, optimisers and schedules with golden numbers of the official implementations.

    python tests/parity.py DIR

prints one line per case of every known family found in DIR and exits 1 if any case misses its tolerance, or if DIR
holds no known family. A family is a file pattern and a function that yields `Case`s; they live in tests/families/, one
module a subject, and register themselves with `@family("pattern")`. Files may hold any cases and sizes of their family.
"""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

_HERE = Path(__file__).parent
sys.path.insert(0, str(_HERE))  # `families` is found from wherever this file is run or imported

from families.common import FAMILIES, Case  # noqa: E402

for _module in sorted(path.stem for path in (_HERE / "families").glob("*.py")):
    import_module(f"families.{_module}")


def check(folder: Path) -> Iterator[Case]:
    """All cases of all known families in `folder`, in the order of the files."""
    for pattern, function in FAMILIES:
        for path in sorted(folder.glob(pattern)):
            yield from function(path.stem, _read(path))


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def main(arguments: list[str]) -> int:
    """Print a line a case; 0 if all match, 1 if one does not or none was found, 2 for wrong use."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python tests/parity.py DIR, the folder of golden numbers", file=sys.stderr)
        return 2
    cases = list(check(Path(arguments[0])))
    for case in cases:
        print(f"{'ok  ' if case.ok else 'FAIL'} {case.name}  (relative error {case.error:.1e}, rtol {case.rtol:.0e})")
    failed = sum(not case.ok for case in cases)
    print(f"{len(cases) - failed} of {len(cases)} cases match" if cases else "no case of a known family in this folder")
    return 1 if failed or not cases else 0


if __name__ == "__main__":
    torch.set_num_threads(2)
    sys.exit(main(sys.argv[1:]))
