"""Is the data set in this folder what its manifest says? A report with a verdict, never a traceback."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from nbcore.data.images import read_image
from nbcore.data.manifest import Manifest, load_manifest
from nbcore.data.masks import boxes_in_square, has_outline, masks
from nbcore.data.readers import load, twin_record
from nbcore.data.samples import SPLITS, Samples
from nbcore.errors import UsageError, UserError

_WORKERS = 2
_SHOWN = 5  # unreadable images spelt out
_QUICK = 200  # images decoded by a quick check
_SMALL = 16  # side to which masks are fitted to see whether they can be


@dataclass(frozen=True)
class CheckReport:
    """What was found; `verdict` is "complete", "subset: n of m" or "broken"."""

    name: str
    root: Path
    verdict: str
    source: str = ""
    images: int = 0
    missing: int = 0  # images a table names that are not there
    patients: int = 0
    reports: int = 0
    outlined: int = 0  # images with a mask or boxes
    splits: dict[str, tuple[int, int | str]] = field(default_factory=dict)  # split -> (found, expected)
    balance: pd.DataFrame = field(default_factory=pd.DataFrame)  # class -> counts of each label value
    problems: tuple[str, ...] = ()  # why it is broken
    remarks: tuple[str, ...] = ()  # worth knowing

    @property
    def exit_status(self) -> int:
        """0 for complete data or a subset, 1 for broken data."""
        return int(self.verdict == "broken")

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-like values."""
        splits = {name: {"found": found, "expected": wanted} for name, (found, wanted) in self.splits.items()}
        plain = asdict(replace(self, balance=pd.DataFrame()))
        return plain | {"root": str(self.root), "splits": splits, "balance": self.balance.to_dict("index")}

    def to_text(self) -> str:
        """A few lines for a terminal."""
        lines = [f"{self.name} in {self.root}: {self.verdict}"]
        if self.images:
            lines.append(
                f"  {self.source} data: {self.images} images of {self.patients} patients, "
                f"{self.reports} with a report, {self.outlined} with a mask or boxes, {self.missing} named but absent"
            )
            lines += [f"  {name:<6}{n:>8} images (expected: {wanted})" for name, (n, wanted) in self.splits.items()]
            lines += ["  " + line for line in self.balance.to_string().splitlines()]
        lines += [f"  problem: {problem}" for problem in self.problems]
        lines += [f"  note: {remark}" for remark in self.remarks]
        return "\n".join(lines)


def check(name: str | Path | Manifest, root: str | Path, quick: bool = False) -> CheckReport:
    """Read the data set in `root` and compare it with its manifest.

    `quick` decodes only some 200 of the images and their masks, evenly spread, and does not look for identical copies.
    Whatever is wrong with the data becomes a problem; UsageError for an unknown data set or a wrong manifest.
    """
    manifest = name if isinstance(name, Manifest) else load_manifest(name)
    root = Path(root)
    try:
        samples, twin = load(manifest, root), twin_record(root)
    except UsageError:
        raise
    except UserError as error:
        return CheckReport(manifest.name, root, "broken", problems=(str(error),))
    rows = np.unique(np.linspace(0, len(samples) - 1, _QUICK if quick else len(samples), dtype=int))
    some = samples.subset(rows)
    problems, hashes = _read(some)
    remarks = () if quick else _copies(samples, hashes)
    if not problems:
        problems, lost = _fit_outlines(some)
        remarks = (*remarks, *lost)
    return CheckReport(
        name=manifest.name,
        root=root,
        verdict="broken" if problems else _verdict(samples, twin["images"] if twin else manifest.counts.images),
        source=samples.source,
        images=len(samples),
        missing=samples.missing,
        patients=samples.table["patient"].nunique(),
        reports=int((samples.table["report"] != "").sum()),
        outlined=int(has_outline(samples).sum()),
        splits=_splits(samples, {} if twin else _expected(manifest, root)),
        balance=_balance(samples),
        problems=tuple(problems),
        remarks=remarks,
    )


def _fit_outlines(samples: Samples) -> tuple[list[str], list[str]]:
    """(problems, remarks) from fitting every mask and box to its image."""
    try:
        masks(samples, _SMALL)
        left = sum(map(len, boxes_in_square(samples, _SMALL)))
    except UserError as error:
        return [str(error)], []
    lost = int(samples.table["boxes"].map(len).sum()) - left
    return [], [f"{lost} boxes are empty or outside their picture, and left out"] if lost else []


def _verdict(samples: Samples, expected: int | str) -> str:
    whole = len(samples) + samples.missing if expected == "unknown" else int(expected)
    return "complete" if len(samples) >= whole else f"subset: {len(samples)} of {whole}"


def _expected(manifest: Manifest, root: Path) -> dict[str, int | str]:
    """The split sizes of a complete copy under the rule that holds in this root."""
    listed = manifest.split.test_list
    rule = "test_list" if listed and (root / listed.file).is_file() else "default"
    return manifest.counts.splits.get(rule, {})


def _splits(samples: Samples, expected: dict[str, int | str]) -> dict[str, tuple[int, int | str]]:
    found = samples.table["split"].value_counts()
    return {name: (int(found.get(name, 0)), expected.get(name, "unknown")) for name in SPLITS}


def _balance(samples: Samples) -> pd.DataFrame:
    """A row a class: how many images have each label value."""
    values = samples.table[[f"label:{name}" for name in samples.classes]].to_numpy()
    counts = {"positive": values == 1, "negative": values == 0, "uncertain": values == -1, "none": np.isnan(values)}
    return pd.DataFrame({kind: found.sum(axis=0) for kind, found in counts.items()}, index=list(samples.classes))


def _copies(samples: Samples, hashes: list[bytes]) -> tuple[str, ...]:
    """A remark on images that are the same file, if there are any."""
    content = pd.Series(hashes)
    if not (extra := int(content.duplicated().sum())):
        return ()
    places = samples.table.assign(content=content)[["content", "split"]].drop_duplicates()
    across = int(places["content"].duplicated().sum())
    return (f"{extra} images are identical copies of another; {across} pictures are in more than one split",)


def _read(samples: Samples) -> tuple[list[str], list[bytes]]:
    """(problems, hash of each file) from decoding every image."""

    def one(path: Path) -> tuple[str, bytes]:
        try:
            read_image(path)
            return "", hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
        except UserError as error:
            return str(error), str(path).encode()

    with ThreadPoolExecutor(_WORKERS) as pool:
        found = pool.map(one, samples.image_paths())
        read = list(tqdm(found, f"checking {samples.name}", len(samples), leave=False, delay=3, unit="image"))
    problems = [error for error, _ in read if error]
    if len(problems) > _SHOWN:
        problems[_SHOWN:] = [f"{len(problems) - _SHOWN} more images cannot be read"]
    return problems, [content for _, content in read]
