"""The vision-language backbones of an adaptation study, published or stand-ins, and what they see and read, cached."""

import hashlib
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from nbcore.cache import stage
from nbcore.data import Samples, colour_cache, load_manifest
from nbcore.data.manifest import Manifest
from nbcore.errors import UsageError, UserError
from nbcore.files import digest
from nbcore.models.clip import VisionLanguage
from nbcore.models.vision_language import load_standin, vision_language
from nbcore.settings import AdaptationSettings, BackboneSettings
from nbcore.standin_clip import STANDINS, train_standin_clip
from nbcore.study_base import StudyBase, device
from nbcore.tasks.classification import accuracy_of, commonest_share
from nbcore.tasks.clip_features import unit_features
from nbcore.tasks.linear_probe import fit_probe
from nbcore.validation import nearest


class StudyBackbones(StudyBase):
    """Backbones and data sets of one run of an adaptation notebook."""

    settings: AdaptationSettings

    def backbone(self, title: str) -> VisionLanguage:
        """A frozen backbone: the published weights, or a stand-in of the same class trained on the phantom's atlas.

        Raises:
            UsageError: the settings have no backbone of that title.
            UserError: its weights are not at hand and `standin_fallback` is off.
        """
        if title not in self._backbones:
            if title not in (known := self.settings.backbones):
                raise UsageError(f"there is no backbone {title!r}{nearest(title, list(known))}")
            asked = known[title]
            self._backbones[title] = self._load(asked)
        return self._backbones[title][0]

    def backbone_key(self, title: str) -> str:
        """A hash of its weights, or of what they were made from."""
        self.backbone(title)
        return self._backbones[title][1]

    def is_standin(self, title: str) -> bool:
        """Whether a stand-in serves in the place of the published weights."""
        self.backbone(title)
        return self._backbones[title][2]

    def standins(self) -> list[str]:
        """The backbones in whose place a stand-in serves; trained side by side, a single one with all threads."""
        titles = list(self.settings.backbones)
        if len(titles) == 1:
            return [title for title in titles if self.is_standin(title)]
        found = self.run_all("is_standin", [((title,), {}) for title in titles], "backbones")
        return [title for title, standin in zip(titles, found) if standin]

    @cached_property
    def _backbones(self) -> dict[str, tuple[VisionLanguage, str, bool]]:
        """Title -> the model, a hash of its weights, whether it is a stand-in; those asked for in this process."""
        return {}

    def _load(self, asked: BackboneSettings) -> tuple[VisionLanguage, str, bool]:
        if asked.model in STANDINS:
            return self._standin(asked.model)
        try:
            loaded = vision_language(asked.model, asked.weights, self.settings.download, **self._options(asked))
        except UserError as error:
            if isinstance(error, UsageError) or not self.settings.standin_fallback:
                raise
            print(f"{error} Falling back on a stand-in trained on phantom pictures.")
            return self._standin(next(name for name, stands_for in STANDINS.items() if stands_for == asked.model))
        words = loaded.tokenizer.get_vocab() if hasattr(loaded, "tokenizer") else None  # CLIP's is the same for all
        key = digest([_content(loaded), loaded.configuration(), words])
        return loaded.to(device()), key, False

    def _options(self, asked: BackboneSettings) -> dict[str, Any]:
        """Further arguments of a published model."""
        return {"tokenizer": asked.tokenizer} if asked.model == "medclip_swin" else {}

    def _changes(self, standin: str) -> dict[str, Any]:
        """What is changed of a stand-in's configuration when it is loaded."""
        return {}

    def _standin(self, name: str) -> tuple[VisionLanguage, str, bool]:
        settings = self.settings
        threads = settings.threads * (settings.jobs if len(settings.backbones) == 1 else 1)
        sizes = {
            "image_size": settings.standin_size,
            "stem_epochs": settings.standin_stem_epochs,
            "epochs": settings.standin_epochs,
            "image_epochs": settings.standin_image_epochs,
            "threads": threads,
        }
        key = {"name": name, "pairs": settings.standin_pairs, **sizes}

        def build(folder: Path) -> None:
            train_standin_clip(name, settings.standin_pairs, folder, **sizes)
            torch.set_num_threads(settings.threads)

        folder = stage("backbones", key, build, self.cache_root).path
        model = load_standin(folder, **self._changes(name))
        return model.to(device()), digest([folder.parent.name, folder.name, model.mean, model.std]), True

    # --- pictures

    def samples(self, name: str) -> Samples:
        """The table of a data set, or of the pictures of one modality: "derm7pt/dermoscopy"."""
        data_set, _, view = name.partition("/")
        if name not in self._samples:
            self._samples[name] = super().samples(data_set).of_view(view) if view else super().samples(data_set)
        return self._samples[name]

    def images(self, samples: Samples) -> np.ndarray:
        """Its pictures in colour, as views are cropped from them: uint8 (n, resize, resize, 3), decoded once."""
        return self._pictures(samples, self.settings.resize)

    def _pictures(self, samples: Samples, size: int) -> np.ndarray:
        return colour_cache(samples, size, self.cache_root / "cache" / "images")

    def clean(self, title: str, name: str) -> np.ndarray:
        """The pictures of a data set as a backbone is shown them without augmentation, uint8 (n, S, S, 3)."""
        return self._pictures(self.samples(name), self.backbone(title).image_size)

    def targets(self, name: str, split: str | None = None) -> np.ndarray:
        """The class of each picture of a data set, or of one of its splits: int64 (n,)."""
        samples = self.samples(name)
        targets = samples.labels().argmax(axis=1)
        return targets if split is None else targets[self.rows(name, split)]

    def rows(self, name: str, split: str) -> np.ndarray:
        """Which pictures of a data set are in a split, bool (n,)."""
        return (self.samples(name).table["split"] == split).to_numpy()

    def features(self, title: str, name: str) -> np.ndarray:
        """What the frozen backbone makes of each picture without prompts: float32 (n, D), rows of length 1."""
        samples = self.samples(name)

        def build(folder: Path) -> None:
            np.save(folder / "features.npy", unit_features(self.backbone(title), self.clean(title, name)))

        key = {"backbone": self.backbone_key(title), "data": samples.fingerprint(), "threads": self.settings.threads}
        return np.load(stage("clip_features", key, build, self.cache_root).path / "features.npy", mmap_mode="r")

    def reference_accuracies(self, title: str, name: str) -> dict[str, float]:
        """What there is to gain on a test set: the share of its commonest class, and the accuracy of a linear probe
        of the frozen features, trained on all labels."""
        classes, truth = len(self.manifest(name).classes), self.targets(name)
        features, one_hot = self.features(title, name), np.eye(classes, dtype=np.float32)[truth]
        train, valid, test = (self.rows(name, split) for split in ("train", "valid", "test"))
        probe = fit_probe((features[train], one_hot[train]), (features[valid], one_hot[valid]), "multiclass")
        return {
            "Commonest class": commonest_share(truth[test], classes),
            "Linear probe, all labels": accuracy_of(truth[test], probe.scores(features[test]).argmax(axis=1)),
        }

    # --- texts

    def class_prompts(self, name: str) -> list[str]:
        """The prompt of each class for zero-shot classification."""
        fill = partial(self.settings.template.format, modality=self.modality(name))
        return [fill(phrase=phrase) for phrase in self.phrases(name)]

    def phrases(self, name: str) -> list[str]:
        """The classes in readable words."""
        manifest = self.manifest(name)
        return [manifest.phrases.get(label, label.replace("_", " ")) for label in manifest.classes]

    def modality(self, name: str) -> str:
        """What a sentence calls one of its pictures."""
        manifest, view = self.manifest(name), name.partition("/")[2]
        return manifest.views[view] if view else manifest.modality

    def label(self, name: str) -> str:
        return super().label(name.partition("/")[0])

    def manifest(self, name: str) -> Manifest:
        """The manifest of a data set, or of the one that a modality is of."""
        return load_manifest(name.partition("/")[0])

    def text_features(self, title: str, texts: list[str], unit: bool = True) -> np.ndarray:
        """What the frozen backbone makes of texts: float32 (n, D), rows of length 1 unless `unit` is off."""

        def build(folder: Path) -> None:
            np.save(folder / "features.npy", self.backbone(title).text_features(texts).cpu().numpy())

        key = {"backbone": self.backbone_key(title), "texts": digest(texts), "threads": self.settings.threads}
        features = np.load(stage("clip_texts", key, build, self.cache_root).path / "features.npy")
        return F.normalize(torch.from_numpy(features), dim=1).numpy() if unit else features


def _content(model: VisionLanguage) -> str:
    """A hash of all weights."""
    content = hashlib.blake2b(digest_size=16)
    for name, tensor in model.state_dict().items():
        content.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return content.hexdigest()
