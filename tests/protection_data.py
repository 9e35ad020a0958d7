"""A private data set to try to leak: a twin of MIMIC-CXR that counts as real, with one report like no other."""

from pathlib import Path

from nbcore.data import Samples, load, load_manifest
from nbcore.data.phantom.twins import write_twin

SENTENCE = "A swallowed brass button lies in the oesophagus, 3.5 cm above the carina"


def private_samples(data_root: Path) -> Samples:
    """Write it to `data_root`/mimic-cxr and load it; the report of the first row opens with SENTENCE."""
    root = data_root / "mimic-cxr"
    write_twin(load_manifest("mimic-cxr"), root, images=40, size=64, seed=7)
    (root / "PHANTOM.json").unlink()
    first = load("mimic-cxr", root).table.iloc[0]
    report = (root / first["image"]).parent.with_suffix(".txt")
    text = f"{' ' * 33}FINAL REPORT\n FINDINGS:  {SENTENCE}. \n \n IMPRESSION:  No pneumothorax.\n"
    report.write_text(text, encoding="utf-8")
    return load("mimic-cxr", root)
