"""Fixed splits: those of a complete copy, where its images' names are known by rule, and what they are compared by.

A list has a row a study with its patient and its split, in the order of their names: `data_manifests/splits/NAME.csv`.
They are drawn here from the names, the manifest's rule and its seed, so no data are needed, and a copy of a part of
such a data set has exactly the splits of the complete one. `python -m nbcore.data.fixed_splits` writes the lists and
their hashes anew.
"""

import hashlib
from collections.abc import Callable

import pandas as pd
import yaml

from nbcore.data.manifest import Manifest, load_manifest
from nbcore.data.splits import assign_splits
from nbcore.files import atomic_write
from nbcore.paths import MANIFESTS

LISTS = MANIFESTS / "splits"
HASHES = LISTS / "hashes.yaml"


def _shenzhen() -> list[tuple[str, str]]:
    """326 normal radiographs, then 336 with tuberculosis, in one numbering."""
    return [(f"CHNCXR_{number:04d}_{int(number > 326)}", "train") for number in range(1, 663)]


def _idrid() -> list[tuple[str, str]]:
    """Numbered anew in the official test set."""
    return [(f"{part}/IDRiD_{i:03d}", part) for part, n in (("train", 413), ("test", 103)) for i in range(1, n + 1)]


def _busi() -> list[tuple[str, str]]:
    """Numbered anew in each class."""
    sizes = {"benign": 437, "malignant": 210, "normal": 133}
    return [(f"{name} ({number}).png", "train") for name, size in sizes.items() for number in range(1, size + 1)]


# (study, official split) of every image of a complete copy; in these sets a study is one image, and its own patient
_COMPLETE: dict[str, Callable[[], list[tuple[str, str]]]] = {"busi": _busi, "idrid": _idrid, "shenzhen-tb": _shenzhen}


def fixed_split(manifest: Manifest) -> dict[str, str] | None:
    """Study -> split in a complete copy by the manifest's rule and seed; None where the names are not known by rule."""
    if manifest.name not in _COMPLETE:
        return None
    complete = pd.DataFrame(_COMPLETE[manifest.name](), columns=["study", "split"])
    rule = manifest.split.model_copy(update={"test_list": None})
    split = assign_splits(complete["study"], complete["split"], manifest.model_copy(update={"split": rule}), LISTS)
    return dict(zip(complete["study"], split.tolist()))


def fixed_for(manifest: Manifest, studies: pd.Series) -> pd.Series | None:
    """The fixed split of each of these studies, NaN for one of another name; None if there is none of them."""
    known = fixed_split(manifest)
    found = studies.map(known) if known else None
    return None if found is None or found.isna().all() else found


def canonical_list(table: pd.DataFrame) -> str:
    """The list of a data set: CSV of `patient,study,split` of the table, a row a study, sorted by name."""
    rows = table[["patient", "study", "split"]].drop_duplicates()
    return rows.sort_values(["patient", "study"]).to_csv(index=False, lineterminator="\n")


def complete_list(manifest: Manifest) -> str | None:
    """The list of a complete copy by the manifest's rule and seed; None where the names are not known by rule."""
    if (split := fixed_split(manifest)) is None:
        return None
    return canonical_list(pd.DataFrame({"patient": split.keys(), "study": split.keys(), "split": split.values()}))


def list_hash(listed: str) -> str:
    return hashlib.sha256(listed.encode("utf-8", "surrogatepass")).hexdigest()


def known_hashes() -> dict[str, str]:
    """Data set -> SHA-256 of the list of a complete copy, as far as one was seen or its names are known by rule."""
    return yaml.safe_load(HASHES.read_text("utf-8"))


def make_lists() -> dict[str, str]:
    """File name -> content of all that is written to data_manifests/splits."""
    texts = {name: complete_list(load_manifest(name)) for name in _COMPLETE}
    hashes = known_hashes() if HASHES.is_file() else {}
    hashes |= {name: list_hash(text) for name, text in texts.items()}
    return {f"{name}.csv": text for name, text in texts.items()} | {HASHES.name: yaml.safe_dump(hashes)}


def write_lists() -> None:
    for name, text in make_lists().items():
        atomic_write(LISTS / name, text)


if __name__ == "__main__":
    write_lists()
