"""COVID-19 image data collection: frontal radiographs, with the published case's clinical notes as report."""

from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.reports import clean_report
from nbcore.data.tables import find_table, read_table, tidy
from nbcore.errors import UserError


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row a frontal radiograph; CT slices and lateral views are left out.

    A finding is a word, or several joined by "/" or "," ("Pneumonia/Viral/COVID-19"); a class is 1 where one of its
    words is among them, in whatever letters, and nothing is known of any class where the finding is "todo" or the like.
    """
    layout, names = manifest.layout, manifest.layout.columns
    path = find_table(root, [layout.table], manifest.name)
    wanted = list(dict.fromkeys(names.model_dump().values()))
    table = read_table(path, wanted, text=wanted, broken_lines=True)
    frontal = table[names.view].str.strip().isin(layout.frontal_views)
    radiographs = table[names.modality].str.strip().str.lower() == layout.modality.lower()
    table = table[radiographs & frontal].reset_index(drop=True)

    findings = table[names.finding].str.strip().str.lower()
    words = findings.str.split(r"\s*[/,]\s*", regex=True)
    known = ~findings.isin([finding.lower() for finding in layout.unlabelled])
    labels = {}
    for name in manifest.classes:
        meant = {word.lower() for word in layout.findings.get(name, (name,))}
        positive = words.map(lambda found, meant=meant: not meant.isdisjoint(found))
        labels[f"label:{name}"] = positive.astype(np.float32).where(known)
    if len(table) and not any((column == 1).any() for column in labels.values()):
        first = table[names.finding].iloc[0][:80]
        raise UserError(
            f"{path}: no {names.finding} is one of {', '.join(manifest.classes)}; the first is {first!r}: fetch it anew"
        )
    return tidy(
        len(table),
        image=table[names.folder] + "/" + table[names.image],
        patient=table[names.patient].str.strip().str.removesuffix(".0"),
        study=table[names.image],
        view=table[names.view].str.strip().map(layout.frontal_views),
        report=table[names.report].map(clean_report),
        language=manifest.language,
        **labels,
    )
