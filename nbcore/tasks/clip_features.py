"""What a frozen vision-language model makes of pictures, computed once for all of them.

Shapes: n pictures, B batch, S side of the model's images, D width shared by image and text.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nbcore.models.clip import VisionLanguage

_BATCH = 256  # pictures a forward pass


def unit_features(model: VisionLanguage, pictures: np.ndarray) -> np.ndarray:
    """What the backbone makes of pictures uint8 (n, S, S, 3) without prompts: float32 (n, D), rows of length 1."""
    return F.normalize(in_batches(model, model.image_features, pictures), dim=1).numpy()


@torch.no_grad()
def in_batches(model: VisionLanguage, function: Callable[[Tensor], Tensor], pictures: np.ndarray) -> Tensor:
    """A function of normalised images (B, 3, S, S) of pictures uint8 (n, S, S, 3), on the CPU."""
    found, device = [], model.logit_scale.device
    for start in range(0, len(pictures), _BATCH):
        pixels = torch.from_numpy(np.array(pictures[start : start + _BATCH])).permute(0, 3, 1, 2).to(device)
        found.append(function(model.normalize(pixels)).float().cpu())
    return torch.cat(found)
