"""The steps that pre-training notebooks share: pre-training, features, probes.

Every step is a stage of the cache, keyed by all it depends on, so a notebook that is run again, or resumed after a
crash, takes up what is finished.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nbcore import launch
from nbcore.analysis.geometry import Geometry, geometry
from nbcore.cache import stage
from nbcore.checkpoint import NO_INFLUENCE
from nbcore.config import TrainConfig
from nbcore.data import Samples, label_fraction
from nbcore.data.batches import Augmentation, Columns, prepare
from nbcore.files import atomic_write, digest
from nbcore.methods.mflag import Config, MFlag
from nbcore.methods.supervised import Supervised
from nbcore.models.vision import VisionEncoder, count_parameters, vision_encoder
from nbcore.models.weights import load_exactly, read_state
from nbcore.settings import settings_class
from nbcore.study_inputs import StudyInputs, device
from nbcore.tasks.features import extract
from nbcore.tasks.linear_probe import bootstrap_auc, fit_probe, macro_auc
from nbcore.train import History, fit


@dataclass(frozen=True)
class Encoder:
    """An image encoder to be judged: which weights, and what they depend on.

    Attributes:
        key: a hash of everything that determines the weights.
        seed: of the run it belongs to; its probes use the same one.
        weights: file with the state of its method, ImageNet source, or None for a random initialisation.
        history: of its pre-training, if any.
        trainable: number of parameters that received a gradient.
    """

    key: str
    seed: int
    weights: Path | str | None = None
    history: History | None = None
    trainable: int = 0


class Study(StudyInputs):
    """One run of a pre-training notebook: its steps as cached stages."""

    # --- pre-training

    def config(self, **changes: Any) -> Config:
        """The method's configuration in this study, with changes."""
        values = {name: getattr(self.settings, name) for name in Config.model_fields}
        return Config(**{**values, **changes})

    def pretrain(self, seed: int, **changes: Any) -> Encoder:
        """Pre-train, or take up, or load the finished encoder of this seed and configuration."""
        config = self.config(**changes)
        key = {
            "config": config.model_dump(mode="json", exclude=NO_INFLUENCE),
            "data": self.pairs.fingerprint(),
            "language_model": self._language_key,
            "seed": seed,
        }
        self.report_embeddings(self.pairs.table["report"].tolist())  # a stage of its own, shared by all runs
        self.images(self.pairs)

        def build(folder: Path) -> None:
            arguments = {
                "notebook": self.notebook,
                "profile": self.profile,
                "settings": self.settings.model_dump(mode="json"),
                "data_root": None if self.data_root is None else str(self.data_root),
                "output_root": str(self.cache_root),
                "seed": seed,
                "changes": changes,
                "directory": str(folder),
            }
            method, history = launch.train("nbcore.study:pretraining_job", arguments)
            outcome = {"history": vars(history), "trainable": count_parameters(method)}
            atomic_write(folder / "outcome.json", json.dumps(outcome))

        path = stage("pretraining", key, build, self.cache_root).path
        outcome = json.loads((path / "outcome.json").read_text())
        weights = path / "weights.safetensors"
        return Encoder(digest(key), seed, weights, History(**outcome["history"]), outcome["trainable"])

    def job(self, seed: int, changes: dict[str, Any], directory: Path) -> launch.Job:
        """What `pretrain` trains: method with its seeded initial weights, data, transform."""
        config = self.config(**changes)
        columns: dict[str, np.ndarray | Tensor] = {"image": self.images(self.pairs)}
        reports = self.pairs.table["report"].tolist()
        torch.manual_seed(seed)
        text = None if config.caches_text else self.text_encoder(config.unfreeze_layers)
        if text is None:
            columns["text"] = self.report_embeddings(reports)
            width = columns["text"].shape[1]
        else:
            columns["ids"], columns["mask"] = text.tokenize(reports, config.max_length)
            width = text.width
        method = MFlag(config, self._build_encoder(config.vision_weights), width, text)
        transform = partial(_augment, size=config.image_size, augmentation=config.augmentation)
        return launch.Job(method, Columns(columns), config, seed, directory, transform)

    # --- other encoders

    def random(self, seed: int) -> Encoder:
        """A random initialisation: Table 2's "Random"."""
        settings = self.settings
        return Encoder(digest(["random", settings.vision, settings.image_size, seed]), seed)

    def imagenet(self, seed: int) -> Encoder:
        """The ImageNet weights that pre-training starts from: Table 2's "ImageNet"."""
        source = self.settings.vision_weights
        return Encoder(digest(["imagenet", self.settings.vision, source]), seed, source)

    def _build_encoder(self, weights: str | None) -> VisionEncoder:
        settings = self.settings
        return vision_encoder(
            settings.vision, image_size=settings.image_size, weights=weights, download=settings.download
        )

    def load_encoder(self, encoder: Encoder) -> VisionEncoder:
        """The network itself, on this machine's accelerator."""
        torch.manual_seed(encoder.seed)
        if not isinstance(encoder.weights, Path):
            return self._build_encoder(encoder.weights).to(device())
        vision = self._build_encoder(None)
        state = read_state(encoder.weights)
        own = {key.removeprefix("vision."): value for key, value in state.items() if key.startswith("vision.")}
        load_exactly(vision, own, source=str(encoder.weights))
        return vision.to(device())

    def supervised(self, name: str, seed: int) -> float:
        """Test macro AUC of an encoder of the same size trained on all labels, end to end: the upper reference."""
        samples, settings = self.samples(name), self.settings
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
            train, test = samples.split("train"), samples.split("test")
            torch.manual_seed(seed)
            method = Supervised(self._build_encoder(None), len(samples.classes))
            data = Columns({"image": self.images(train), "labels": train.labels()})
            transform = partial(_augment, size=settings.image_size, augmentation="crop")
            fit(method, data, config, seed=seed, directory=folder, transform=transform)
            features = extract(method.vision, self.images(test), settings.image_size)
            head = method.head.cpu()
            scores = features @ head.weight.detach().numpy().T + head.bias.detach().numpy()
            atomic_write(folder / "auc.json", json.dumps(macro_auc(test.labels(), scores)))

        key = {
            "config": config.model_dump(mode="json", exclude=NO_INFLUENCE),
            "vision": [settings.vision, settings.image_size, settings.resize],
            "data": samples.fingerprint(),
            "seed": seed,
        }
        return json.loads((stage("supervised", key, build, self.cache_root).path / "auc.json").read_text())

    # --- judging an encoder

    def features(self, encoder: Encoder, samples: Samples) -> np.ndarray:
        """Its pooled features of every image, in the order of the table, computed once: float32 (n, N)."""
        settings = self.settings

        def build(folder: Path) -> None:
            features = extract(self.load_encoder(encoder), self.images(samples), settings.image_size)
            np.save(folder / "features.npy", features)

        key = {
            "encoder": encoder.key,
            "data": samples.fingerprint(),
            "pixels": [settings.resize, settings.image_size],
            "threads": settings.threads,
        }
        return np.load(stage("features", key, build, self.cache_root).path / "features.npy", mmap_mode="r")

    def probe(self, encoder: Encoder, name: str, fractions: Sequence[float]) -> list[dict[str, Any]]:
        """Linear probes on a data set, one a label fraction: dicts of fraction, images, auc, valid_auc, low, high.

        Uncertain and unmentioned labels count as negative (CheXclusion). The penalty is chosen on validation data; the
        test images are scored once, with the chosen probe.
        """
        samples, settings = self.samples(name), self.settings

        def build(folder: Path) -> None:
            rows = [self._probe(encoder, samples, fraction) for fraction in fractions]
            atomic_write(folder / "probe.json", json.dumps(rows))

        key = {
            "encoder": encoder.key,
            "data": samples.fingerprint(),
            "pixels": [settings.resize, settings.image_size],
            "fractions": list(fractions),
            "seed": encoder.seed,
            "bootstrap": settings.bootstrap,
            "threads": settings.threads,
        }
        return json.loads((stage("probes", key, build, self.cache_root).path / "probe.json").read_text())

    def probe_all(self, encoders: dict[str, list[Encoder]], fractions: Sequence[float]) -> pd.DataFrame:
        """Probes of encoders on every data set: columns method, seed, dataset, fraction, images, auc, ..."""
        rows = [
            {"method": method, "seed": encoder.seed, "dataset": name, **row}
            for method, runs in encoders.items()
            for encoder in runs
            for name in self.settings.probe_on
            for row in self.probe(encoder, name, fractions)
        ]
        return pd.DataFrame(rows)

    def geometry(self, encoder: Encoder, name: str) -> Geometry:
        """The shape of its features of a data set's test images."""
        samples = self.samples(name)
        return geometry(self.features(encoder, samples)[samples.table["split"] == "test"])

    def _probe(self, encoder: Encoder, samples: Samples, fraction: float) -> dict[str, Any]:
        split, features, labels = samples.table["split"], self.features(encoder, samples), samples.labels()
        chosen = samples.table["image"].isin(label_fraction(samples, fraction, encoder.seed).table["image"])
        train, valid, test = ((features[rows], labels[rows]) for rows in (chosen, split == "valid", split == "test"))
        probe = fit_probe(train, valid)
        scores = probe.scores(test[0])
        row = {
            "fraction": fraction,
            "images": len(train[1]),
            "auc": macro_auc(test[1], scores),
            "valid_auc": probe.valid_auc,
        }
        if self.settings.bootstrap:
            patients = samples.table["patient"][split == "test"].to_numpy()
            interval = bootstrap_auc(test[1], scores, patients, resamples=self.settings.bootstrap)
            row["low"], row["high"] = interval
        return row


def pretraining_job(
    notebook: str,
    profile: str,
    settings: dict[str, Any],
    data_root: str | None,
    output_root: str,
    seed: int,
    changes: dict[str, Any],
    directory: str,
) -> launch.Job:
    """Builder for `launch`: the same study again, in whichever process trains."""
    study = Study(
        notebook,
        settings_class(notebook).model_validate(settings),
        profile=profile,
        seed=seed,
        data_root=None if data_root is None else Path(data_root),
        output_root=Path(output_root),
    )
    return study.job(seed, changes, Path(directory))


def _augment(
    batch: dict[str, Tensor], generator: torch.Generator, *, size: int, augmentation: Augmentation
) -> dict[str, Tensor]:
    return {**batch, "image": prepare(batch["image"], size, augmentation, generator)}
