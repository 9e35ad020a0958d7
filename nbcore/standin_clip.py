"""Small vision-language models trained on the phantom's atlas, in the place of published weights.

As the published ones they do not start from nothing: first the convolutional stem that all kinds share learns to tell
the atlas's classes apart (as image encoders start from ImageNet), then picture and caption are brought together.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbcore.config import TrainConfig
from nbcore.data.batches import Columns
from nbcore.data.phantom.atlas import draw_atlas
from nbcore.errors import UsageError
from nbcore.methods.image_text import ImageClassifier, ImageText, LockedImageText
from nbcore.models.biomedclip import small_biomedclip
from nbcore.models.clip import VisionLanguage, small_clip
from nbcore.models.medclip import small_medclip
from nbcore.tasks.clip_features import unit_features
from nbcore.train import fit

# name -> what it stands for
STANDINS = {"small_clip": "clip_vit_b32", "small_medclip": "medclip_swin", "small_biomedclip": "biomedclip"}
_WITH_TOKENIZER = {"small_medclip": small_medclip, "small_biomedclip": small_biomedclip}  # learnt from the captions
_MARGIN = 8 / 7  # side of the atlas's pictures over that of the crops to learn from
_WORDS = 16  # of a caption
_BATCH = 50
_SEED = 0  # like published weights, a stand-in is one model, whatever the seed of the study


def train_standin_clip(
    name: str,
    pairs: Mapping[str, int],
    directory: Path,
    *,
    image_size: int,
    stem_epochs: int,
    epochs: int,
    threads: int,
    image_epochs: int = 0,
) -> None:
    """Train the stand-in `name` on so many pictures of each kind, and save it under `directory`.

    Picture and caption are brought together by both encoders in `epochs`; or, with `image_epochs`, the whole image
    encoder learns the classes for so many more, and in `epochs` the text encoder is tuned to what it sees then. Where
    kinds are many and their classes few, the first way leaves little of what the stem has learnt.

    Raises:
        UsageError: no such stand-in.
    """
    if name not in STANDINS:
        raise UsageError(f"there is no stand-in {name!r}: choose one of {', '.join(STANDINS)}.")
    atlas = draw_atlas(pairs, round(_MARGIN * image_size), _SEED)
    captions = [" ".join(caption.split()[:_WORDS]) for caption in atlas.captions]
    torch.manual_seed(_SEED)
    model = _WITH_TOKENIZER[name](captions, image_size) if name in _WITH_TOKENIZER else small_clip(image_size)
    view = partial(_crop, model)
    classes = Columns({"image": atlas.images, "label": atlas.labels})
    config = _config(len(captions), stem_epochs, 3e-3, threads)
    stem = StemClassifier(model.stem, int(atlas.labels.max()) + 1)
    fit(stem, classes, config, seed=_SEED, directory=directory / "stem", transform=view)
    columns = {**classes.columns, "ids": model.tokenize(captions)}
    if image_epochs:
        config = _config(len(captions), image_epochs, 1e-3, threads)
        encoder = ImageClassifier(model, int(atlas.labels.max()) + 1)
        fit(encoder, classes, config, seed=_SEED, directory=directory / "image", transform=view)
        margin = (atlas.images.shape[1] - image_size) // 2
        centre = slice(margin, margin + image_size)
        columns["features"] = unit_features(model, columns.pop("image")[:, centre, centre])
        method, view, learning_rate = LockedImageText(model), None, 2e-3
    else:
        method, learning_rate = ImageText(model), 1e-3
    data, config = OneKindBatches(columns, atlas.kinds), _config(len(captions), epochs, learning_rate, threads)
    fit(method, data, config, seed=_SEED, directory=directory / "training", transform=view)
    model.save(directory)


def _config(rows: int, epochs: int, learning_rate: float, threads: int) -> TrainConfig:
    return TrainConfig(
        epochs=epochs,
        batch_size=min(_BATCH, rows),
        learning_rate=learning_rate,
        weight_decay=0.05,
        schedule="warmup_cosine",
        warmup_fraction=0.1,
        clip_norm=1.0,
        threads=threads,
    )


class StemClassifier(nn.Module):
    """A convolutional stem, but for its last 1 x 1 convolution, under a linear classifier of its pooled features."""

    def __init__(self, stem: nn.Sequential, classes: int):
        super().__init__()
        self.stem = stem.requires_grad_(True)
        self.head = nn.Linear(stem[-1].in_channels, classes)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of `image` (B, 3, H, W), normalised, and `label` (B,)."""
        pooled = self.stem[:-1](batch["image"]).mean(dim=(2, 3))  # (B, width)
        return {"total": F.cross_entropy(self.head(pooled), batch["label"])}


class OneKindBatches(Columns):
    """Rows of which a batch holds one kind only, so that it is not enough to tell the kinds apart.

    A number stands for one row of every kind; the kind that is meant is that of the row with the first number of a
    batch. So each kind is gone through once an epoch, in expectation; a row may be met twice in one batch.
    """

    def __init__(self, columns: Mapping[str, np.ndarray | Tensor], kinds: np.ndarray):
        super().__init__(columns)
        self._kinds = kinds
        self._members = {kind: np.flatnonzero(kinds == kind) for kind in np.unique(kinds)}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        members = self._members[self._kinds[indices[0]]]
        return super().__getitems__([int(members[i * len(members) // len(self)]) for i in indices])


def _crop(model: VisionLanguage, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """One random window for the whole batch, which is mirrored every other time; normalised."""
    size = model.image_size
    room = batch["image"].shape[1] - size + 1
    drawn = torch.randint(2**31, (3,), generator=generator, device=generator.device).tolist()
    top, left = drawn[0] % room, drawn[1] % room
    window = batch["image"][:, top : top + size, left : left + size].permute(0, 3, 1, 2)  # (B, 3, H, W)
    return {**batch, "image": model.normalize(window.flip(-1) if drawn[2] % 2 else window)}
