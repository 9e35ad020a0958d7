"""What a pre-training study works on: its image-report pairs and the labels of its data sets."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure

from nbcore.analysis import figures
from nbcore.data import Samples, assert_unseen, join, load_manifest
from nbcore.data.masks import has_outline, masks
from nbcore.errors import UsageError
from nbcore.methods.pairs import PairConfig
from nbcore.settings import StudySettings
from nbcore.study_base import StudyBase
from nbcore.tasks.linear_probe import Loss


class StudyInputs(StudyBase):
    """Data sets of one run of a pre-training notebook."""

    settings: StudySettings

    # --- pairs

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

    @cached_property
    def _joined(self) -> dict[tuple[str, ...], Samples]:
        """Pairs of several languages, once they have been asked for."""
        return {}

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

    def outlined_gallery(self, name: str, images: int = 6) -> Figure:
        """Some training images with what is to be found in them outlined; black ones for private data."""
        samples = self.samples(name).split("train")
        rows = np.flatnonzero(has_outline(samples))
        samples = samples.subset(rows[np.linspace(0, len(rows) - 1, min(images, len(rows))).astype(int)])
        pictures, outlines = self.images(samples), masks(samples, self.settings.resize)
        shown = [self.guard.pictures(samples, own) for own in (pictures, outlines)]
        return figures.outlined(*shown, [self.label(name)] * len(pictures))

    def readable_reports(self, count: int, name: str | None = None) -> list[str]:
        """Some reports to read, of `pretrain_on` or another pair set; none of private data."""
        samples = self._pairs_of(name or self.settings.pretrain_on, "train")
        samples = samples.subset(np.linspace(0, len(samples) - 1, count).astype(int))
        return self.guard.sentences(samples, samples.table["report"])


def _evenly(samples: Samples, most: int | None) -> Samples:
    """At most so many rows, evenly spread."""
    if most is None or len(samples) <= most:
        return samples
    return samples.subset(np.linspace(0, len(samples) - 1, most).astype(int))
