"""Test-time prompt tuning with CLIP ViT-B/32 at its size, random weights: the cached, blockwise path against one image
after another, and the views of an image in one pass against one by one."""

from collections.abc import Callable

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from nbcore.models.clip import OpenClip
from nbcore.models.prompts import ContextPrompts
from nbcore.tasks.tpt import TptConfig, predict, tpt_loss
from tests.benchmarks.timing import median_seconds

IMAGES = 4
NAMES = ["actinic keratosis", "basal cell carcinoma", "keratosis", "dermatofibroma", "melanoma", "nevus", "angioma"]


def plain(features: Tensor, prompts: ContextPrompts, context: Tensor, scale: Tensor, config: TptConfig) -> Tensor:
    """One image after another, with a text pass before the step and one after it."""
    logits = []
    for views in features:
        own = context.clone().requires_grad_()
        optimizer = torch.optim.AdamW([own], lr=config.learning_rate, weight_decay=config.weight_decay)
        tpt_loss(scale * views @ F.normalize(prompts.features(own), dim=-1).T, config.share).backward()
        optimizer.step()
        with torch.no_grad():
            logits.append(scale * views[0] @ F.normalize(prompts.features(own), dim=-1).T)
    return torch.stack(logits)


def passes(model: OpenClip, function: Callable[[], object]) -> float:
    """Passes of one set of class prompts through the text encoder, per image."""
    prompts: list[int] = []
    hook = model.model.transformer.register_forward_hook(lambda _, inputs, __: prompts.append(len(inputs[0])))
    function()
    hook.remove()
    return sum(prompts) / len(NAMES) / IMAGES


def text(model: OpenClip) -> None:
    config, context = TptConfig(), model.context()
    prompts = model.prompts(NAMES, length=len(context))
    drawn = torch.randn(IMAGES, config.views, model.width, generator=torch.Generator().manual_seed(0))
    arguments = F.normalize(drawn, dim=-1), prompts, context, model.logit_scale, config
    ours, theirs = median_seconds(lambda: predict(*arguments), 5), median_seconds(lambda: plain(*arguments), 5)
    our_passes, their_passes = passes(model, lambda: predict(*arguments)), passes(model, lambda: plain(*arguments))
    print(
        f"prompt tuning at test time, {len(NAMES)} classes, text encoder of 12 layers and width 512: "
        f"{ours / IMAGES * 1e3:.0f} ms an image ({our_passes:.2f} text passes forward, {IMAGES} images), one after "
        f"another {theirs / IMAGES * 1e3:.0f} ms ({their_passes:.2f}), ratio {theirs / ours:.1f}"
    )


@torch.no_grad()
def images(model: OpenClip) -> None:
    views = torch.randn(TptConfig().views, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    together = median_seconds(lambda: model.image_features(views), 1) / len(views)
    alone = median_seconds(lambda: model.image_features(views[:1]), 9)
    print(
        f"{len(views)} views through ViT-B/32: in one pass {together * 1e3:.0f} ms a view, one by one "
        f"{alone * 1e3:.0f} ms, ratio {alone / together:.1f}"
    )


def run() -> None:
    model = OpenClip(open_clip.get_model_config("ViT-B-32-quickgelu"))
    text(model)
    images(model)
