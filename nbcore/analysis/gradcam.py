"""Grad-CAM (Selvaraju et al., ICCV 2017) of the agreement between a picture and a text.

The grad-cam library is not used: it clears and fills the parameters' gradients, leaves the network in evaluation mode,
fails on frozen layers, and takes each map's minimum off, although 0 is where nothing speaks for the text. The tests
hold these maps against the library's.

Shapes: B pictures, H side, h x w grid of the network's last map, D its channels, P width of the shared space, n maps.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbcore.models.vision import VisionEncoder


def similarity_maps(
    vision: VisionEncoder,
    project: nn.Module | Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    stage: int = 4,
) -> Tensor:
    """Where a picture speaks for the cosine of its projected embedding and a text's (Med-UniC, Fig. 5).

    ReLU(sum_d w_d A_d), w_d the spatial mean of the cosine's gradient with respect to channel d of the map A: the last
    stage of a ResNet, or an earlier one; of a ViT the patches as its last block attends to them, the last place where
    they bear on [CLS]. The official code differentiates the inner product with an un-normalised text embedding instead.

    Args:
        vision: the image encoder. It is applied in evaluation mode; its modes, gradients and hooks stay as they are.
        project: pooled features -> shared space, (B, width) -> (B, P). A module is treated like `vision`; any other
            function must see to its own mode.
        images: (B, 1, H, H) in [-1, 1].
        targets: embeddings of the texts, (B, P), or of one text for all, (P,); of any length.
        stage: of a ResNet, 1 to 4, whose map is taken; 4 is 32 times coarser than the picture.

    Returns:
        (B, H, H) in [0, 1], float32: each scaled to a maximum of 1, or all 0 where nothing speaks for the text.
    """
    captured: list[Tensor] = []

    def cut(_layer: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        torch.set_grad_enabled(True)  # ended by `no_grad` below; what comes before this layer needs no graph
        captured.append(output.detach().requires_grad_())
        return captured[0]

    modules = [vision, project] if isinstance(project, nn.Module) else [vision]
    with _evaluating(modules), torch.no_grad(), _layer(vision, stage).register_forward_hook(cut):
        embeddings = project(vision.global_features(images))  # (B, P)
        cosines = F.cosine_similarity(embeddings, targets.detach(), dim=1)  # (B)
        gradient = torch.autograd.grad(cosines.sum(), captured)[0]
    activation, gradient = (_grid(vision, each.detach().float()) for each in (captured[0], gradient))  # (B, D, h, w)
    weights = gradient.mean(dim=(2, 3), keepdim=True)  # (B, D, 1, 1)
    maps = (weights * activation).sum(dim=1, keepdim=True).relu()  # (B, 1, h, w)
    maps = F.interpolate(maps, images.shape[-2:], mode="bilinear")[:, 0]  # (B, H, H)
    peaks = maps.amax(dim=(1, 2), keepdim=True)
    return maps / peaks.where(peaks > 0, 1)


def map_agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Mean over n pictures of the Pearson correlation of two maps (n, H, H) each, in [-1, 1]; 0 for a constant map."""
    first, second = (maps.reshape(len(maps), -1).astype(np.float64) for maps in (first, second))  # (n, H H)
    varied = (np.ptp(first, axis=1) > 0) & (np.ptp(second, axis=1) > 0)
    first, second = (maps - maps.mean(axis=1, keepdims=True) for maps in (first, second))
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    products = (first * second).sum(axis=1)
    return float(np.divide(products, lengths, out=np.zeros_like(products), where=varied).mean())


def _layer(vision: VisionEncoder, stage: int) -> nn.Module:
    return vision.backbone.blocks[-1].norm1 if vision.is_transformer else getattr(vision.backbone, f"layer{stage}")


def _grid(vision: VisionEncoder, states: Tensor) -> Tensor:
    """What the layer gives as a map: (B, D, h, w), or a ViT's tokens (B, 1 + S, D) -> (B, D, h, w)."""
    if not vision.is_transformer:
        return states
    patches = states[:, vision.backbone.num_prefix_tokens :]  # (B, S, D)
    side = round(patches.shape[1] ** 0.5)
    return patches.transpose(1, 2).unflatten(2, (side, side))


@contextmanager
def _evaluating(modules: list[nn.Module]) -> Iterator[None]:
    """Modules in evaluation mode; afterwards each part is in the mode it was in, frozen BatchNorms included."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for part, training in modes:
            part.training = training
