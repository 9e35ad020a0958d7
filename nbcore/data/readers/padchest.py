"""PadChest: frontal images with their stemmed Spanish reports, and labels by physicians or by a network."""

import ast
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nbcore.data.layouts import PadchestLayout
from nbcore.data.manifest import Manifest
from nbcore.data.spanish import check_spanish, one_a_line
from nbcore.data.tables import find_table, list_files, locate, read_table, tidy
from nbcore.errors import UsageError, UserError
from nbcore.validation import nearest

_LABEL = r"""[uU]?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""  # as Python spells a text
_LIST = re.compile(rf"\s*\[\s*(?:{_LABEL}(?:\s*,\s*{_LABEL})*\s*,?\s*)?\]\s*", re.DOTALL)


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row a frontal image that is not labelled as one to leave out.

    A class is 1 where one of its labels is in the list. Else it is 0; but nothing is known of it where there is no
    list, or one of the layout's `unlabelled` is in it ("unchanged" since a study that is not told).
    """
    layout, names = manifest.layout, manifest.layout.columns
    for name in set(layout.findings) - set(manifest.classes):
        raise UsageError(f"{manifest.name}: layout.findings: no class {name!r}{nearest(name, list(manifest.classes))}")
    among = manifest.split.test_among
    path = find_table(root, layout.tables, manifest.name)
    wanted = list(dict.fromkeys([*names.model_dump().values(), *([among.column] if among else [])]))
    table = read_table(path, wanted, text=wanted, broken_lines=True)
    check_spanish(table[names.report], path)

    labels = _label_sets(table[names.labels], path)
    usable = table[names.view].isin(layout.frontal_views) & labels.map(_lower(layout.excluded).isdisjoint)
    if not usable.any():
        raise UserError(f"{path} names no image of the projections {', '.join(layout.frontal_views)}: fetch it again")
    table, labels = table[usable].reset_index(drop=True), labels[usable].reset_index(drop=True)
    unlabelled = _lower(layout.unlabelled)
    known = labels.map(lambda found: bool(found) and found.isdisjoint(unlabelled))
    testable = known & (table[among.column] == among.value) if among else known
    return tidy(
        len(table),
        image=_places(root, table[names.folder], table[names.image]),
        patient=table[names.patient],
        study=table[names.study],
        view=table[names.view].map(layout.frontal_views),
        report=table[names.report].map(one_a_line),
        language=manifest.language,
        testable=testable,
        **_classes(layout, manifest.classes, labels, known),
    )


def _label_sets(lists: pd.Series, path: Path) -> pd.Series:
    """The labels of each row in small letters, as sets; the empty set where there is no list."""
    sets = {"": frozenset()}
    for row, told in zip(lists.index, lists):
        if told not in sets:
            try:
                if not _LIST.fullmatch(told):  # 'a' 'b' without a comma would be one label to Python
                    raise ValueError(told)
                labels = map(ast.literal_eval, re.findall(_LABEL, told, re.DOTALL))
                sets[told] = _lower(label.strip() for label in labels) - {""}
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                shown = repr(told[:200])
                raise UserError(f"{path}, row {row + 2}: {shown} is not a list of labels; fetch it again") from None
    return lists.map(sets)


def _lower(labels: Iterable[str]) -> frozenset[str]:
    return frozenset(label.lower() for label in labels)


def _classes(
    layout: PadchestLayout, classes: Sequence[str], labels: pd.Series, known: pd.Series
) -> dict[str, pd.Series]:
    """{"label:<class>": float32 (n,)}."""
    columns = {}
    for name in classes:
        positive = ~labels.map(_lower(layout.findings.get(name, (name,))).isdisjoint).astype(bool)
        columns[f"label:{name}"] = positive.astype(np.float32).where(positive | known)
    return columns


def _places(root: Path, folders: pd.Series, images: pd.Series) -> pd.Series:
    """The path of each image: in the folder of its archive; where it is not there, wherever it lies."""
    images = images.str.strip()
    places = folders.str.strip().str.removesuffix(".0") + "/" + images
    away = ~places.isin(list_files(root, "."))
    found = locate(root, ["."], images[away])
    places[away] = found.where(~found.str.startswith("./"), places[away])
    return places
