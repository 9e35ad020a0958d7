"""Test-time prompt tuning (Shu et al., NeurIPS 2022): for each test image, one step on the context of the class prompts
towards a confident answer that its augmented views agree on.

The image encoder stays out of that step, so the views' features are computed once. All images start from one context,
too: its pass through the text encoder is run once and kept, and each image only pulls its own gradient back through it.
The tuned contexts of a block of images go through the text encoder together.

Shapes: n images, T images of a block, V views, k views kept, C classes, M context words, d word width, D shared width,
S side of a stored image.
"""

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from nbcore.data.views import tpt_views
from nbcore.models.clip import VisionLanguage
from nbcore.models.prompts import ContextPrompts


class TptConfig(BaseModel):
    """Defaults are the paper's; the context and AdamW's decay are the official code's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    views: int = Field(64, ge=1)  # the first is the image itself
    share: float = Field(0.1, gt=0, le=1)  # of the views, the most confident: 6 of 64
    augmix: bool = True  # off for ImageNet and its variants, officially
    context: str = "a photo of a"
    learning_rate: float = Field(5e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    steps: int = Field(1, ge=1)


def confident_views(logits: Tensor, share: float) -> Tensor:
    """Indices of the int(share * V) views of lowest entropy, at least one, ascending: (..., V, C) -> (..., k)."""
    log_p = F.log_softmax(logits, dim=-1)
    entropy = -(log_p.exp() * log_p).sum(dim=-1)  # (..., V)
    return entropy.argsort(dim=-1, stable=True)[..., : max(1, int(share * logits.shape[-2]))]


def marginal_entropy(logits: Tensor) -> Tensor:
    """Entropy of the views' mean probability, nats in [0, log C]: (..., V, C) -> (...)."""
    log_p = F.log_softmax(logits, dim=-1).logsumexp(dim=-2) - np.log(logits.shape[-2])  # (..., C)
    return -(log_p.exp() * log_p).sum(dim=-1)


def tpt_loss(logits: Tensor, share: float = 0.1) -> Tensor:
    """Entropy of the mean probability over the most confident views, (..., V, C) -> (...)."""
    return marginal_entropy(_rows(logits, confident_views(logits, share)))


@torch.no_grad()
def view_features(model: VisionLanguage, images: np.ndarray, config: TptConfig, seed: int) -> Tensor:
    """L2-normalised features of each image's views, a pass of all `config.views` views an image.

    Args:
        model: on its device.
        images: uint8 (n, S, S, 3), S >= `model.image_size`.
        config: says how many views, and of which kind.
        seed: of the views; those of an image depend on (seed, its index) alone.

    Returns:
        (n, V, D) on the CPU, the image itself first.
    """
    device = model.logit_scale.device
    features = []
    for index, image in enumerate(images):
        own = int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
        views = tpt_views(image, model.image_size, config.views, own, augmix=config.augmix)  # (V, 3, H, H)
        features.append(F.normalize(model.image_features(model.normalize(views.to(device))), dim=-1).cpu())
    return torch.stack(features)


def predict(
    features: Tensor,
    prompts: ContextPrompts,
    context: Tensor,
    scale: float | Tensor,
    config: TptConfig,
    block: int = 32,
) -> Tensor:
    """Logits of each image after the context was tuned on its own views.

    Args:
        features: L2-normalised, of the views, (n, V, D); the logits are those of view 0.
        prompts: of the classes.
        context: word embeddings that every image starts from, (M, d), on the text encoder's device.
        scale: of the cosines.
        config: how to tune.
        block: images whose contexts pass the text encoder together: bounds the memory, does not change the result.

    Returns:
        (n, C), on the context's device.
    """
    contexts = tuned_contexts(features, prompts, context, scale, config, block)
    logits = []
    with torch.no_grad():
        for images, own in zip(features[:, 0].to(context.device).split(block), contexts.split(block)):
            logits.append(scale * torch.einsum("td,tcd->tc", images, _classes(prompts, own)))
    return torch.cat(logits)


def tuned_contexts(
    features: Tensor,
    prompts: ContextPrompts,
    context: Tensor,
    scale: float | Tensor,
    config: TptConfig,
    block: int = 32,
) -> Tensor:
    """The context of each image after `config.steps` steps, (n, M, d); arguments as of `predict`.

    Equal to one image after another, each with an AdamW of its own: an update acts on every number by itself, so one
    optimiser holds the contexts of a block. The views that the first step keeps are those of the later ones.
    """
    with torch.enable_grad():
        start = context.detach().clone().requires_grad_()
        text = F.normalize(prompts.features(start), dim=-1)  # (C, D), the same for every image
        blocks = features.to(context.device).split(block)
        return torch.cat([_tuned(scale * views, prompts, start, text, config) for views in blocks])


def _tuned(views: Tensor, prompts: ContextPrompts, start: Tensor, text: Tensor, config: TptConfig) -> Tensor:
    """`tuned_contexts` of a block, from its scaled features (T, V, D) and the common start with its text pass."""
    contexts = start.detach().repeat(len(views), 1, 1).requires_grad_()  # (T, M, d)
    optimizer = torch.optim.AdamW([contexts], lr=config.learning_rate, weight_decay=config.weight_decay)
    kept = _rows(views, confident_views(views @ text.detach().T, config.share))  # (T, k, D)
    for step in range(config.steps):
        if step == 0:
            own = text.detach().repeat(len(views), 1, 1).requires_grad_()  # (T, C, D)
            (pull,) = torch.autograd.grad(marginal_entropy(kept @ own.mT).sum(), own)
            (contexts.grad,) = torch.autograd.grad(text, start, pull, retain_graph=True, is_grads_batched=True)
        else:
            loss = marginal_entropy(kept @ _classes(prompts, contexts).mT).sum()
            (contexts.grad,) = torch.autograd.grad(loss, contexts)
        optimizer.step()
    return contexts.detach()


def _classes(prompts: ContextPrompts, contexts: Tensor) -> Tensor:
    """Normalised class embeddings under each context, (T, M, d) -> (T, C, D)."""
    return F.normalize(prompts.features(contexts[:, None]), dim=-1)


def _rows(values: Tensor, indices: Tensor) -> Tensor:
    """The rows of (..., V, D) that `indices` (..., k) names: (..., k, D)."""
    return torch.take_along_dim(values, indices[..., None], dim=-2)
