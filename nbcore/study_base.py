"""What every study stands on: its settings, its data sets, real or twins, as cached stages, and its record."""

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self
from zlib import crc32

import numpy as np
import torch
from matplotlib.figure import Figure

from nbcore.analysis import figures
from nbcore.analysis.lettering import NO_CLASS
from nbcore.cache import stage
from nbcore.data import Samples, image_cache, load, load_manifest
from nbcore.data.phantom.twins import describe_twin, write_twin
from nbcore.errors import UsageError
from nbcore.paths import RESULTS
from nbcore.protection import Guard, keeping, private_roots
from nbcore.recorder import Recorder
from nbcore.settings import RunSettings, load_settings, settings_class, tell_assignments
from nbcore.side_by_side import SideBySide, Step


def device() -> torch.device:
    """This machine's accelerator, or its CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def reopen(
    kind: type["StudyBase"],
    notebook: str,
    profile: str,
    settings: dict[str, Any],
    data_root: str | Path | None,
    output_root: str | Path,
) -> "StudyBase":
    """The same study in another process."""
    return kind(
        notebook,
        settings_class(notebook).model_validate(settings),
        profile=profile,
        seed=0,
        data_root=None if data_root is None else Path(data_root),
        output_root=Path(output_root),
    )


class StudyBase:
    """Settings and data sets of one run of a notebook."""

    def __init__(
        self,
        notebook: str,
        settings: RunSettings,
        *,
        profile: str,
        seed: int,
        data_root: Path | None,
        output_root: Path,
        overrides: dict[str, Any] | None = None,
    ):
        self.notebook, self.profile, self.settings = notebook, profile, settings
        self.command = " ".join(
            [f"python -m nbcore run {notebook} --profile {profile} --seed {seed}"]
            + ["--data-root DIR"] * (settings.source == "real")
            + tell_assignments(overrides or {})
        )
        self.seeds = list(range(seed, seed + settings.seeds))
        self.data_root = data_root
        self.output_root = output_root
        self._samples: dict[str, Samples] = {}
        if settings.source == "real" and data_root is None:
            raise UsageError("this profile needs real data: give the folder that holds it with --data-root DIR.")
        self.guard = Guard(settings.allow_patient_data)
        self.keeping = keeping(settings, data_root, output_root)
        torch.set_num_threads(settings.threads)

    @cached_property
    def cache_root(self) -> Path:
        """Where finished stages are kept; those of credentialed data stay beside the data and never reach results/."""
        return self.data_root if private_roots(self.settings, self.data_root) else self.output_root

    @classmethod
    def open(
        cls,
        notebook: str,
        *,
        profile: str,
        seed: int,
        data_root: str | None,
        output_root: str | None,
        overrides: dict[str, Any],
    ) -> Self:
        """The study that a notebook's parameters ask for. UsageError for an unknown profile, key or value."""
        return cls(
            notebook,
            load_settings(notebook, profile, overrides),
            profile=profile,
            seed=seed,
            data_root=None if data_root is None else Path(data_root),
            output_root=RESULTS if output_root is None else Path(output_root),
            overrides=overrides,
        )

    def run_all(self, method: str, calls: Sequence[tuple[tuple[Any, ...], dict[str, Any]]], title: str) -> list[Any]:
        """Results of a method of this study for several arguments (positional, named), `settings.jobs` at a time."""
        if self.settings.jobs == 1:
            return [getattr(self, method)(*arguments, **changes) for arguments, changes in calls]
        return self._pool.run([Step(method, arguments, changes) for arguments, changes in calls], title)

    @cached_property
    def _pool(self) -> SideBySide:
        again = partial(reopen, type(self), self.notebook, self.profile, self.settings.model_dump(mode="json"))
        return SideBySide(self.settings.jobs, partial(again, self.data_root, self.output_root))

    # --- data

    def samples(self, name: str) -> Samples:
        """The table of a data set: real, or its twin, which is written the first time."""
        if name not in self._samples:
            root = self._twin(name) if self.settings.source == "twin" else self.data_root / name
            self._samples[name] = load(name, root)
        return self._samples[name]

    def _twin(self, name: str) -> Path:
        manifest, size = load_manifest(name), self.settings.twin_size
        images = self.settings.twin_images.get(name, manifest.twin.images)
        seed = crc32(name.encode())  # its own, or twins of one hospital would show the same patients
        key = describe_twin(manifest, images, size, seed)

        def build(folder: Path) -> None:
            write_twin(manifest, folder / name, images=images, size=size, seed=seed)

        return stage("twins", key, build, self.cache_root).path / name

    def images(self, samples: Samples) -> np.ndarray:
        """Its radiographs as one memory-mapped array, uint8 (n, resize, resize), decoded once."""
        return image_cache(samples, self.settings.resize, self.cache_root / "cache" / "images")

    # --- what is to be told

    def label(self, name: str) -> str:
        """What the papers' tables call a data set."""
        return load_manifest(name).short_title

    def gallery(self, name: str, images: int = 12) -> Figure:
        """Some training images under their positive labels; a black one for private data."""
        samples = self.samples(name).split("train")
        samples = samples.subset(np.linspace(0, len(samples) - 1, min(images, len(samples))).astype(int))
        positive = [[c for c, y in zip(samples.classes, row) if y == 1] for row in samples.labels()]
        titles = [", ".join(names) or NO_CLASS for names in positive]
        pictures = self.guard.pictures(samples, self.images(samples))
        return figures.image_grid(list(pictures), self.guard.sentences(samples, titles))

    def recorder(self, title: str) -> Recorder:
        """A record of this run."""
        return Recorder(
            self.notebook,
            title,
            profile=self.profile,
            config=self.settings.model_dump(mode="json"),
            seeds=self.seeds,
            source="phantom" if self.settings.source == "twin" else "real",
            output_root=self.output_root,
            command=self.command,
            keeping=self.keeping,
        )
