"""Vision-language models by name, and small ones from disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import BertTokenizer

from nbcore.errors import UsageError, UserError
from nbcore.models.biomedclip import BiomedClip, biomedclip
from nbcore.models.clip import OpenClip, VisionLanguage, clip_vit_b32
from nbcore.models.medclip import MedClip, medclip_swin
from nbcore.models.weights import load_exactly, read_state

_BUILDERS: dict[str, Callable[..., VisionLanguage]] = {
    "clip_vit_b32": clip_vit_b32,
    "medclip_swin": medclip_swin,
    "biomedclip": biomedclip,
}
_SOURCES = {
    "clip_vit_b32": "for one timm/vit_base_patch32_clip_224.openai",
    "medclip_swin": "for one the folder of MedCLIP's own zip archive",
    "biomedclip": "for one microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
}
_WITH_TOKENIZER = {model.kind: model for model in (MedClip, BiomedClip)}
BACKBONES = tuple(_BUILDERS)


def vision_language(name: str, weights: str | None = None, download: bool = False, **options: Any) -> VisionLanguage:
    """A published vision-language model, frozen and in evaluation mode.

    Args:
        name: one of `BACKBONES`.
        weights: a local file or folder, or a hub repository `owner/name[@revision]`.
        download: ask the hub when the weights are not in its cache.
        options: further arguments of `clip.clip_vit_b32`, `medclip.medclip_swin` or `biomedclip.biomedclip`.

    Raises:
        UsageError: unknown name.
        UserError: weights not given, unavailable, or with keys that do not match.
    """
    if name not in _BUILDERS:
        raise UsageError(f"vision-language model {name!r} is unknown; choose one of {', '.join(BACKBONES)}.")
    if weights is None:
        raise UserError(
            f"{name} needs its published weights: pass a local file or folder, or a hub repository "
            f"owner/name[@revision] ({_SOURCES[name]})."
        )
    return _BUILDERS[name](weights, download, **options)


def load_standin(folder: Path, **changes: Any) -> VisionLanguage:
    """A model that `VisionLanguage.save` wrote, frozen and in evaluation mode.

    Args:
        folder: that it was written to.
        changes: of its configuration that leave the weights as they are: `mean`, `std`, `prompt_layout`.

    Raises:
        UserError: the folder holds no such model, or weights that do not fit its configuration.
    """
    path = folder / "config.json"
    try:
        config = {**json.loads(path.read_text(encoding="utf-8")), **changes}
        kind = config.pop("kind")
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not the configuration of a saved vision-language model; save it again.") from error
    if kind == OpenClip.kind:
        model = OpenClip(**config)
    elif kind in _WITH_TOKENIZER:
        model = _WITH_TOKENIZER[kind](**config, tokenizer=BertTokenizer.from_pretrained(folder))
    else:
        known = ", ".join((OpenClip.kind, *_WITH_TOKENIZER))
        raise UserError(f"{path}: kind {kind!r} is none of {known}; save the model again.")
    load_exactly(model, read_state(folder), source=str(folder))
    return model
