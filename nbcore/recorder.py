"""Collects what a notebook run produces and leaves it behind all at once, the record last.

A run writes into `results/<profile>/.<notebook>.partial/`; only a finished run replaces the results of the one before.
With private data that folder lies beside them, and what is in it is searched before it comes to results/.
"""

import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as MatplotlibFigure

from nbcore.analysis.lettering import told_source
from nbcore.analysis.png import png
from nbcore.data import Samples
from nbcore.data.samples import SPLITS
from nbcore.errors import UserError
from nbcore.files import atomic_path, atomic_write
from nbcore.paths import ROOT
from nbcore.protection import Keeping
from nbcore.results import Claim, DataUse, Figure, Record, Row, aggregate, write_tables

HEADLESS = "NBCORE_HEADLESS"  # set by `nbcore run`, which adds the executed notebook before it publishes
_PACKAGES = ("nbcore", "torch", "torchvision", "timm", "transformers", "accelerate", "scikit-learn", "numpy", "pandas")


class Recorder:
    """The growing record of one run."""

    def __init__(
        self,
        notebook: str,
        title: str,
        *,
        profile: str,
        config: dict[str, Any],
        seeds: Sequence[int],
        source: Literal["real", "phantom"],
        output_root: Path,
        command: str,
        keeping: Keeping | None = None,
    ):
        """Begin an empty record; until it is published the run lies where `keeping` says, or in `output_root`."""
        self._start = time.monotonic()
        self._output = output_root / profile
        self._notebook = notebook
        self._keeping = keeping or Keeping(output_root, {})
        self.directory = partial_directory(self._keeping.root, profile, notebook)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self._record = Record(
            notebook=notebook,
            title=title,
            profile=profile,
            command=command,
            config=config,
            seeds=list(seeds),
            source=source,
            data=[],
            rows=[],
            claims=[],
            figures=[],
            notes=[],
            environment=environment(config.get("threads")),
            seconds=0.0,
            peak_memory_mib=0.0,
            complete=False,
        )

    def note(self, sentence: str) -> None:
        """Something the reader of the results must know."""
        self._record.notes.append(sentence)

    def data(self, samples: Samples, **counts: int) -> None:
        """Account for a data set: images of each split, and other counts (pairs, missing)."""
        splits = {name: int((samples.table["split"] == name).sum()) for name in SPLITS}
        counts = {**splits, **counts, "missing": samples.missing}
        use = DataUse(name=samples.name, source=samples.source, fingerprint=samples.fingerprint(), counts=counts)
        self._record.data.append(use)

    def row(self, values: Sequence[float], **keys: str) -> None:
        """One number of a table: the values of all seeds, and table, method, dataset, setting, metric.

        A value that is NaN was not measured and does not count; without any other there is no row.
        """
        if measured := [value for value in values if not np.isnan(value)]:
            self._record.rows.append(aggregate(measured, **keys))

    def scores(self, runs: pd.DataFrame, value: str, *, table: str, labels: Mapping[str, str], **keys: str) -> None:
        """Rows of a table from runs: mean and deviation over the seeds, a row a method, data set and label fraction.

        Args:
            runs: columns method, dataset, fraction in (0, 1], `value` in [0, 1]; a missing value was not measured.
            value: the column, told in percent.
            table: of the paper.
            labels: what the table calls each data set.
            keys: the metric, and whatever else is the same for all rows.
        """
        runs = runs[runs[value].notna()]
        for (method, dataset, fraction), group in runs.groupby(["method", "dataset", "fraction"], sort=False):
            own = {"method": method, "dataset": labels[dataset], "setting": f"{fraction:.0%}", "table": table}
            self.row(100 * group[value], **own, **keys)

    def averages(self, runs: pd.DataFrame, value: str, *, table: str, labels: Mapping[str, str], metric: str) -> None:
        """Rows of a table from runs, and below those of each method and setting their mean over the data sets.

        Args:
            runs: columns method, dataset, setting, seed, `value` in [0, 1]; a method was tried on all data sets.
            value: the column, told in percent.
            table, metric: of the paper.
            labels: what the table calls each data set.
        """
        for (method, setting), own in runs.groupby(["method", "setting"], sort=False):
            keys = {"table": table, "method": method, "setting": setting, "metric": metric}
            for dataset, group in own.groupby("dataset", sort=False):
                self.row(100 * group[value], dataset=labels[dataset], **keys)
            whole = own.pivot(index="seed", columns="dataset", values=value).mean(axis=1, skipna=False)
            self.row(100 * whole, dataset="Average", **keys)

    def interval(self, value: float, low: float, high: float, **keys: str) -> None:
        """One run's test AUC (%) with its 95 % interval: method, dataset, setting."""
        row = Row(table="Test AUC by run", metric="AUC (%)", value=value, low=low, high=high, **keys)
        self._record.rows.append(row)

    def claim(self, claim: Claim) -> None:
        self._record.claims.append(claim)

    def figure(self, figure: MatplotlibFigure, name: str, caption: str) -> None:
        """Keep a figure as PNG and SVG; its caption, and of what data and seed it is, goes into the record."""
        folder = self.directory / "figures"
        atomic_write(folder / f"{name}.png", png(figure))
        with atomic_path(folder / f"{name}.svg") as path:
            figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
        caption = told_source(caption, self._record.source, self._record.seeds)
        self._record.figures.append(Figure(name=name, caption=caption))

    def finish(self) -> Record:
        """Write the tables, then the record; in an interactive session, replace the earlier results."""
        record = self._record.model_copy(
            update={
                "seconds": round(time.monotonic() - self._start, 1),
                "peak_memory_mib": round(peak_memory_mib(), 1),
                "complete": True,
            }
        )
        write_tables(record, self.directory / "tables")
        atomic_write(self.directory / "record.json", record.model_dump_json(indent=1))
        if HEADLESS not in os.environ:
            publish(self._output, self._notebook, self._keeping)
        return record


def partial_directory(root: Path, profile: str, notebook: str) -> Path:
    """Where a run that has not ended keeps its results."""
    return root / profile / f".{notebook}.partial"


def publish(output: Path, notebook: str, keeping: Keeping | None = None) -> Path:
    """Put a finished run in the place of the one before; a crash in between leaves one of them whole.

    Raises:
        UserError: something in it belongs to a patient of private data; the run stays beside them.
    """
    final, partial, old = output / notebook, output / f".{notebook}.partial", output / f".{notebook}.old"
    if keeping and keeping.private:
        kept = partial_directory(keeping.root, output.name, notebook)
        _refuse_leaks(kept, notebook, keeping)
        if kept != partial:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(kept, partial, symlinks=True)
            shutil.rmtree(kept)
    recover(output, notebook)
    if final.exists():
        final.rename(old)
    partial.rename(final)
    shutil.rmtree(old, ignore_errors=True)
    return final


def _refuse_leaks(kept: Path, notebook: str, keeping: Keeping) -> None:
    """Set a run aside, and say why, if there is anything private in it."""
    from nbcore.leaks import find_leak

    if leak := find_leak(kept, keeping.private, keeping.data_root):
        refused = kept.with_name(f"{notebook}.refused")
        shutil.rmtree(refused, ignore_errors=True)
        kept.rename(refused)
        raise UserError(
            f"{notebook}: not published, because {leak} ({', '.join(keeping.private)} is credentialed): take it out "
            f"and run again; this run is kept in {refused}."
        )


def recover(output: Path, notebook: str) -> None:
    """Bring back the earlier results if a crash fell between the two renames of `publish`."""
    final, old = output / notebook, output / f".{notebook}.old"
    if old.exists():
        if final.exists():
            shutil.rmtree(old)
        else:
            old.rename(final)


def environment(threads: int | None) -> dict[str, Any]:
    """Versions, machine and commit of a run."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "python": sys.version.split()[0],
        "platform": platform.system(),
        "device": device,
        "cores": os.cpu_count(),
        "threads": threads,
        "commit": commit(),
        **{name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """The commit of the working tree, with "+" when it has changes; "unknown" outside a checkout."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changes.stdout.strip() else "")


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far, or of the accelerator where there is one, in MiB."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux, bytes on macOS
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
