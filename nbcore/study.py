"""The steps that pre-training notebooks share: encoders, their features, probes, localisation, retrieval.

Every step is a stage of the cache, keyed by all it depends on, so a notebook that is run again, or resumed after a
crash, takes up what is finished.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from nbcore import launch
from nbcore.analysis import figures
from nbcore.analysis.geometry import Geometry, geometry
from nbcore.cache import stage
from nbcore.checkpoint import NO_INFLUENCE
from nbcore.config import TrainConfig
from nbcore.data import Samples, label_fraction
from nbcore.data.batches import Augmentation, Columns, prepare
from nbcore.files import atomic_write
from nbcore.methods.supervised import Supervised
from nbcore.study_base import reopen
from nbcore.study_community import StudyCommunity
from nbcore.study_encoders import Encoder
from nbcore.study_localization import StudyLocalization
from nbcore.study_zero_shot import StudyZeroShot
from nbcore.tasks.features import extract
from nbcore.tasks.linear_probe import Loss, accuracy, bootstrap_accuracy, bootstrap_auc, fit_probe, macro_auc
from nbcore.train import fit

SCORES = {"binary": macro_auc, "multiclass": accuracy}
INTERVALS = {"binary": bootstrap_auc, "multiclass": bootstrap_accuracy}


class Study(StudyLocalization, StudyZeroShot, StudyCommunity):
    """One run of a pre-training notebook: its steps as cached stages."""

    def supervised(self, name: str, seed: int) -> float:
        """Test score of an encoder of the same size trained on all labels, end to end: the upper reference."""
        samples, settings = self.samples(name), self.settings
        labels, loss = self.labels(name)
        config = TrainConfig(
            epochs=settings.supervised_epochs,
            batch_size=32,
            learning_rate=2e-3,
            weight_decay=0.05,
            schedule="warmup_cosine",
            warmup_fraction=0.1,
            threads=settings.threads,
        )

        def build(folder: Path) -> None:
            train, test = ((samples.table["split"] == split).to_numpy() for split in ("train", "test"))
            torch.manual_seed(seed)
            method = Supervised(self.load_encoder(self.random(seed)), labels.shape[1])
            data = Columns({"image": self.images(samples)[train], "labels": labels[train]})
            transform = partial(_augment, size=settings.image_size, augmentation="crop")
            fit(method, data, config, seed=seed, directory=folder, transform=transform)
            features = extract(method.vision, self.images(samples)[test], settings.image_size)
            head = method.head.cpu()
            scores = features @ head.weight.detach().numpy().T + head.bias.detach().numpy()
            atomic_write(folder / "score.json", json.dumps(SCORES[loss](labels[test], scores)))

        key = {
            "config": config.model_dump(mode="json", exclude=NO_INFLUENCE),
            "vision": [settings.vision, settings.image_size, settings.resize],
            "data": [samples.fingerprint(), *self.label_key(name)],
            "seed": seed,
        }
        return json.loads((stage("supervised", key, build, self.cache_root).path / "score.json").read_text())

    # --- judging an encoder

    def score_name(self, name: str) -> str:
        """What the score of its probes is, as the papers' tables call it."""
        return {"binary": "AUC (%)", "multiclass": "ACC (%)"}[self.labels(name)[1]]

    def probe(self, encoder: Encoder, name: str, fractions: Sequence[float]) -> list[dict[str, Any]]:
        """Linear probes on a data set, one a label fraction: dicts of fraction, images, score, valid_score, low, high.

        The score is the macro AUC, or the accuracy where classes exclude each other. The penalty is chosen on
        validation data; the test images are scored once, with the chosen probe.
        """
        samples, settings = self.samples(name), self.settings
        labels, loss = self.labels(name)

        def build(folder: Path) -> None:
            rows = [self._probe(encoder, samples, labels, loss, fraction) for fraction in fractions]
            atomic_write(folder / "probe.json", json.dumps(rows))

        key = {
            "encoder": encoder.key,
            "data": [samples.fingerprint(), *self.label_key(name)],
            "pixels": [settings.resize, settings.image_size],
            "fractions": list(fractions),
            "seed": encoder.seed,
            "bootstrap": settings.bootstrap,
            "threads": settings.threads,
        }
        return json.loads((stage("probes", key, build, self.cache_root).path / "probe.json").read_text())

    def probe_all(self, encoders: dict[str, list[Encoder]], fractions: Sequence[float]) -> pd.DataFrame:
        """Probes of encoders on every data set: columns method, seed, dataset, fraction, images, score, ..."""
        todo = [
            (method, encoder, name)
            for method, runs in encoders.items()
            for encoder in runs
            for name in self.settings.probe_on
        ]
        found = self.run_all("probe", [((encoder, name, fractions), {}) for _, encoder, name in todo], "probes")
        table = [
            {"method": method, "seed": encoder.seed, "dataset": name, **row}
            for (method, encoder, name), rows in zip(todo, found)
            for row in rows
        ]
        return pd.DataFrame(table, columns=None if table else ["method", "seed", "dataset", "fraction", "score"])

    def geometry(self, encoder: Encoder, name: str) -> Geometry:
        """The shape of its features of a data set's test images."""
        if (encoder.key, name) not in self._shapes:
            samples = self.samples(name)
            test = self.features(encoder, samples)[samples.table["split"] == "test"]
            self._shapes[encoder.key, name] = geometry(test)
        return self._shapes[encoder.key, name]

    @cached_property
    def _shapes(self) -> dict[tuple[str, str], Geometry]:
        """Those that have been asked for: a large cloud takes seconds."""
        return {}

    def findings_of(self, data_set: str) -> list[str]:
        """Its findings, to choose from."""
        return self.findings(data_set)

    def cloud_view(
        self,
        encoders: Mapping[str, Sequence[Encoder]],
        data_set: str,
        method: str,
        seed: int,
        finding: str,
        turned: int,
    ) -> Figure:
        """The test images of a data set in the first three principal components of an encoder's features.

        Args:
            encoders: of all seeds by title.
            data_set, method, seed: whose features of what.
            finding: of `findings_of`; images that have it stand out, but for private data.
            turned: degrees about the third component.
        """
        cloud = self.geometry(encoders[method][self.seeds.index(seed)], data_set)
        samples = self.samples(data_set)
        test, column = (samples.table["split"] == "test").to_numpy(), self.findings(data_set).index(finding)
        positive = self.labels(data_set)[0][test, column] == 1
        groups = {finding: positive, f"no {finding}": ~positive}
        if self.guard.hides(samples):
            groups = {"test images": np.ones_like(positive)}
        return figures.turned_cloud(cloud, groups, f"{method}, seed {seed}", turned)

    def _probe(
        self, encoder: Encoder, samples: Samples, labels: np.ndarray, loss: Loss, fraction: float
    ) -> dict[str, Any]:
        split, features = samples.table["split"], self.features(encoder, samples)
        chosen = samples.table["image"].isin(label_fraction(samples, fraction, encoder.seed).table["image"])
        train, valid, test = ((features[rows], labels[rows]) for rows in (chosen, split == "valid", split == "test"))
        probe = fit_probe(train, valid, loss)
        scores = probe.scores(test[0])
        row = {
            "fraction": fraction,
            "images": len(train[1]),
            "score": SCORES[loss](test[1], scores),
            "valid_score": probe.valid_score,
        }
        if self.settings.bootstrap:
            patients = samples.table["patient"][split == "test"].to_numpy()
            interval = INTERVALS[loss](test[1], scores, patients, resamples=self.settings.bootstrap)
            row["low"], row["high"] = interval
        return row


def pretraining_job(
    notebook: str,
    profile: str,
    settings: dict[str, Any],
    data_root: str | None,
    output_root: str,
    seed: int,
    method: str,
    changes: dict[str, Any],
    directory: str,
) -> launch.Job:
    """Builder for `launch`: the same study again, in whichever process trains."""
    study = reopen(Study, notebook, profile, settings, data_root, output_root)
    return study.job(seed, method, changes, Path(directory))


def _augment(
    batch: dict[str, Tensor], generator: torch.Generator, *, size: int, augmentation: Augmentation
) -> dict[str, Tensor]:
    return {**batch, "image": prepare(batch["image"], size, augmentation, generator)}
