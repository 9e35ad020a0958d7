"""What one run of a prompt-learning notebook trains and tests: few shots of a high-end modality, no image of the
low-end one.

Shapes: n pictures, C classes, D width, P descriptions of a class.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from nbcore.cache import stage
from nbcore.checkpoint import NO_INFLUENCE
from nbcore.config import TrainConfig
from nbcore.data import Samples, views
from nbcore.data.batches import Columns
from nbcore.data.descriptions import load_descriptions
from nbcore.errors import UserError
from nbcore.files import atomic_path, atomic_write, digest
from nbcore.methods import biomedcoop, cocoop, coop, kgcoop, kmat
from nbcore.methods.prompt_learning import PromptConfig, PromptLearner
from nbcore.models.clip import VisionLanguage
from nbcore.notebook_settings import PROMPT_CONFIGS, KMatSettings
from nbcore.study_backbones import StudyBackbones
from nbcore.study_base import device
from nbcore.tasks.few_shot import draw_shots, scarce
from nbcore.tasks.zero_shot import class_scores
from nbcore.train import History, fit
from nbcore.validation import checked

Key = tuple[str, str, int]  # label of the method, pair, seed
Side = Literal["high", "low"]
SIDES: tuple[Side, ...] = ("high", "low")
# What rivals take from the study unless their variant or `baselines` say otherwise; all else is their own.
LIKE_FOR_LIKE = {*TrainConfig.model_fields, "context_length", "context_init", "position", "augmentation"}


@dataclass(frozen=True)
class Prompts:
    """Class prompts, learnt or written.

    Attributes:
        texts: their features for high-end and low-end images, float32 (2, C, D), rows of length 1; None where they
            differ from image to image (CoCoOp).
        method: that learnt them, or "zero-shot".
        config: of that method; this and the rest are None where nothing was learnt.
        learner: the file of what was learnt.
        history: of the losses.
    """

    texts: Tensor | None
    method: str
    config: PromptConfig | None = None
    learner: Path | None = None
    history: History | None = None


class StudyPrompts(StudyBackbones):
    """Learns prompts on the high-end side of each pair, then, once all are learnt, tests them on both sides."""

    settings: KMatSettings
    _final_test = False  # whether low-end pictures may be read

    @property
    def title(self) -> str:
        """The backbone."""
        return next(iter(self.settings.backbones))

    def begin_final_test(self) -> None:
        """Break the seal of the low-end pictures; no prompt is learnt from here on.

        Raises:
            UserError: a low-end test picture is among the high-end ones that were learnt from.
        """
        for name, pair in self.settings.pairs.items():
            high = self.samples(pair.high)
            learnt = {high.contents[row] for seed in self.seeds for row in self.shots(name, seed)[0]}
            low = self.samples(pair.low)
            if same := learnt & set(low.split("test").contents):
                image = low.table["image"][low.contents.index(same.pop())]
                raise UserError(f"{pair.low}: {image} is among the pictures of {pair.high} that were learnt from")
        self._final_test = True

    def images(self, samples: Samples) -> np.ndarray:
        self._refuse_sealed(samples)
        return super().images(samples)

    def clean(self, title: str, name: str) -> np.ndarray:
        self._refuse_sealed(self.samples(name))
        return super().clean(title, name)

    def features(self, title: str, name: str) -> np.ndarray:
        self._refuse_sealed(self.samples(name))
        return super().features(title, name)

    def _refuse_sealed(self, samples: Samples) -> None:
        """RuntimeError for low-end pictures before the final test."""
        if not self._final_test and not self._sealed.isdisjoint(samples.image_paths()):
            raise RuntimeError(
                f"{samples.name}: low-end pictures are read in the final test, when all prompts are learnt"
            )

    @cached_property
    def _sealed(self) -> set[Path]:
        """The low-end pictures."""
        return {path for pair in self.settings.pairs.values() for path in self.samples(pair.low).image_paths()}

    # --- what is learnt from

    def shots(self, pair: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the high-end table to learn from and to validate on."""
        side = self.settings.pairs[pair].high
        parts = [np.flatnonzero(self.rows(side, split)) for split in ("train", "valid")]
        train, valid = draw_shots(*(self.targets(side)[rows] for rows in parts), self.settings.shots, seed)
        return parts[0][train], parts[1][valid]

    def scarce(self) -> list[str]:
        """A sentence on each class that has fewer training images than shots."""
        told = []
        for pair, sides in self.settings.pairs.items():
            classes = self.manifest(sides.high).classes
            for label, count in scarce(self.targets(sides.high, "train"), self.settings.shots).items():
                told.append(
                    f"{pair}: {sides.high} has {count} training images of {classes[label]}, fewer than "
                    f"{self.settings.shots} shots; all of them are learnt from."
                )
        return told

    def descriptions(self, side: str) -> dict[str, list[str]]:
        """The sentences that each class is given, as many for each."""
        found = load_descriptions(self.settings.descriptions, self.manifest(side), side.partition("/")[2])
        each = min(self.settings.descriptions_each, *map(len, found.values()))
        return {label: own[:each] for label, own in found.items()}

    def description_features(self, side: str, unit: bool = True) -> np.ndarray:
        """Features of the descriptions of each class: float32 (C, P, D)."""
        found = list(self.descriptions(side).values())
        texts = [text for own in found for text in own]
        return self.text_features(self.title, texts, unit).reshape(len(found), len(found[0]), -1)

    def prototypes(self, pair: str, unit: bool = True) -> np.ndarray:
        """The mean description of each class in both modalities, float32 (2, C, D); of unit length with `unit`."""
        means = [self.description_features(side, unit).mean(axis=1) for side in self.settings.pairs[pair].sides]
        found = torch.from_numpy(np.stack(means))
        return (F.normalize(found, dim=-1) if unit else found).numpy()

    # --- learning

    def learn(
        self, methods: Mapping[str, tuple[str, Mapping[str, Any]]], pairs: list[str] | None = None
    ) -> dict[Key, Prompts]:
        """Prompts on all pairs and seeds of methods by label: each is `prompts(method, ..., **changes)` of a (method,
        changes). RuntimeError once the final test has begun."""
        if self._final_test:
            raise RuntimeError("the final test has begun: no prompt is learnt from here on")
        todo = {
            (label, pair, seed): ((method, pair, seed), dict(changes))
            for label, (method, changes) in methods.items()
            for pair in pairs or self.settings.pairs
            for seed in self.seeds
        }
        return dict(zip(todo, self.run_all("prompts", list(todo.values()), "learning prompts")))

    def prompts(self, method: str, pair: str, seed: int, **changes: Any) -> Prompts:
        """Prompts by "zero-shot", "coop", "cocoop", "kgcoop", "biomedcoop" or "kmat"."""
        if method == "zero-shot":
            sides = self.settings.pairs[pair].sides
            written = [self.text_features(self.title, self.class_prompts(side)) for side in sides]
            return Prompts(torch.from_numpy(np.stack(written)), method)
        config = self.config(method, **changes)
        high = self.samples(self.settings.pairs[pair].high)

        def build(folder: Path) -> None:
            self._learn(method, pair, seed, config, folder)

        key = {
            "backbone": self.backbone_key(self.title),
            "data": high.fingerprint(),
            "shots": [rows.tolist() for rows in self.shots(pair, seed)],
            "resize": self.settings.resize,
            "method": method,
            "config": config.model_dump(mode="json", exclude=NO_INFLUENCE),
            "texts": self._texts_key(method, pair),
            "seed": seed,
            "threads": self.settings.threads,
        }
        folder = stage("prompts", key, build, self.cache_root).path
        history = History(**json.loads((folder / "history.json").read_text()))
        texts = load_file(folder / "texts.safetensors").get("texts")
        return Prompts(texts, method, config, folder / "learner.safetensors", history)

    def config(self, method: str = "kmat", **changes: Any) -> PromptConfig:
        """A method's configuration in this study, with changes."""
        kind, settings = PROMPT_CONFIGS[method], self.settings
        if method == "kmat":
            values = {name: getattr(settings, name) for name in kind.model_fields}
        else:
            own = settings.baselines.get(method, {})
            native = kind.VARIANTS.get(own.get("variant", "recommended"), {})
            values = {name: getattr(settings, name) for name in LIKE_FOR_LIKE - native.keys()} | own
        return checked(kind, {**values, **changes}, method)

    def learner(self, method: str, pair: str, config: PromptConfig, seed: int = 0) -> PromptLearner:
        """A learner at its start."""
        backbone, high = self.backbone(self.title), self.settings.pairs[pair].high
        generator = torch.Generator().manual_seed(seed)
        start = (backbone, self.phrases(high), config, generator)

        def tensor(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(device())

        if method == "kmat":
            modalities = tuple(map(self.modality, self.settings.pairs[pair].sides))
            return kmat.KMat(*start, tensor(self.prototypes(pair, config.normalize)), modalities)
        if method == "kgcoop":
            return kgcoop.KgCoOp(*start, tensor(self.text_features(self.title, self.class_prompts(high))))
        if method == "biomedcoop":
            return biomedcoop.BiomedCoOp(*start, tensor(self.description_features(high)))
        return {"coop": coop.CoOp, "cocoop": cocoop.CoCoOp}[method](*start)

    def _texts_key(self, method: str, pair: str) -> str:
        """A hash of all words that a method is given."""
        sides = self.settings.pairs[pair].sides
        read = {"names": self.phrases(sides[0]), "modalities": [self.modality(side) for side in sides]}
        if method == "kgcoop":
            read["prompts"] = self.class_prompts(sides[0])
        if method in ("kmat", "biomedcoop"):
            read["descriptions"] = [list(self.descriptions(side).values()) for side in sides]
        return digest(read)

    def _learn(self, method: str, pair: str, seed: int, config: PromptConfig, folder: Path) -> None:
        """Leaves what was learnt, the features of the prompts, and the history."""
        side, (rows, _) = self.settings.pairs[pair].high, self.shots(pair, seed)
        learner = self.learner(method, pair, config, seed)
        columns = {"label": self.targets(side)[rows]}
        if config.augmentation == "none":
            columns["features"] = np.array(self.features(self.title, side)[rows])
        else:
            columns["image"] = self.images(self.samples(side))[rows]
        transform = partial(_crop, learner.backbone) if "image" in columns else None
        # as the official loader has it
        few = config.model_copy(update={"batch_size": min(config.batch_size, len(rows))})
        history = fit(learner, Columns(columns), few, seed=seed, directory=folder, transform=transform)
        learnt = {name: value.cpu().contiguous() for name, value in learner.state_dict().items()}
        with atomic_path(folder / "learner.safetensors") as path:
            save_file(learnt, path)
        with atomic_path(folder / "texts.safetensors") as path:
            save_file({} if method == "cocoop" else {"texts": _sides(learner)}, path)
        atomic_write(folder / "history.json", json.dumps(vars(history)))

    # --- testing

    def scores(self, key: Key, prompts: Prompts, side: Side, rows: np.ndarray) -> np.ndarray:
        """Cosines (or logits, where prompts differ from image to image) of pictures of a side, float (n, C)."""
        pair = self.settings.pairs[key[1]]
        images = self.features(self.title, pair.side(side))[rows]
        if prompts.texts is not None:
            return class_scores(images, prompts.texts[SIDES.index(side)].numpy())
        learner = self.learner(prompts.method, key[1], prompts.config)
        learner.load_state_dict(load_file(prompts.learner))
        with torch.no_grad():
            return learner.to(device()).scores(torch.from_numpy(np.array(images)).to(device())).cpu().numpy()

    def answers(self, found: Mapping[Key, Prompts], side: Side) -> dict[Key, np.ndarray]:
        """The class that prompts give each test picture of a side, (n,)."""
        answers = {}
        for key, prompts in found.items():
            pair = self.settings.pairs[key[1]]
            rows = np.flatnonzero(self.rows(pair.side(side), "test"))
            answers[key] = self.scores(key, prompts, side, rows).argmax(axis=1)
        return answers


@torch.no_grad()
def _sides(learner: PromptLearner) -> Tensor:
    """Features of the prompts for high-end and low-end images, the same where there is one set of prompts: (2, C, D),
    rows of length 1, on the CPU."""
    texts = F.normalize(learner.text_features(), dim=-1).cpu()
    return texts.expand(2, -1, -1).contiguous() if texts.dim() == 2 else texts


def _crop(model: VisionLanguage, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """A random part of each picture (B, S, S, 3), normalised."""
    seed = int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
    seen = views.apply(views.CroppedView(model.image_size, flip=False), batch["image"].cpu().numpy(), seed)
    return {"image": model.normalize(seen.to(generator.device)), "label": batch["label"]}
