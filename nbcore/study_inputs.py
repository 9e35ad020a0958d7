"""What a study works on: its settings, and its data sets, real or twins, as cached stages."""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, Self
from zlib import crc32

import numpy as np
import torch
from matplotlib.figure import Figure

from nbcore.analysis import figures
from nbcore.cache import stage
from nbcore.data import Samples, assert_unseen, image_cache, join, load, load_manifest
from nbcore.data.masks import has_outline, masks
from nbcore.data.phantom.twins import describe_twin, write_twin
from nbcore.errors import UsageError
from nbcore.methods.pairs import PairConfig
from nbcore.paths import RESULTS
from nbcore.recorder import Recorder
from nbcore.settings import StudySettings, load_settings, settings_class
from nbcore.side_by_side import SideBySide, Step
from nbcore.tasks.linear_probe import Loss


def device() -> torch.device:
    """This machine's accelerator, or its CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def reopen(
    kind: type["StudyInputs"],
    notebook: str,
    profile: str,
    settings: dict[str, Any],
    data_root: str | Path | None,
    output_root: str | Path,
) -> "StudyInputs":
    """The same study in another process."""
    return kind(
        notebook,
        settings_class(notebook).model_validate(settings),
        profile=profile,
        seed=0,
        data_root=None if data_root is None else Path(data_root),
        output_root=Path(output_root),
    )


class StudyInputs:
    """Settings and data sets of one run of a pre-training notebook."""

    def __init__(
        self,
        notebook: str,
        settings: StudySettings,
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
            + [f"-p {key}={value}" for key, value in (overrides or {}).items()]
        )
        self.seeds = list(range(seed, seed + settings.seeds))
        self.data_root = data_root
        self.output_root = output_root
        self._samples: dict[str, Samples] = {}
        self._joined: dict[tuple[str, ...], Samples] = {}  # pairs of several languages
        if settings.source == "real" and data_root is None:
            raise UsageError("this profile needs real data: give the folder that holds it with --data-root DIR.")
        torch.set_num_threads(settings.threads)

    @cached_property
    def cache_root(self) -> Path:
        """Where finished stages are kept; those of credentialed data stay beside the data and never reach results/."""
        private = any(self.is_private(name) for name in self.settings.data_sets)
        return self.data_root if private else self.output_root

    def is_private(self, name: str) -> bool:
        """Whether nothing of a data set may be shown."""
        return self.settings.source == "real" and load_manifest(name).is_private

    def hides(self, *names: str) -> bool:
        """Whether any of these data sets is private and the user has not asked to see it."""
        return any(map(self.is_private, names)) and not self.settings.allow_patient_data

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

    @cached_property
    def pairs(self) -> Samples:
        """The image-report pairs of `pretrain_on` to learn from, reports of at least three words."""
        return self._pairs_of(self.settings.pretrain_on, "train")

    def pairs_in(self, languages: Sequence[str], part: Literal["train", "test"] = "train") -> Samples:
        """The pairs to learn from, or those of the test splits, of all sets with reports in these languages."""
        return join(self._pair_sets(languages, part))

    @property
    def pair_languages(self) -> dict[str, str]:
        """Data set -> language of its reports, for those that give pairs."""
        return {name: load_manifest(name).language for name in self.settings.pair_sets}

    @property
    def pair_counts(self) -> dict[str, int]:
        """Data set -> number of its pairs to learn from."""
        return {name: len(self._pairs_of(name, "train")) for name in self.settings.pair_sets}

    def _pair_sets(self, languages: Sequence[str], part: Literal["train", "test"]) -> list[Samples]:
        sets = self.pair_languages
        found = [self._pairs_of(name, part) for name, language in sets.items() if language in languages]
        if not found:
            raise UsageError(f"none of {', '.join(sets)} has reports in {' or '.join(languages)}: see pretrain_also.")
        return found

    def _pairs_of(self, name: str, part: Literal["train", "test"]) -> Samples:
        if self.settings.pretrain_split == "all" and part == "test":
            raise UsageError("this needs pairs that were not learnt from: set pretrain_split to 'train'.")
        samples = self.samples(name)
        return (samples if self.settings.pretrain_split == "all" else samples.split(part)).pairs(min_words=3)

    def learnt_pairs(self, config: PairConfig) -> Samples:
        """What a method is pre-trained on: the pairs of its languages, at most `pairs_each` of each set; those of
        `pretrain_on` for a method of one language."""
        if not config.reads:
            return self.pairs
        read = tuple(config.reads)
        if read not in self._joined:
            parts = [_evenly(samples, self.settings.pairs_each) for samples in self._pair_sets(read, "train")]
            self._joined[read] = join(parts)
        return self._joined[read]

    def assert_unseen(self) -> None:
        """Raise UserError, naming it, if a test picture or test patient is among the pairs to learn from."""
        learnt = [self._pairs_of(name, "train") for name in self.settings.pair_sets]
        for name in self.settings.test_sets:
            tests = self.samples(name).split("test")  # its pictures are hashed once for all pairs
            for pairs in learnt:
                assert_unseen(pairs, tests)

    # --- what is to be told

    def findings(self, name: str) -> list[str]:
        """The classes that this paper looks at: those of the manifest's policy for its uncertain labels, or all."""
        manifest = load_manifest(name)
        policy = manifest.uncertain.get(self.notebook)
        return list(policy if isinstance(policy, Mapping) else manifest.classes)

    def labels(self, name: str) -> tuple[np.ndarray, Loss]:
        """What a probe of this paper learns: float32 (n, C) of `findings`, and whether classes exclude each other.

        Without a policy in the manifest under the notebook's name uncertain labels are negative (CheXclusion).
        """
        samples, manifest = self.samples(name), load_manifest(name)
        columns = [samples.classes.index(finding) for finding in self.findings(name)]
        labels = samples.labels(manifest.uncertain.get(self.notebook, "zero"))[:, columns]
        exclusive = manifest.exclusive and (labels.sum(axis=1) == 1).all()
        return labels, "multiclass" if exclusive else "binary"

    def label_key(self, name: str) -> list[Any]:
        """What `labels` depends on beside the table."""
        manifest = load_manifest(name)
        return [manifest.classes, manifest.uncertain.get(self.notebook), manifest.exclusive]

    def label(self, name: str) -> str:
        """What the papers' tables call a data set."""
        return load_manifest(name).short_title

    def gallery(self, name: str, images: int = 12) -> Figure:
        """Some training images under their positive labels; a blank page for credentialed data."""
        samples = self.samples(name).split("train")
        samples = samples.subset(np.linspace(0, len(samples) - 1, min(images, len(samples))).astype(int))
        if self.hides(name):
            return figures.image_grid([], [])
        positive = [[c for c, y in zip(samples.classes, row) if y == 1] for row in samples.labels()]
        titles = [", ".join(names[:2]) + (" ..." if len(names) > 2 else "") for names in positive]
        return figures.image_grid(list(self.images(samples)), titles)

    def outlined_gallery(self, name: str, images: int = 6) -> Figure:
        """Some training images with what is to be found in them outlined; a blank page for credentialed data."""
        samples = self.samples(name).split("train")
        rows = np.flatnonzero(has_outline(samples))
        samples = samples.subset(rows[np.linspace(0, len(rows) - 1, min(images, len(rows))).astype(int)])
        if self.hides(name):
            return figures.image_grid([], [])
        pictures, outlines = self.images(samples), masks(samples, self.settings.resize)
        return figures.outlined(pictures, outlines, [self.label(name)] * len(pictures))

    def readable_reports(self, count: int, name: str | None = None) -> list[str]:
        """Some reports to read, of `pretrain_on` or another pair set; none of credentialed data."""
        name = name or self.settings.pretrain_on
        if self.hides(name):
            return ["Reports of credentialed data are not shown."]
        reports = self._pairs_of(name, "train").table["report"]
        return reports.iloc[np.linspace(0, len(reports) - 1, count).astype(int)].tolist()

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
        )


def _evenly(samples: Samples, most: int | None) -> Samples:
    """At most so many rows, evenly spread."""
    if most is None or len(samples) <= most:
        return samples
    return samples.subset(np.linspace(0, len(samples) - 1, most).astype(int))
