"""Patients stay where their data lies: the one guard before whatever is shown, and where a run is kept until searched.

Data that are credentialed (PhysioNet's word: given to named persons who signed an agreement) may be computed with, and
numbers, curves and points without a name may be told of them. No picture, no sentence of a report and no row about one
patient is shown, in a figure, a table, a notebook or a log. `Guard` is the first belt: all that a study shows goes
through it. `nbcore.leaks` is the second: what a run has written is searched before it reaches results/.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from nbcore.data import Samples, load_manifest
from nbcore.errors import UsageError
from nbcore.paths import ROOT
from nbcore.settings import RunSettings

NOT_SHOWN = "Credentialed data are not shown."
T = TypeVar("T")


@dataclass(frozen=True)
class Guard:
    """What may be shown of samples: everything, unless they are private and the user has not allowed it."""

    allow: bool = False

    def hides(self, samples: Samples) -> bool:
        return samples.private and not self.allow

    def pictures(self, samples: Samples, pictures: np.ndarray) -> np.ndarray:
        """Pictures, masks or maps of these samples as they are, or as many black ones."""
        return np.zeros_like(pictures, subok=False) if self.hides(samples) else pictures

    def sentences(self, samples: Samples, texts: Sequence[str]) -> list[str]:
        """Reports, titles or labels of single images as they are, or one sentence that says why there are none."""
        return [NOT_SHOWN] if self.hides(samples) else list(texts)

    def rows(self, samples: Samples, rows: Sequence[T]) -> list[T]:
        """What is told of single images as it is, or nothing."""
        return [] if self.hides(samples) else list(rows)

    def table(self, samples: Samples, table: pd.DataFrame) -> pd.DataFrame:
        """A table with a row an image as it is, or one row: how many different values each column has."""
        if not self.hides(samples):
            return table
        counts = {column: table[column].astype(str).nunique() for column in table}
        return pd.DataFrame(counts, index=[f"different values in {len(table)} rows"])


def private_roots(settings: RunSettings, data_root: Path | None) -> dict[str, Path]:
    """The private data sets of a study that are there, and where they lie; none where it runs on twins."""
    if settings.source != "real":
        return {}
    names = dict.fromkeys(name.partition("/")[0] for name in settings.data_sets)
    roots = {name: data_root / name for name in names if load_manifest(name).is_private}
    return {name: root for name, root in roots.items() if root.is_dir()}


@dataclass(frozen=True)
class Keeping:
    """Where a run is kept while it is not searched, and what it is searched for.

    Attributes:
        root: takes the place of `output_root` until the run is published; beside the data where they are private.
        private: the data sets that nothing may be published of, and where they lie.
    """

    root: Path
    private: Mapping[str, Path]

    @property
    def data_root(self) -> Path:
        """The folder of the private data sets."""
        return next(iter(self.private.values())).parent


def keeping(settings: RunSettings, data_root: Path | None, output_root: Path) -> Keeping:
    """Where the results of a study go before they are published.

    Raises UsageError if patients' data are to be shown anywhere in the project's folder.
    """
    if settings.allow_patient_data:
        if output_root.resolve().is_relative_to(ROOT.resolve()):
            raise UsageError(
                f"allow_patient_data shows patients, and {output_root}, a folder of the project, is for all to read: "
                "name a private folder elsewhere with --output-root DIR."
            )
        return Keeping(output_root, {})
    private = private_roots(settings, data_root)
    return Keeping(data_root / "results" if private else output_root, private)
