"""Is the data set in this folder what its manifest says? A report with a verdict, never a traceback."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from nbcore.data.checking_files import PATIENCE, Scan, cores, scan
from nbcore.data.checking_report import CheckReport, Copies, Pictures
from nbcore.data.checking_tables import (
    balance,
    class_remarks,
    expected_splits,
    find_copies,
    find_unnamed,
    misplaced_boxes,
    patient_remarks,
    positives,
    split_remarks,
    split_rules,
    split_sizes,
)
from nbcore.data.manifest import Manifest, load_manifest
from nbcore.data.masks import has_outline
from nbcore.data.readers import Reading, assert_consistent, read_present, twin_record
from nbcore.data.samples import Samples
from nbcore.errors import UsageError, UserError

_SHOWN = 5  # unreadable images spelt out, and absent ones named
_QUICK = 200  # images decoded by a quick check

__all__ = ["CheckReport", "check"]


def check(
    name: str | Path | Manifest,
    root: str | Path,
    quick: bool = False,
    jobs: int | None = None,
    patience: float = PATIENCE,
) -> CheckReport:
    """Read the data set in `root` and compare it with its manifest.

    Whatever is wrong with the data becomes a problem; UsageError for an unknown data set or a wrong manifest.

    Args:
        name: of the data set, or a manifest.
        root: of the local copy.
        quick: decode only some 200 of the images and their masks, evenly spread, and look for no identical copies.
        jobs: processes that decode; by default one a core.
        patience: seconds after which an image that is not decoded is a problem.
    """
    manifest = name if isinstance(name, Manifest) else load_manifest(name)
    root = Path(root)
    try:
        reading, twin = read_present(manifest, root, needs_train=False), twin_record(root)
        samples = reading.samples
        rows = np.unique(np.linspace(0, len(samples) - 1, _QUICK if quick else len(samples), dtype=int))
        scanned = samples.subset(rows) if quick else samples
        found = scan(scanned, jobs or cores(), patience)
    except UsageError:
        raise
    except UserError as error:
        return CheckReport(manifest.name, root, "broken", quick, problems=(str(error),))
    report = _report(manifest, reading, twin)
    problems = (*_problems(samples), *_unreadable(found))
    copies = None if quick else find_copies(samples, found.facts["content"])
    misplaced = misplaced_boxes(manifest, scanned, found.facts)
    remarks = (*report.remarks, *misplaced, *_file_remarks(found, copies, quick, len(samples)))
    return replace(
        report,
        verdict="broken" if problems else report.verdict,
        quick=quick,
        unreadable=found.unreadable,
        pictures=_pictures(found),
        copies=copies,
        problems=problems,
        remarks=remarks,
    )


def _report(manifest: Manifest, reading: Reading, twin: dict | None) -> CheckReport:
    """What needs no image decoded."""
    samples, counts = reading.samples, manifest.counts
    drawn = {"images": "unknown" if manifest.part_of else twin["images"]} if twin else {}  # a twin is of the whole
    wanted = drawn or {"images": counts.images, "patients": counts.patients}
    wanted |= {} if twin else {"studies": counts.studies}
    sizes = split_sizes(samples, {} if twin else expected_splits(manifest, samples.root))
    remarks = [*([] if twin else split_remarks(manifest, reading)), *class_remarks(samples)]
    if wanted["images"] == "unknown":
        remarks.append("how many images a complete copy has is unknown: measured by the tables that are here")
    if not twin and counts.patients == "unknown":
        remarks += patient_remarks(samples)
    if not twin and counts.images != "unknown" and len(samples) > counts.images:
        remarks.append(f"more images than the manifest's version ({manifest.version}) has: is it another one?")
    return CheckReport(
        name=manifest.name,
        root=samples.root,
        verdict=_verdict(samples, wanted["images"]),
        source=samples.source,
        images=len(samples),
        missing=samples.missing,
        missing_examples=tuple(reading.absent.iloc[:_SHOWN]),
        patients=samples.table["patient"].nunique(),
        studies=samples.table["study"].nunique(),
        reports=int((samples.table["report"] != "").sum()),
        outlined=int(has_outline(samples).sum()),
        expected=wanted,
        splits=sizes,
        split_rule=split_rules(manifest, reading),
        balance=balance(samples),
        positives=positives(samples, {} if twin else counts.classes),
        unnamed=find_unnamed(manifest, reading),
        remarks=tuple(remarks),
    )


def _verdict(samples: Samples, expected: int | str) -> str:
    whole = len(samples) + samples.missing if expected == "unknown" else int(expected)
    return "complete" if len(samples) >= whole else f"subset: {len(samples)} of {whole}"


def _problems(samples: Samples) -> tuple[str, ...]:
    """Patients and images in two splits."""
    try:
        assert_consistent(samples)
    except UserError as error:
        return (str(error),)
    return ()


def _unreadable(found: Scan) -> list[str]:
    told = list(found.problems.values())[:_SHOWN]
    more = found.unreadable - len(told)
    return told + [f"{more} more images cannot be read, or do not fit their masks"] * bool(more)


def _pictures(found: Scan) -> Pictures:
    facts = found.facts[found.facts["read"]]
    if not len(facts):
        return Pictures()
    width, height = (
        (int(sides.min()), int(np.median(sides)), int(sides.max())) for sides in (facts["width"], facts["height"])
    )
    return Pictures(len(facts), width, height, dict(found.kinds.most_common()), int(facts["blank"].sum()))


def _file_remarks(found: Scan, copies: Copies | None, quick: bool, images: int) -> list[str]:
    remarks = []
    if quick and images > len(found.facts):
        remarks.append(f"a quick check: {len(found.facts)} of {images} images decoded, identical copies not looked for")
    if found.lost_boxes:
        remarks.append(f"{found.lost_boxes} boxes are empty or outside their picture, and left out")
    if copies and copies.extra:
        remarks.append(
            f"{copies.extra} images are identical copies of another; {copies.across_splits} pictures are in more than "
            f"one split, {copies.different_labels} have different labels"
        )
    return remarks
