"""The outcomes of one run of an adaptation notebook: adapted models and their rivals, as cached stages."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor

from nbcore.cache import stage
from nbcore.checkpoint import NO_INFLUENCE, WEIGHTS
from nbcore.data import load_manifest, views
from nbcore.data.batches import Columns
from nbcore.data.descriptions import load_descriptions, template_texts, wrap
from nbcore.files import atomic_path, atomic_write, digest
from nbcore.methods.lafter import Config as LaFTerConfig
from nbcore.methods.lafter import LaFTer
from nbcore.methods.meduna import Config as MedUnaConfig
from nbcore.methods.meduna import MedUnA
from nbcore.methods.prompted import AdaptationConfig
from nbcore.methods.text_classifier import fit_text_classifier, text_accuracy
from nbcore.models.clip import CLIP_MEAN, CLIP_STD, VisionLanguage
from nbcore.notebook_settings import MedUnaSettings
from nbcore.settings import BackboneSettings
from nbcore.study_backbones import StudyBackbones
from nbcore.study_base import device
from nbcore.tasks import tpt
from nbcore.tasks.clip_features import in_batches
from nbcore.tasks.zero_shot import class_scores, class_weights
from nbcore.train import History, fit
from nbcore.validation import checked

METHODS = {"meduna": MedUnA, "lafter": LaFTer}
STRONG = {"official": views.StrongView, "paper": views.PaperStrongView}
# What LaFTer takes from the study; all else is its own, or the study's `lafter`.
LIKE_FOR_LIKE = ("threads", "precision", "prompt_tokens", "prompt_layout", "clip_pixels")
Key = tuple[str, str, str, int]  # backbone, label of the method, data set, seed


@dataclass(frozen=True)
class Outcome:
    """What a method says of pictures it was not given the classes of, after each of E epochs.

    Attributes:
        valid, test: predicted classes, int64 (E, n); E is 1, and `valid` empty, for a method that learns nothing.
        valid_targets, test_targets: the classes they have, (n,).
        features: of the test pictures at the end, float32 (n, D), not normalised.
        history: of the losses; None for a method that learns nothing.
        scores: of the classes of the test pictures at the end, float (n, C), whose softmax is what the method holds for
            probable; None for TPT, which keeps the classes alone.
    """

    valid: np.ndarray
    test: np.ndarray
    valid_targets: np.ndarray
    test_targets: np.ndarray
    features: np.ndarray | None = None
    history: History | None = None
    scores: np.ndarray | None = None

    @property
    def curve(self) -> np.ndarray:
        """Test accuracy after each epoch, (E,)."""
        return (self.test == self.test_targets).mean(axis=1)

    @property
    def chosen(self) -> int:
        """The first epoch of the highest validation accuracy."""
        return int((self.valid == self.valid_targets).mean(axis=1).argmax()) if len(self.test) > 1 else 0

    @property
    def predictions(self) -> np.ndarray:
        """Predicted classes of the test pictures after the last epoch, (n,)."""
        return self.test[-1]


class StudyAdaptation(StudyBackbones):
    """Makes, takes up or loads the outcomes of MedUnA and its rivals."""

    settings: MedUnaSettings

    def outcome(self, method: str, title: str, name: str, seed: int, **changes: Any) -> Outcome:
        """What a method makes of a data set with a backbone: "zero-shot", "stage-1", "tpt", "lafter" or "meduna"."""
        if method == "zero-shot":
            return self._zero_shot(title, name)
        if method == "stage-1":
            return self._stage_1(title, name, seed)
        return self._tpt(title, name, seed) if method == "tpt" else self._adapted(method, title, name, seed, **changes)

    def outcomes(
        self, methods: Mapping[str, tuple[str, Mapping[str, Any]]], titles: Sequence[str] | None = None
    ) -> dict[Key, Outcome]:
        """Outcomes on all data sets and seeds of methods by label: each is `outcome(method, ..., **changes)` of a
        (method, changes)."""
        todo = {
            (title, label, name, seed): ((method, title, name, seed), dict(changes))
            for title in titles or self.settings.backbones
            for label, (method, changes) in methods.items()
            for name in self.settings.adapt_on
            for seed in self.seeds
        }
        return dict(zip(todo, self.run_all("outcome", list(todo.values()), "adapting")))

    # --- without learning from the data set's pictures

    def _zero_shot(self, title: str, name: str) -> Outcome:
        """By the nearest class prompt."""
        prompts = self.text_features(title, self.class_prompts(name))
        images = self.features(title, name)[self.rows(name, "test")]
        scale = float(self.backbone(title).logit_scale)
        scores = class_scores(images, class_weights(prompts[None]), scale)
        return self._unlearnt(name, scores.argmax(axis=1), scores)

    def _stage_1(self, title: str, name: str, seed: int) -> Outcome:
        """By the text classifier that MedUnA starts from, on plain features: what Stage 2 has to improve on."""
        config = self.config()
        texts = self.class_texts(name, self.settings.descriptions, config)
        weight = self._text_classifier(title, name, texts, config, seed).numpy()  # (C, D)
        images = self.features(title, name)[self.rows(name, "test")]
        scores = images @ weight.T
        return self._unlearnt(name, scores.argmax(axis=1), scores)

    def _tpt(self, title: str, name: str, seed: int) -> Outcome:
        """By prompts that are tuned on views of each test picture."""
        config = self.tpt_config
        phrases = self.phrases(name)

        def build(folder: Path) -> None:
            model, pictures = self.backbone(title), self.images(self.samples(name))[self.rows(name, "test")]
            seen = tpt.view_features(model, pictures, config, seed)  # (n, V, D)
            context = model.context(config.context)  # (M, d)
            prompts = model.prompts(phrases, len(context))
            logits = tpt.predict(seen, prompts, context, model.logit_scale.detach(), config)  # (n, C)
            atomic_write(folder / "predicted.json", json.dumps(logits.argmax(dim=1).tolist()))

        key = {**self._key(title, name, seed), "phrases": phrases, "config": config.model_dump()}
        path = stage("tpt", key, build, self.cache_root).path / "predicted.json"
        return self._unlearnt(name, np.array(json.loads(path.read_text())))

    def _unlearnt(self, name: str, predicted: np.ndarray, scores: np.ndarray | None = None) -> Outcome:
        nothing = np.zeros((1, 0), np.int64)
        return Outcome(nothing, predicted[None], nothing[0], self.targets(name, "test"), scores=scores)

    @property
    def tpt_config(self) -> tpt.TptConfig:
        """How prompts are tuned at test time."""
        return checked(tpt.TptConfig, self.settings.tpt, "tpt")

    def _key(self, title: str, name: str, seed: int) -> dict[str, Any]:
        """What every outcome depends on."""
        return {
            "backbone": self.backbone_key(title),
            "data": self.samples(name).fingerprint(),
            "resize": self.settings.resize,
            "seed": seed,
            "threads": self.settings.threads,
        }

    # --- texts

    def descriptions(self, name: str, source: str) -> tuple[list[str], np.ndarray]:
        """A set's descriptions of all classes of a data set, and the class of each, (m,)."""
        return _flat(list(load_descriptions(source, load_manifest(name)).values()))

    def class_texts(self, name: str, source: str, config: AdaptationConfig) -> tuple[list[str], np.ndarray]:
        """What Stage 1 learns from: descriptions and templates of each class; the class of each text, (m,)."""
        manifest, found = load_manifest(name), load_descriptions(source, load_manifest(name))
        texts = []
        for label, phrase in zip(manifest.classes, self.phrases(name)):
            own = found[label]
            if config.text_templates:
                own = [*own, *template_texts(phrase, manifest.modality)]
            texts.append([wrap(text, manifest.modality) for text in own] if config.text_wrap else own)
        return _flat(texts)

    def _text_classifier(
        self, title: str, name: str, texts: tuple[list[str], np.ndarray], config: AdaptationConfig, seed: int
    ) -> Tensor:
        """The weights that Stage 1 leaves, (C, D), on the CPU."""
        features, owners = torch.from_numpy(self.text_features(title, texts[0])), torch.from_numpy(texts[1])
        return fit_text_classifier(features, owners, len(load_manifest(name).classes), config.text_stage, seed)

    def text_accuracy(self, title: str, name: str, source: str, seed: int) -> float:
        """Accuracy of a text classifier on held-out descriptions of a set (Fig. 2)."""
        texts, owners = self.descriptions(name, source)
        features = torch.from_numpy(self.text_features(title, texts))
        classes = len(load_manifest(name).classes)
        return float(text_accuracy(features, torch.from_numpy(owners), classes, self.config().text_stage, [seed])[0])

    # --- adaptation

    def config(self, method: str = "meduna", **changes: Any) -> MedUnaConfig | LaFTerConfig:
        """A method's configuration in this study, with changes."""
        settings = self.settings
        if method == "meduna":
            values = {name: getattr(settings, name) for name in MedUnaConfig.model_fields}
            return checked(MedUnaConfig, {**values, **changes}, method)
        alike = {name: getattr(settings, name) for name in LIKE_FOR_LIKE}
        return checked(LaFTerConfig, {**alike, **settings.lafter, **changes}, method)

    def _options(self, asked: BackboneSettings) -> dict[str, Any]:
        if asked.model != "medclip_swin":
            return super()._options(asked)
        own = {"prompt_layout": self.settings.prompt_layout, "clip_pixels": self.settings.clip_pixels}
        return {**super()._options(asked), **own}

    def _changes(self, standin: str) -> dict[str, Any]:
        if standin != "small_medclip":
            return super()._changes(standin)
        pixels = {"mean": CLIP_MEAN, "std": CLIP_STD} if self.settings.clip_pixels else {}
        return {**pixels, "prompt_layout": self.settings.prompt_layout}

    def _adapted(self, method: str, title: str, name: str, seed: int, **changes: Any) -> Outcome:
        """By prompts and an adapter trained on the training pictures without their classes."""
        source = changes.pop("descriptions", self.settings.descriptions)
        config = self.config(method, **changes)
        texts = self.class_texts(name, source, config)

        def build(folder: Path) -> None:
            self._adapt(method, title, name, seed, texts, config, folder)

        key = {
            **self._key(title, name, seed),
            "method": method,
            "config": config.model_dump(mode="json", exclude=NO_INFLUENCE),
            "texts": digest([texts[0], texts[1].tolist()]),
        }
        path = stage("adaptation", key, build, self.cache_root).path
        truth = {f"{split}_targets": self.targets(name, split) for split in ("valid", "test")}
        history = History(**json.loads((path / "history.json").read_text()))
        adapter = load_file(path / WEIGHTS)["adapter"]  # (C, D)
        with np.load(path / "outcome.npz") as found:
            return Outcome(**found, **truth, history=history, scores=found["features"] @ adapter.T)

    def _adapt(
        self,
        method: str,
        title: str,
        name: str,
        seed: int,
        texts: tuple[list[str], np.ndarray],
        config: AdaptationConfig,
        folder: Path,
    ) -> None:
        """Stage 1, then Stage 2; leaves what was predicted after each epoch, the last features and the history."""
        backbone = self.backbone(title)
        weight = self._text_classifier(title, name, texts, config, seed).to(device())  # (C, D)
        learner = METHODS[method](backbone, weight, config, torch.Generator().manual_seed(seed))
        pictures = {split: self._judged(title, name, split, config, seed) for split in ("valid", "test")}

        def predict(history: History) -> None:
            epoch = len(history) // history.steps_per_epoch
            found = {
                split: in_batches(backbone, learner.logits, shown).argmax(dim=1).numpy()
                for split, shown in pictures.items()
            }
            with atomic_path(folder / f"epoch{epoch:04d}.npz") as path, path.open("wb") as file:
                np.savez(file, **found)

        history = fit(
            learner,
            self._unlabelled(method, title, name, config),
            config,
            seed=seed,
            directory=folder,
            transform=partial(_views, model=backbone, config=config),
            on_epoch=predict,
        )
        said = [np.load(path) for path in sorted(folder.glob("epoch*.npz"))]
        found = {split: np.stack([epoch[split] for epoch in said]) for split in pictures}
        found["features"] = in_batches(backbone, learner.features, pictures["test"]).numpy()
        np.savez(folder / "outcome.npz", **found)
        atomic_write(folder / "history.json", json.dumps(vars(history)))

    def _unlabelled(self, method: str, title: str, name: str, config: AdaptationConfig) -> Columns:
        """The training pictures without their classes, and what the weak branch sees of them, computed once where it
        is always the same."""
        train = self.rows(name, "train")
        columns = {"image": self.images(self.samples(name))[train]}
        if method == "lafter":
            columns["clean"] = self.clean(title, name)[train]
        elif config.weak_view == "clean":
            columns["weak"] = self.features(title, name)[train]
        return Columns(columns)

    def _judged(self, title: str, name: str, split: str, config: AdaptationConfig, seed: int) -> np.ndarray:
        """The pictures of a split as they are shown to be classified, uint8 (n, S, S, 3)."""
        rows, size = self.rows(name, split), self.backbone(title).image_size
        if config.test_view == "clean":
            return self.clean(title, name)[rows]
        strong = views.apply(STRONG[config.strong_view](size), self.images(self.samples(name))[rows], seed)
        return strong.permute(0, 2, 3, 1).numpy()


def _views(
    batch: dict[str, Tensor], generator: torch.Generator, *, model: VisionLanguage, config: AdaptationConfig
) -> dict[str, Tensor]:
    """The strong view of a batch of pictures (B, S, S, 3), and the weak one unless its features are there."""
    pictures = batch["image"].cpu().numpy()
    seeds = torch.randint(2**31, (2,), generator=generator, device=generator.device).tolist()

    def seen(view: views.View, seed: int) -> Tensor:
        return model.normalize(views.apply(view, pictures, seed).to(generator.device))

    found = {"image": seen(STRONG[config.strong_view](model.image_size), seeds[0])}
    if "weak" in batch:
        return {**found, "weak": batch["weak"]}
    if "clean" in batch:
        return {**found, "weak_image": model.normalize(batch["clean"].permute(0, 3, 1, 2))}
    return {**found, "weak_image": seen(views.RotatedView(model.image_size), seeds[1])}


def _flat(texts: Sequence[Sequence[str]]) -> tuple[list[str], np.ndarray]:
    """The texts of all classes one after the other, and the class of each."""
    return [text for own in texts for text in own], np.repeat(np.arange(len(texts)), [len(own) for own in texts])
