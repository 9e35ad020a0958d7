"""The encoders of a study: those that are pre-trained, and those they are measured against, as cached stages."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from nbcore import launch
from nbcore.cache import stage
from nbcore.checkpoint import NO_INFLUENCE
from nbcore.data import Samples
from nbcore.data.batches import Columns
from nbcore.errors import UsageError, UserError
from nbcore.files import atomic_write, digest
from nbcore.methods.pairs import PairConfig, PairMethod
from nbcore.methods.registry import METHODS
from nbcore.models.vision import HUB_FILES, VisionEncoder, count_parameters, vision_encoder
from nbcore.models.weights import find_folder, load_exactly, read_state
from nbcore.profiles import read_profile
from nbcore.study_base import device
from nbcore.study_language import StudyLanguage
from nbcore.tasks.features import extract
from nbcore.train import History
from nbcore.validation import first_error, nearest

# What a comparison of methods holds fixed: a baseline takes these from the study, all else from its own profile.
LIKE_FOR_LIKE = ("vision", "image_size", "resize", "precision", "threads")


@dataclass(frozen=True)
class Encoder:
    """An image encoder to be judged: which weights, and what they depend on.

    Attributes:
        key: a hash of everything that determines the weights.
        seed: of the run it belongs to; its probes use the same one.
        method: name of the method that made it; "" for one that was not pre-trained on pairs.
        config: of that method; for others, of the method they are measured against.
        weights: file with the state of its method, ImageNet source, or None for a random initialisation.
        history: of its pre-training, if any.
        trainable: number of parameters that received a gradient.
    """

    key: str
    seed: int
    method: str
    config: PairConfig
    weights: Path | str | None = None
    history: History | None = None
    trainable: int = 0


class StudyEncoders(StudyLanguage):
    """Makes, takes up or loads the encoders of one run of a pre-training notebook."""

    def config(self, method: str | None = None, **changes: Any) -> PairConfig:
        """A method's configuration in this study, with changes; by default the notebook's own method's."""
        method = method or self.notebook
        if method not in METHODS:
            raise UsageError(f"compare: unknown method {method!r}{nearest(method, list(METHODS))}")
        own, settings = METHODS[method].config, self.settings
        if method == self.notebook:
            values = {name: getattr(settings, name) for name in own.model_fields}
        else:
            profile = read_profile(method, self.profile)
            values = {name: value for name, value in profile.items() if name in own.model_fields}
            values |= {name: getattr(settings, name) for name in LIKE_FOR_LIKE} | settings.baselines.get(method, {})
        try:
            return own(**{**values, **changes})
        except ValidationError as error:
            raise UsageError(f"{method}: {first_error(error)}") from None

    # --- pre-training

    def pretrain(self, seed: int, method: str | None = None, **changes: Any) -> Encoder:
        """Pre-train, or take up, or load the finished encoder of this seed, method and configuration."""
        method = method or self.notebook
        config = self.config(method, **changes)
        pairs = self.learnt_pairs(config)
        key = {
            "method": method,
            "config": config.model_dump(mode="json", exclude=NO_INFLUENCE),
            "data": pairs.fingerprint(),
            "language_model": self.language_key(config),
            "seed": seed,
        }
        if config.caches_text:
            self.report_embeddings(pairs.table["report"].tolist(), config)  # a stage of its own, shared by all runs
        self.images(pairs)

        def build(folder: Path) -> None:
            arguments = {
                "notebook": self.notebook,
                "profile": self.profile,
                "settings": self.settings.model_dump(mode="json"),
                "data_root": None if self.data_root is None else str(self.data_root),
                "output_root": str(self.cache_root),
                "seed": seed,
                "method": method,
                "changes": changes,
                "directory": str(folder),
            }
            trained, history = launch.train("nbcore.study:pretraining_job", arguments)
            outcome = {"history": vars(history), "trainable": count_parameters(trained)}
            atomic_write(folder / "outcome.json", json.dumps(outcome))

        path = stage("pretraining", key, build, self.cache_root).path
        outcome = json.loads((path / "outcome.json").read_text())
        history = History(**outcome["history"])
        weights = path / "weights.safetensors"
        return Encoder(digest(key), seed, method, config, weights, history, outcome["trainable"])

    def pretrain_all(self, methods: Mapping[str, tuple[str | None, dict[str, Any]]]) -> dict[str, list[Encoder]]:
        """The encoders of all seeds, by title: each is `pretrain(seed, method, **changes)` of a (method, changes)."""
        for name, changes in methods.values():  # what runs share comes first, or they would wait for each other
            config = self.config(name, **changes)
            self.language_key(config)
            self.images(self.learnt_pairs(config))
        todo = [((seed, name), changes) for name, changes in methods.values() for seed in self.seeds]
        found = iter(self.run_all("pretrain", todo, "pre-training"))
        return {title: [next(found) for _ in self.seeds] for title in methods}

    def job(self, seed: int, method: str, changes: dict[str, Any], directory: Path) -> launch.Job:
        """What `pretrain` trains: method with its seeded initial weights, data, transform."""
        config = self.config(method, **changes)
        pairs = self.learnt_pairs(config)
        columns: dict[str, np.ndarray | Tensor] = {"image": self.images(pairs)}
        reports = pairs.table["report"].tolist()
        torch.manual_seed(seed)
        if config.caches_text:
            columns["text"] = self.report_embeddings(reports, config)
            trained = self._assemble(method, config, None, columns["text"].shape[1])
        else:
            trained = self._assemble(method, config, self.text_encoder(config))
            columns |= trained.text_columns(reports)
        return launch.Job(trained, Columns(columns), config, seed, directory, trained.augment)

    def _assemble(self, method: str, config: PairConfig, text: Any, text_width: int = 0) -> PairMethod:
        vision = self._build_encoder(config, config.vision_weights)
        return METHODS[method].method(config, vision, text.width if text else text_width, text)

    # --- other encoders

    def random(self, seed: int, **changes: Any) -> Encoder:
        """A random initialisation of the study's image encoder."""
        config = self.config(**changes)
        what = [config.vision, config.image_size, config.encoder_options.get("upsample")]
        return Encoder(digest(["random", what, seed]), seed, "", config)

    def imagenet(self, seed: int, **changes: Any) -> Encoder:
        """The ImageNet weights that pre-training starts from."""
        config = self.config(**changes)
        what = [config.vision, config.image_size, config.encoder_options.get("upsample"), config.vision_weights]
        return Encoder(digest(["imagenet", what]), seed, "", config, config.vision_weights)

    @cached_property
    def has_natural(self) -> bool:
        """Whether the weights of a model of natural images and captions are at hand (Table 5 of MGCA)."""
        source = self.settings.natural
        if source is None:
            return False
        try:
            find_folder(source, files=HUB_FILES, download=self.settings.download)
        except UserError as error:
            print(error)
            return False
        return True

    def natural(self, seed: int) -> Encoder:
        """The image encoder of that model."""
        unscaled = {"upsample": None} if "upsample" in type(self.settings).model_fields else {}
        changes = {"vision": self.settings.natural_vision, **unscaled}
        return self.imagenet(seed, **changes, vision_weights=self.settings.natural)

    @property
    def transformer(self) -> dict[str, Any]:
        """What `pretrain` changes for the study's second backbone; nothing where it has none."""
        settings = self.settings
        if not settings.transformer:
            return {}
        return {"vision": settings.transformer, "vision_weights": settings.transformer_weights, "upsample": None}

    # --- the networks themselves

    def _build_encoder(self, config: PairConfig, weights: str | None) -> VisionEncoder:
        options = {"image_size": config.image_size, "download": self.settings.download, **config.encoder_options}
        return vision_encoder(config.vision, weights=weights, **options)

    def load_encoder(self, encoder: Encoder) -> VisionEncoder:
        """The image encoder, on this machine's accelerator."""
        torch.manual_seed(encoder.seed)
        if not isinstance(encoder.weights, Path):
            return self._build_encoder(encoder.config, encoder.weights).to(device())
        vision = self._build_encoder(encoder.config, None)
        state = read_state(encoder.weights)
        own = {key.removeprefix("vision."): value for key, value in state.items() if key.startswith("vision.")}
        load_exactly(vision, own, source=str(encoder.weights))
        return vision.to(device())

    def load_method(self, encoder: Encoder) -> PairMethod:
        """A pre-trained method as a whole, language model and heads included, in evaluation mode."""
        config = encoder.config
        blank = config.model_copy(update={"vision_weights": None})
        method = self._assemble(encoder.method, blank, self.text_encoder(config))
        load_exactly(method, read_state(encoder.weights), source=str(encoder.weights))
        return method.to(device()).eval()

    # --- what they make of pictures

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
