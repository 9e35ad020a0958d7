"""Intermediate files: what the papers' repositories read but do not contain, made from a raw copy of a data set.

- `master.csv`: the table of `Samples` without the reports, a row an image; a label is 1, 0, -1 or nothing, boxes are
  JSON of [x, y, width, height]. `read_master` reads it back.
- `splits.csv`: `patient,study,split`, a row a study, sorted.
- `reports.csv`: image, study, language, the sections where the owner's reports have some, the cleaned text that models
  are trained on (a sentence a line) and its number of words.
- `mimic_cxr_sectioned.csv`, of MIMIC-CXR's text files: the table of MIT-LCP's create_section_files.py.
- `prepared.json`: rule, seed, versions, counts, and the SHA-256 of each file and of the data.
"""

import csv
import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nbcore import __version__
from nbcore.data.fixed_splits import canonical_list, complete_list, fixed_for, known_hashes, list_hash
from nbcore.data.layouts import MimicCxrLayout
from nbcore.data.manifest import Manifest, load_manifest
from nbcore.data.readers import load
from nbcore.data.reports import extract_sections
from nbcore.data.samples import SPLITS, Samples
from nbcore.data.tables import readable
from nbcore.errors import UserError
from nbcore.paths import ROOT

RECORD = "prepared.json"
SECTIONS = ("impression", "findings", "last_paragraph", "comparison")  # of MIT-LCP's table, in its order
_MASTER = ("image", "patient", "study", "split", "view", "language")
_ROWS = 10_000  # written at a time


@dataclass(frozen=True)
class Prepared:
    """What was written where; `files` says of each whether it is "new", "unchanged", "rewritten" or "mended"."""

    folder: Path
    files: dict[str, str]
    record: dict

    def to_text(self) -> str:
        counts, record = self.record["counts"], self.record
        parts = ", ".join(f"{name} {number}" for name, number in counts["splits"].items())
        lines = [
            f"{record['data_set']} ({record['access']}, {record['source']}): {counts['images']} images ({parts}) of "
            f"{counts['patients']} patients",
            f"splits: {record['split']['compared']}",
            *(f"{name:<24} {state}" for name, state in self.files.items()),
        ]
        if record["access"] == "credentialed":
            lines.append("credentialed data: keep these files as private as the data themselves")
        return "\n".join([*lines, f"in {self.folder}"])


def prepare(name: str | Path | Manifest, root: str | Path, to: str | Path | None = None) -> Prepared:
    """Write the intermediate files of the data set in `root` to the folder `to` (default: `root`/prepared).

    Each file is replaced as a whole, the record last; one that is already there as it should be is left alone, and one
    that this did not write is never replaced.

    Raises UserError for what `load` refuses, a folder that cannot be written or has other files of these names, and
    real credentialed data that would land in the project's own folder.
    """
    manifest = name if isinstance(name, Manifest) else load_manifest(name)
    samples = load(manifest, root)
    folder = Path(root) / "prepared" if to is None else Path(to)
    _refuse_project(samples, folder)
    before = _earlier(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".prepare.", suffix=".tmp") as temporary:
            fresh = Path(temporary)
            names = _write_tables(manifest, samples, fresh)
            hashes = {file: _sha256(fresh / file) for file in names}
            _refuse_foreign(folder, names, before)
            record = _record(manifest, samples, hashes, (fresh / "splits.csv").read_text("utf-8"))
            (fresh / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            states = {file: _state(folder / file, fresh / file, before) for file in [*names, RECORD]}
            for file in [*names, RECORD]:
                if states[file] != "unchanged":
                    (fresh / file).replace(folder / file)
            for file in set(before) - set(names):  # of an earlier run, and untouched since
                if (folder / file).is_file() and _sha256(folder / file) == before[file]:
                    (folder / file).unlink()
    except UnicodeEncodeError as error:
        raise UserError(f"{manifest.name}: the name {error.object!a} under {root} is not UTF-8: rename it") from error
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}; name another folder with --to"
        ) from error
    return Prepared(folder, states, record)


def read_master(path: str | Path) -> pd.DataFrame:
    """A master.csv with the types of `Samples.table` (which also has the reports)."""
    with readable(Path(path)):
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        table["boxes"] = [[tuple(box) for box in json.loads(boxes)] for boxes in table["boxes"]]
        labels = [column for column in table if column.startswith("label:")]
        table[labels] = table[labels].apply(pd.to_numeric).astype("float32")
    return table


def _refuse_project(samples: Samples, folder: Path) -> None:
    if samples.private and folder.resolve().is_relative_to(ROOT.resolve()):
        raise UserError(
            f"{samples.name} is credentialed: its prepared files may not lie in {folder}, a folder of the project; "
            f"name a private one elsewhere with --to"
        )


def _earlier(folder: Path) -> dict[str, str]:
    """File -> SHA-256 as an earlier run recorded it; empty where there was none."""
    record = folder / RECORD
    if not record.is_file():
        return {}
    try:
        return {
            str(Path(name).name): str(told["sha256"]) for name, told in json.loads(record.read_bytes())["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{record} is damaged: remove it and the tables beside it, and prepare again") from error


def _refuse_foreign(folder: Path, names: list[str], before: dict[str, str]) -> None:
    for file in names:
        if file not in before and (folder / file).exists():
            raise UserError(
                f"{folder / file} is there already and was not prepared here: name another folder with --to"
            )


def _state(old: Path, new: Path, before: dict[str, str]) -> str:
    if not old.is_file():
        return "new"
    if (found := _sha256(old)) == _sha256(new):
        return "unchanged"
    return "rewritten" if found == before.get(old.name, found) else "mended"  # somebody else changed it


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_tables(manifest: Manifest, samples: Samples, folder: Path) -> list[str]:
    """Write all but the record; returns the names of the files."""
    table = samples.table
    columns = [*_MASTER, *(f"label:{name}" for name in samples.classes), "mask", "boxes"]
    _write_rows(table[columns], folder / "master.csv")
    (folder / "splits.csv").write_bytes(canonical_list(table).encode("utf-8"))
    names = ["master.csv", "splits.csv"]
    sectioned = None
    if isinstance(layout := manifest.layout, MimicCxrLayout):
        own = (samples.root / f"{layout.sectioned}{end}" for end in ("", ".gz"))
        sectioned = next((path for path in own if path.is_file()), None)
        if _write_sectioned(layout, samples.root, folder / layout.sectioned):
            names.append(layout.sectioned)
            sectioned = sectioned or folder / layout.sectioned
    if (table["report"] != "").any():
        reports = table[["image", "study", "language"]].join(_sections(sectioned, table["study"]))
        reports["text"], reports["words"] = table["report"], table["report"].str.split().str.len()
        _write_rows(reports, folder / "reports.csv")
        names.append("reports.csv")
    return names


def _write_rows(table: pd.DataFrame, path: Path) -> None:
    """As CSV, a part at a time."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for start in range(0, len(table), _ROWS):
            part = table.iloc[start : start + _ROWS]
            if "boxes" in part:
                part = part.assign(boxes=[json.dumps(boxes, default=float) for boxes in part["boxes"]])
            part.to_csv(file, index=False, header=start == 0, float_format="%g", lineterminator="\n")


def _sections(sectioned: Path | None, studies: pd.Series) -> pd.DataFrame:
    """The sections of each row's report; no columns where the data set's reports have none."""
    if sectioned is None:
        return pd.DataFrame(index=studies.index)
    with readable(sectioned):
        table = pd.read_csv(sectioned, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    table.index = table["study"].str.removeprefix("s")
    table = table.loc[table.index.isin(studies) & ~table.index.duplicated()]
    return pd.DataFrame({name: studies.map(table[name]).fillna("") for name in SECTIONS if name in table})


def _write_sectioned(layout: MimicCxrLayout, root: Path, path: Path) -> bool:
    """The sections of every text file below `root`, a row a study; returns whether there is any."""
    rows = _sectioned_rows(layout, root)
    if (first := next(rows, None)) is None:
        return False
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("study", *SECTIONS), first])
        writer.writerows(rows)
    return True


def _sectioned_rows(layout: MimicCxrLayout, root: Path) -> Iterator[tuple[str, ...]]:
    """Study and sections of each text file; of two of one study that in the first of the layout's folders."""
    tops = [root / top for top in layout.reports]
    for group in sorted({path.name for top in tops for path in top.glob("p??")}):
        for patient in sorted({path.name for top in tops for path in (top / group).glob("p*")}):
            texts: dict[str, Path] = {}
            for top in tops:
                for path in (top / group / patient).glob("s*.txt"):
                    texts.setdefault(path.stem, path)
            for study, path in sorted(texts.items()):
                with readable(path):
                    found = extract_sections(path.read_text("utf-8-sig"))
                yield study, *(found.get(name, "") for name in SECTIONS)


def _record(manifest: Manifest, samples: Samples, hashes: dict[str, str], listed: str) -> dict:
    table = samples.table
    return {
        "data_set": manifest.name,
        "version": manifest.version,
        "access": manifest.access,
        "source": samples.source,
        "nbcore": __version__,
        "data": samples.fingerprint(),
        "split": {
            "rule": manifest.split.model_dump(mode="json", exclude={"seed"}),
            "seed": manifest.split.seed,
            "compared": compare_list(manifest, samples, listed),
        },
        "counts": {
            "images": len(table),
            "missing": samples.missing,
            "patients": int(table["patient"].nunique()),
            "studies": int(table["study"].nunique()),
            "splits": {name: int((table["split"] == name).sum()) for name in SPLITS},
            "reports": int((table["report"] != "").sum()),
        },
        "files": {file: {"sha256": digest} for file, digest in hashes.items()},
    }


def compare_list(manifest: Manifest, samples: Samples, listed: str) -> str:
    """What is known of a data set's list of splits, in words; nothing is called equal that was not compared."""
    if samples.source == "phantom":
        return "phantom data, nothing to compare with"
    known = known_hashes().get(manifest.name)
    if known == list_hash(listed):
        return "verified, the list of a complete copy"
    fixed = fixed_for(manifest, samples.table["study"])
    alike = fixed is not None and (fixed == samples.table["split"]).all()
    if alike and list_hash(complete_list(manifest)) == known:
        return f"verified, {len(fixed)} of the {manifest.counts.images} images of a complete copy, as in its list"
    if known:
        return "other than the list of a complete copy (this one is partial or has another list or rule)"
    return "recorded, nothing to compare with (no complete copy's list is known)"
